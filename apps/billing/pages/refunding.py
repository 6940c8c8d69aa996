"""Unused credit back to the card: what returns, tax included, before anything moves."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.db import IntegrityError
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from apps.accounts import tickets
from apps.accounts.permissions import MemberRequest, billing_required
from apps.billing import refunds
from apps.billing.amounts import dollars
from apps.billing.forms import RefundForm, refuse
from apps.billing.models import Refund, TopUp
from apps.billing.pages.overview import top_up_of
from apps.core.errors import InvalidRequest, PortalError


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@billing_required
def refund(request: MemberRequest, public_id: str) -> HttpResponse:
    top_up = top_up_of(request, public_id)
    most = refunds.refundable_cents(top_up)
    form = RefundForm(request.POST or None, most_cents=most)
    if request.method == "POST":
        ticket = tickets.read("refund", request.POST.get("ticket", ""))
        sent = Refund.objects.filter(top_up=top_up, pk=ticket).first()
        if sent is not None:  # the form was sent twice
            return told(request, sent)
        if form.is_valid():
            try:
                return told(request, begin(request, top_up, form.cleaned_data["amount"], ticket))
            except PortalError as refused:
                refuse(form, refused)
    left, tax_left = refunds.remaining(top_up)
    context = {
        "top_up": top_up,
        "form": form,
        "most_cents": most,
        "tax_cents": tax_left if most == left else min(top_up.tax_cents * most // top_up.amount_cents, tax_left),
        "refund_days": settings.REFUND_DAYS,
    }
    return render(request, "billing/refund.html", context, status=422 if form.errors else 200)


def begin(request: MemberRequest, top_up: TopUp, cents: int, ticket: UUID) -> Refund:
    try:
        return refunds.request(
            top_up=top_up,
            amount=Decimal(cents) / 100,
            actor=request.user,
            reason="Asked for on the Billing page",
            refund_id=ticket,
        )
    except IntegrityError as error:  # sent twice at the same moment, or on another payment's page
        made = Refund.objects.filter(top_up=top_up, pk=ticket).first()
        if made is None:
            raise InvalidRequest(
                gettext("This form was used for another payment. Nothing was moved. Open the page again.")
            ) from error
        return made


def told(request: MemberRequest, row: Refund) -> HttpResponse:
    """Say where the refund stands, on the page with the list."""
    if row.state == Refund.State.FAILED:
        said = gettext("The refund failed and the credit is back in your balance. %(failure)s")
        messages.error(request, said % {"failure": gettext(row.failure)})
    else:
        messages.success(
            request,
            gettext("%(amount)s is on its way back to the card. Banks take up to ten days to show it.")
            % {"amount": dollars(row.total_cents)},
        )
    return redirect("billing:overview")
