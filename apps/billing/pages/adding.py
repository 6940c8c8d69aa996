"""Add credit: choose an amount, pay on Stripe's page, come back and see it arrive."""

from __future__ import annotations

from decimal import Decimal

from django.conf import settings
from django.db import IntegrityError
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from apps.accounts.permissions import MemberRequest, billing_required
from apps.billing import selectors, top_ups, topics
from apps.billing.forms import AddCreditForm, refuse
from apps.billing.models import TopUp
from apps.billing.pages.leaving import away
from apps.billing.pages.overview import top_up_of
from apps.core.errors import InvalidRequest, PortalError
from apps.ledger import services as ledger
from cango_portal import database


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@billing_required
def add(request: MemberRequest) -> HttpResponse:
    form = AddCreditForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        made = TopUp.objects.filter(organization=request.organization, pk=form.cleaned_data["ticket"]).first()
        if made is not None:  # the form was sent twice
            return onward(made)
        try:
            return onward(begin(request, form))
        except PortalError as refused:
            refuse(form, refused)
    balance = ledger.balance(request.organization.pk)
    context = {
        "form": form,
        "balance": balance,
        "tax": settings.STRIPE_TAX,
        "sandbox": settings.SANDBOX_MONEY,
        "refund_days": settings.REFUND_DAYS,
        "left": selectors.top_up_of(request.organization, request.GET.get("left", "")),
    }
    return render(request, "billing/add.html", context, status=422 if form.errors else 200)


def begin(request: MemberRequest, form: AddCreditForm) -> TopUp:
    back = request.build_absolute_uri(reverse("billing:return", args=["topup"])).replace("/topup/", "/{top_up}/")
    try:
        return top_ups.start(
            organization=request.organization,
            actor=request.user,
            amount=Decimal(form.cleaned_data["cents"]) / 100,
            success_url=back,
            cancel_url=request.build_absolute_uri(reverse("billing:add")) + "?left={top_up}",
            save_card=form.cleaned_data["save_card"],
            top_up_id=form.cleaned_data["ticket"],
        )
    except IntegrityError as error:  # sent twice at the same moment, or in another organization
        made = TopUp.objects.filter(organization=request.organization, pk=form.cleaned_data["ticket"]).first()
        if made is None:
            raise InvalidRequest(
                gettext("This form was used already. Nothing was charged. Open Add credit again.")
            ) from error
        return made


def onward(top_up: TopUp) -> HttpResponse:
    """To the payment page while it is open, otherwise to what became of it."""
    if top_up.state == TopUp.State.OPEN and top_up.checkout_url:
        return away(top_up.checkout_url)
    return redirect("billing:return", top_up.public_id)


@require_safe
@never_cache
@billing_required
def pay(request: MemberRequest, public_id: str) -> HttpResponse:
    """Back to the payment page of a top-up that is open."""
    top_up = top_up_of(request, public_id)
    return away(top_up.checkout_url) if top_up.state == TopUp.State.OPEN else redirect("billing:return", public_id)


@require_safe
@never_cache
@billing_required
def returned(request: MemberRequest, public_id: str) -> HttpResponse:
    """Where the customer lands after the payment page. It promises nothing: the payment's own event gives the credit."""
    at = database.run(topics.clock())
    top_up = top_up_of(request, public_id)
    return render(request, "billing/return.html", {"top_up": top_up, "at": at, **selectors.debt_of(top_up)})
