"""Do the ledger, jobs, batches and Stripe agree? One snapshot, no lock, and the answer is kept."""

from __future__ import annotations

import logging
from datetime import datetime
from functools import partial
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from apps.core.ids import public
from apps.ledger import auditing
from apps.ledger.models import Account, Transfer
from apps.operations import batches, clearing, usage
from apps.operations.differences import Found, Item
from apps.operations.models import Reconciliation

log = logging.getLogger(__name__)

item = partial(Item, "ledger")


def run(*, since: datetime | None = None, now: datetime | None = None) -> Reconciliation:
    """Compare, log an error where anything differs, and keep the report.

    `since` bounds jobs by their end and payments by their day at Stripe; the ledger is always checked whole. `now` is what
    pending is measured from. Stripe is asked first, so that nothing it tells is newer than the snapshot.
    """
    started_at = timezone.now()
    now = now or started_at
    found = Found()
    transactions = None
    try:
        transactions = clearing.listed(since=since)
    except clearing.Unreadable as error:
        says = "Stripe tells its balance transactions: without them nothing is proven"
        found.differs(Item("stripe", "away", "balance transactions", "", "a list", str(error), says))
    with transaction.atomic():
        if not connection.savepoint_ids:  # a test's own transaction cannot change its level
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        compare_ledger(found)
        usage.compare(found, since=since)
        batches.compare(found, since=since)
        if transactions is not None:
            clearing.compare(found, transactions, since=since, now=now)
    row = Reconciliation.objects.create(
        started_at=started_at,
        ended_at=timezone.now(),
        since=since,
        differences=found.differences,
        pending=found.pending,
        report=found.report(),
    )
    if found.differences:
        first = found.items[0]
        log.error(
            "reconciliation found differences",
            extra={
                "reconciliation": row.pk,
                "differences": found.differences,
                "first": f"{first.check}: {first.subject}",
            },
        )
    else:
        log.info("reconciled", extra={"reconciliation": row.pk, "pending": found.pending})
    return row


def compare_ledger(found: Found) -> None:
    with connection.cursor() as cursor:
        for finding in auditing.findings(cursor):
            whose = public("org", UUID(finding.organization_id)) if finding.organization_id else ""
            found.differs(item(finding.check, finding.subject, whose, finding.expected, finding.found, finding.says))
    found.checked["accounts"] = Account.objects.count()
    found.checked["transfers"] = Transfer.objects.count()
