"""The Billing page and its lists: balance, movements, payments, documents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from channels.db import database_sync_to_async
from django.conf import settings
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apps.accounts.models import Organization
from apps.accounts.permissions import MemberRequest, billing_required, may_pay, organization_required
from apps.billing import selectors
from apps.billing.models import TopUp
from apps.billing.pages.leaving import away
from apps.billing.selectors import Page
from apps.core.money import usd
from apps.core.spreadsheets import BYTE_ORDER_MARK, lines
from apps.ledger import movements, spending
from apps.ledger import services as ledger
from apps.ledger.movements import Movement

LATEST = 10
EXPORT_SIZE = 1000
COLUMNS = ["id", "at", "what", "job", "balance_change_usd", "owed_change_usd", "given_credit", "batch"]


@require_safe
@never_cache
@organization_required
def overview(request: MemberRequest) -> HttpResponse:
    """Each part is read where it is shown: what cannot be read says so, and never shows another figure."""
    organization = request.organization
    balance = cache(lambda: ledger.balance(organization.pk))
    payer = may_pay(request.membership)
    context = {
        "balance": balance,
        "pace": cache(lambda: spending.pace(organization, available_microusd=balance().available_microusd)),
        "pace_days": spending.DAYS,
        "sandbox": settings.SANDBOX_MONEY,
        "payer": payer,
    }
    if payer:
        context |= {
            "page": cache(lambda: movements.page(movements.statement_of(organization), size=LATEST)),
            "automatic": cache(lambda: selectors.automatic(organization)),
            "standing": cache(lambda: selectors.standing(organization)),
            "plans": cache(selectors.plans_on_offer),
            "paid": cache(lambda: paid(organization)),
            "invoices": cache(lambda: selectors.invoices(organization)),
            "refund_days": settings.REFUND_DAYS,
        }
    return render(request, "billing/overview.html", context)


@dataclass(frozen=True)
class Paid(Page[TopUp]):
    """Payments, and those of which something can be given back now: one reading, so that neither is shown without the other."""

    refundable: set[TopUp]


def paid(organization: Organization, *, after: str = "", size: int = selectors.SIZE) -> Paid:
    found = selectors.top_ups(organization, after=after, size=size)
    cents = selectors.may_refund(found.rows)
    return Paid(found.rows, found.older, {row for row in found.rows if cents.get(row.pk)})


@require_safe
@never_cache
@billing_required
def statement(request: MemberRequest) -> HttpResponse:
    """Every movement of the balance, or without work."""
    payments = request.GET.get("show") == "payments"
    asked = request.GET.get("before", "")
    found = movements.statement_of(request.organization, payments=payments)
    rest = movements.before(found, asked) if asked else found
    context = {
        "page": movements.page(found if rest is None else rest),
        "payments": payments,
        "before": asked if rest is not None else "",
        "zone": timezone.get_current_timezone_name(),
    }
    return render(request, "billing/statement.html", context)


@require_safe
@never_cache
@billing_required
def statement_csv(request: MemberRequest) -> StreamingHttpResponse:
    payments = request.GET.get("show") == "payments"
    response = StreamingHttpResponse(exported(request.organization, payments), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="movements-{timezone.now():%Y-%m-%d}.csv"'
    return response


async def exported(organization: Organization, payments: bool) -> AsyncIterator[str]:
    """Exact to the micro-dollar, UTC, a page at a time."""
    yield BYTE_ORDER_MARK + lines([COLUMNS])
    before = ""
    while True:
        found = await database_sync_to_async(exported_page)(organization, payments, before)
        yield lines(record(row) for row in found.movements)
        before = found.older
        if not before:
            return


def exported_page(organization: Organization, payments: bool, before: str) -> movements.Page:
    found = movements.statement_of(organization, payments=payments)
    rest = movements.before(found, before) if before else found
    return movements.page(found.none() if rest is None else rest, size=EXPORT_SIZE)


def record(row: Movement) -> list[Any]:
    return [
        row.public_id,
        row.transfer.at.isoformat(),
        row.text,
        row.job,
        usd(row.microusd),
        usd(row.owed_microusd),
        "yes" if row.promotional else "",
        row.batch,
    ]


@require_safe
@never_cache
@billing_required
def payments(request: MemberRequest) -> HttpResponse:
    after = request.GET.get("after", "")
    found = paid(request.organization, after=after, size=movements.SIZE)
    context = {"paid": found, "after": after, "refund_days": settings.REFUND_DAYS}
    return render(request, "billing/payments.html", context)


@require_safe
@never_cache
@billing_required
def invoices(request: MemberRequest) -> HttpResponse:
    after = request.GET.get("after", "")
    found = selectors.invoices(request.organization, after=after, size=movements.SIZE)
    return render(request, "billing/invoices.html", {"invoices": found, "after": after})


@require_safe
@never_cache
@billing_required
def invoice(request: MemberRequest, key: str, form: str = "") -> HttpResponse:
    """To Stripe's own page of a document, or its PDF."""
    found = selectors.invoice_of(request.organization, key)
    if found is None:
        raise Http404
    return away(found.pdf_url if form else found.hosted_url)


@require_safe
@never_cache
@billing_required
def receipt(request: MemberRequest, public_id: str) -> HttpResponse:
    return away(top_up_of(request, public_id).receipt_url)


def top_up_of(request: MemberRequest, public_id: str) -> TopUp:
    found = selectors.top_up_of(request.organization, public_id)
    if found is None:
        raise Http404
    return found
