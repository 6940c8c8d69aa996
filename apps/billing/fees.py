"""Fees that Stripe had not settled when a payment was booked: asked for again, for a week."""

from __future__ import annotations

import logging
from datetime import timedelta

import stripe
from django.db import transaction
from django.utils import timezone

from apps.billing import top_ups
from apps.billing.client import client, plain
from apps.billing.models import Invoice, TopUp

log = logging.getLogger(__name__)

ASKED_FOR = timedelta(days=7)


def read() -> None:
    since = timezone.now() - ASKED_FOR
    paid = TopUp.objects.filter(state=TopUp.State.PAID, fee_cents=0, charge_id__isnull=False, ended_at__gte=since)
    for top_up in paid.select_related("organization"):
        book(top_up, str(top_up.charge_id))
    unknown = Invoice.objects.filter(fee_cents=None, charge_id__isnull=False, issued_at__gte=since)
    for invoice in unknown.select_related("organization"):
        book(invoice, str(invoice.charge_id))


def book(row: TopUp | Invoice, charge_id: str) -> None:
    try:
        charge = plain(client().v1.charges.retrieve(charge_id, {"expand": ["balance_transaction"]}))
    except stripe.StripeError as error:
        log.warning("fee not read", extra={"charge": charge_id, "reason": type(error).__name__})
        return
    settled = charge.get("balance_transaction")
    if isinstance(settled, dict):
        with transaction.atomic():
            row.fee_cents = top_ups.book_fee(row.organization, settled)
            row.save(update_fields=["fee_cents"])
