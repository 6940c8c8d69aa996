"""Automatic top-up: set, changed, stopped."""

from __future__ import annotations

from decimal import Decimal

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from apps.accounts.permissions import MemberRequest, billing_required
from apps.billing import automatic, selectors
from apps.billing.amounts import dollars
from apps.billing.forms import AutomaticForm, refuse
from apps.core.errors import PortalError


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@billing_required
def change(request: MemberRequest) -> HttpResponse:
    standing = selectors.automatic(request.organization)
    form = AutomaticForm(request.POST or None, rule=standing.rule if standing else None)
    if request.method == "POST" and form.is_valid():
        amounts = {name: Decimal(form.cleaned_data[name]) / 100 for name in ("threshold", "amount", "monthly_ceiling")}
        try:
            rule = automatic.configure(organization=request.organization, actor=request.user, **amounts)
        except PortalError as refused:
            refuse(form, refused)
        else:
            messages.success(
                request,
                gettext(
                    "Automatic top-up is on: %(amount)s whenever less than %(threshold)s is free, at most %(ceiling)s a month."
                )
                % {
                    "amount": dollars(rule.amount_cents),
                    "threshold": dollars(form.cleaned_data["threshold"]),
                    "ceiling": dollars(rule.monthly_ceiling_cents),
                },
            )
            return redirect("billing:overview")
    return render(
        request, "billing/automatic.html", {"form": form, "automatic": standing}, status=422 if form.errors else 200
    )


@require_POST
@billing_required
def stop(request: MemberRequest) -> HttpResponse:
    automatic.switch_off(organization=request.organization, actor=request.user)
    messages.success(request, gettext("Automatic top-up is off. A payment that is on its way already still arrives."))
    return redirect("billing:overview")
