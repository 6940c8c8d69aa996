"""The plan: what is on offer, and each change behind a page that says what it costs and when it counts."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apps.accounts.permissions import MemberRequest, billing_required
from apps.accounts.times import written
from apps.billing import plans, selectors, subscriptions
from apps.billing.models import Plan, Subscription
from apps.billing.pages.leaving import away
from apps.core.errors import PortalError


@require_safe
@never_cache
@billing_required
def index(request: MemberRequest) -> HttpResponse:
    context = {"standing": selectors.standing(request.organization), "plans": selectors.plans_on_offer()}
    return render(request, "billing/plan.html", context)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@billing_required
def choose(request: MemberRequest, code: str) -> HttpResponse:
    """Subscribe, or change to this plan, after a page that says what that means."""
    plan = Plan.objects.filter(code=code, listed=True).first()
    if plan is None:
        raise Http404
    standing = selectors.standing(request.organization)
    refused: PortalError | None = None
    if request.method == "POST":
        try:
            if standing.subscription is None:
                back = request.build_absolute_uri(reverse("billing:plan"))
                url = plans.subscribe(
                    request.organization, plan, request.user, success_url=f"{back}?paid=1", cancel_url=back
                )
                return away(url) if url else redirect("billing:plan")
            row = subscriptions.change(request.organization, plan, request.user)
        except PortalError as error:
            refused = error
        else:
            messages.success(request, changed(row))
            return redirect("billing:plan")
    paid = standing.subscription.paid_plan(timezone.now()) if standing.subscription else None
    context = {
        "plan": plan,
        "standing": standing,
        "paid": paid,
        "difference_cents": plan.price_cents - paid.price_cents if paid else 0,
        "refused": refused,
    }
    return render(request, "billing/plan_choose.html", context, status=refused.status if refused else 200)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@billing_required
def cancel(request: MemberRequest) -> HttpResponse:
    standing = selectors.standing(request.organization)
    if standing.subscription is None or standing.subscription.cancel_at_period_end:
        return redirect("billing:plan")
    refused: PortalError | None = None
    if request.method == "POST":
        try:
            row = subscriptions.cancel(request.organization, request.user)
        except PortalError as error:
            refused = error
        else:
            messages.success(
                request,
                gettext("Your plan ends on %(at)s. Until then nothing changes.")
                % {"at": written(row.period_end_at, "j M Y")},
            )
            return redirect("billing:plan")
    context = {"standing": standing, "refused": refused}
    return render(request, "billing/plan_cancel.html", context, status=refused.status if refused else 200)


@require_POST
@billing_required
def resume(request: MemberRequest) -> HttpResponse:
    try:
        row = subscriptions.resume(request.organization, request.user)
    except PortalError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, gettext("Your %(plan)s plan goes on.") % {"plan": row.plan.title})
    return redirect("billing:plan")


def changed(row: Subscription) -> str:
    if row.kept_plan and row.kept_until:
        return gettext("%(plan)s begins on %(at)s. Until then %(kept)s stays. Nothing was charged.") % {
            "plan": row.plan.title,
            "at": written(row.kept_until, "j M Y"),
            "kept": row.kept_plan.title,
        }
    return gettext("Your plan is %(plan)s. What was charged for the rest of this month is among the invoices.") % {
        "plan": row.plan.title
    }
