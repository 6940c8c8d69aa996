"""Pages of API keys. A secret is on one page once: the answer to the form that made it."""

from dataclasses import dataclass
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.db.models import F
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from apps.accounts.models import Membership
from apps.accounts.permissions import PAYERS_ONLY, MemberRequest, may_pay, organization_required
from apps.catalog import offers
from apps.keys import services
from apps.keys.forms import KeyForm
from apps.keys.models import APIKey
from apps.ledger import limits
from apps.ledger.forms import LimitsForm
from apps.ledger.limits import Spent
from cango_portal import database


@dataclass(frozen=True, slots=True)
class Line:
    """A key in the list. `spent` are its windows that have a limit."""

    key: APIKey
    revocable: bool
    spent: list[Spent]


def limits_of(key: APIKey) -> list[Spent]:
    if key.budget is None or key.revoked_at is not None:
        return []
    return [each for each in limits.spent(key.budget, timezone.now()) if each.window.limit_microusd is not None]


@require_safe
@organization_required
def index(request: MemberRequest) -> HttpResponse:
    keys = (
        APIKey.objects.filter(organization=request.organization)
        .select_related("created_by", "budget")
        .order_by(F("revoked_at").desc(nulls_first=True), "-created_at")
    )
    return render(
        request,
        "keys/index.html",
        {"rows": [Line(key, key.revoked_at is None and may_revoke(request, key), limits_of(key)) for key in keys]},
    )


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@organization_required
def new(request: MemberRequest) -> HttpResponse:
    form = KeyForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        key_id = form.cleaned_data["ticket"]
        try:
            key, secret = issued(request, form)
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


@transaction.atomic
def issued(request: MemberRequest, form: KeyForm) -> tuple[APIKey, str]:
    """The key with its limits, or neither."""
    key, secret = services.issue(
        organization=request.organization,
        name=form.cleaned_data["name"],
        user=request.user,
        key_id=form.cleaned_data["ticket"],
    )
    if key.budget:
        limits.change(budget=key.budget, actor=request.user, limits=form.limits)
    return key, secret


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@organization_required
def detail(request: MemberRequest, pk: UUID) -> HttpResponse:
    """One key: who made it, what it spent of its limits. Those who pay change the limits."""
    key = get_object_or_404(
        APIKey.objects.select_related("created_by", "budget"), pk=pk, organization=request.organization
    )
    payer = may_pay(request.membership)
    if request.method == "POST" and not payer:
        raise PermissionDenied(PAYERS_ONLY)
    form = LimitsForm(request.POST or None, budget=key.budget) if key.budget and key.revoked_at is None else None
    if request.method == "POST":
        if form is None or key.budget is None:
            return redirect("keys:detail", key.pk)
        if form.is_valid():
            limits.change(budget=key.budget, actor=request.user, limits=form.limits)
            messages.success(request, f"The limits of “{key.name}” are in force for the next request.")
            return redirect("keys:detail", key.pk)
    context = {
        "key": key,
        "form": form if payer else None,
        "spent": limits.spent(key.budget, timezone.now()) if key.budget else [],
        "payer": payer,
        "revocable": key.revoked_at is None and may_revoke(request, key),
    }
    return render(request, "keys/detail.html", context, status=422 if form and form.errors else 200)


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
