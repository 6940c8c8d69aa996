"""Limits: what the organization, each member and each key may spend, and what they have spent of it."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import F
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from apps.accounts import audit
from apps.accounts.models import Membership
from apps.accounts.permissions import MemberRequest, billing_required, may_pay, organization_required
from apps.billing.forms import WarningsForm
from apps.billing.models import AlertSettings
from apps.core.money import MICROUSD_PER_CENT
from apps.keys.models import APIKey
from apps.ledger import budgets, limits
from apps.ledger.forms import LimitsForm, written
from apps.ledger.limits import Spent
from apps.ledger.models import Budget

SIZE = 40


@dataclass(frozen=True, slots=True)
class Spender:
    """One line: whose budget, its windows, and where it is changed."""

    name: str
    note: str
    spent: list[Spent]
    url: str

    @property
    def limited(self) -> list[Spent]:
        return [each for each in self.spent if each.window.limit_microusd is not None]


@require_safe
@never_cache
@organization_required
def index(request: MemberRequest) -> HttpResponse:
    organization, now = request.organization, timezone.now()
    members = {budget.user_id: budget for budget in Budget.objects.filter(organization=organization, kind="member")}
    rows = Membership.objects.filter(organization=organization).select_related("user").order_by("user__email")
    keys = (
        APIKey.objects.active()
        .filter(organization=organization, budget__isnull=False)
        .select_related("budget", "created_by")
        .order_by(F("last_used_at").desc(nulls_last=True), "name", "pk")
    )
    page_of_members = Paginator(rows, SIZE).get_page(request.GET.get("members"))
    page_of_keys = Paginator(keys, SIZE).get_page(request.GET.get("keys"))
    context = {
        "page_of_members": page_of_members,
        "page_of_keys": page_of_keys,
        "organization_spent": limits.spent(budgets.budget_of_organization(organization), now),
        "members": [
            Spender(
                row.user.name or row.user.email,
                str(row.get_role_display()),
                limits.spent(members[row.user_id], now) if row.user_id in members else [],
                reverse("billing:member_limits", args=[row.user_id]),
            )
            for row in page_of_members
        ],
        "keys": [
            Spender(key.name, f"{key.prefix}…", limits.spent(key.budget, now), reverse("keys:detail", args=[key.pk]))
            for key in page_of_keys
            if key.budget
        ],
        "payer": may_pay(request.membership),
        "warnings": warnings_of(request),
    }
    return render(request, "billing/limits.html", context)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@billing_required
def of_organization(request: MemberRequest) -> HttpResponse:
    return changed(request, budgets.budget_of_organization(request.organization), request.organization.name)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@billing_required
def of_member(request: MemberRequest, user_id: int) -> HttpResponse:
    row = Membership.objects.filter(organization=request.organization, user=user_id).select_related("user").first()
    if row is None:
        raise Http404
    return changed(request, budgets.budget_of_member(request.organization, row.user), row.user.name or row.user.email)


def changed(request: MemberRequest, budget: Budget, name: str) -> HttpResponse:
    form = LimitsForm(request.POST or None, budget=budget)
    if request.method == "POST" and form.is_valid():
        limits.change(budget=budget, actor=request.user, limits=form.limits)
        messages.success(request, gettext("The limits of %(name)s are in force for the next request.") % {"name": name})
        return redirect("billing:limits")
    context = {"form": form, "budget": budget, "name": name, "spent": limits.spent(budget, timezone.now())}
    return render(request, "billing/limits_change.html", context, status=422 if form.errors else 200)


def warnings_of(request: MemberRequest) -> AlertSettings:
    found = AlertSettings.objects.filter(organization=request.organization).first()
    return found or AlertSettings(organization=request.organization)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@billing_required
def warnings(request: MemberRequest) -> HttpResponse:
    """When the balance is low, and whether mails are sent beside webhooks."""
    has = warnings_of(request)
    initial = {"low_balance": written(has.low_balance_microusd // MICROUSD_PER_CENT), "mail_enabled": has.mail_enabled}
    form = WarningsForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        low = (form.cleaned_data["low_balance"] or 0) * MICROUSD_PER_CENT
        mail = form.cleaned_data["mail_enabled"]
        AlertSettings.objects.update_or_create(
            organization=request.organization, defaults={"low_balance_microusd": low, "mail_enabled": mail}
        )
        audit.record(
            organization=request.organization,
            actor=request.user,
            action="warnings.changed",
            target=request.organization.public_id,
            data={"low_balance_microusd": low, "mail_enabled": mail},
        )
        messages.success(request, gettext("The warnings are set."))
        return redirect("billing:limits")
    return render(request, "billing/warnings.html", {"form": form}, status=422 if form.errors else 200)
