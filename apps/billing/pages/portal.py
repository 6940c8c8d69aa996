"""Card, addresses and invoices are kept at Stripe: this page says so and leaves for Stripe's."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from apps.accounts.permissions import MemberRequest, billing_required
from apps.billing import portals
from apps.billing.models import Customer
from apps.billing.pages.leaving import away
from apps.core.errors import PortalError


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@billing_required
def portal(request: MemberRequest) -> HttpResponse:
    refused: PortalError | None = None
    if request.method == "POST":
        back = request.build_absolute_uri(reverse("billing:overview"))
        try:
            return away(portals.url(organization=request.organization, actor=request.user, return_url=back))
        except PortalError as error:
            refused = error
    context = {
        "customer": Customer.objects.filter(organization=request.organization).first(),
        "sandbox": settings.SANDBOX_MONEY,
        "refused": refused,
    }
    return render(request, "billing/portal.html", context, status=refused.status if refused else 200)
