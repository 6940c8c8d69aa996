"""Pages of API keys. A secret is on one page once: the answer to the form that made it."""

from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.db import IntegrityError
from django.db.models import F
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from apps.accounts.models import Membership
from apps.accounts.permissions import MemberRequest, organization_required
from apps.catalog import offers
from apps.keys import services
from apps.keys.forms import KeyForm
from apps.keys.models import APIKey
from cango_portal import database


@require_safe
@organization_required
def index(request: MemberRequest) -> HttpResponse:
    keys = (
        APIKey.objects.filter(organization=request.organization)
        .select_related("created_by")
        .order_by(F("revoked_at").desc(nulls_first=True), "-created_at")
    )
    return render(
        request,
        "keys/index.html",
        {"rows": [(key, key.revoked_at is None and may_revoke(request, key)) for key in keys]},
    )


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@organization_required
def new(request: MemberRequest) -> HttpResponse:
    form = KeyForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        key_id = form.cleaned_data["ticket"]
        try:
            key, secret = services.issue(
                organization=request.organization, name=form.cleaned_data["name"], user=request.user, key_id=key_id
            )
        except IntegrityError:  # the form was sent twice
            made = get_object_or_404(APIKey, pk=key_id, organization=request.organization)
            return render(request, "keys/made.html", {"key": made})
        chat = next((offer for offer in database.run(offers.offers()) if offer.kind == "chat"), None)
        return render(
            request,
            "keys/created.html",
            {"key": key, "secret": secret, "offer": chat},
        )
    return render(request, "keys/new.html", {"form": form}, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@organization_required
def revoke(request: MemberRequest, pk: UUID) -> HttpResponse:
    key = get_object_or_404(APIKey.objects.select_related("created_by"), pk=pk, organization=request.organization)
    if not may_revoke(request, key):
        raise PermissionDenied(
            "This key was created by someone else in your organization. Its creator and the owners may revoke it."
        )
    if key.revoked_at is not None:
        return redirect("keys:index")
    if request.method == "POST":
        services.revoke(key=key, user=request.user, reason="revoked on the keys page")
        return redirect("keys:index")
    return render(request, "keys/revoke.html", {"key": key})


def may_revoke(request: MemberRequest, key: APIKey) -> bool:
    """Owners any key, developers those they created."""
    return request.membership.role == Membership.Role.OWNER or key.created_by_id == request.user.pk
