"""The double's objects, to read; and what its banks and its clock do, so that staff can try every story by hand."""

from __future__ import annotations

import json
from collections.abc import Callable

from django.conf import settings
from django.contrib import admin
from django.db import transaction
from django.utils.html import format_html
from django.utils.safestring import SafeString

from apps.accounts import audit
from apps.accounts.readonly import HistoryAdmin
from apps.accounts.reasoned import Given, ReasonedActions, reasoned
from apps.billing.models import SandboxObject
from apps.billing.sandbox import checkout, disputes, refunds, rows, subscriptions
from apps.billing.sandbox.refusals import Refusal
from apps.core.errors import InvalidRequest

EVENTS = "The sandbox tells the portal by signed events, as Stripe would. No real money moves."


def of(kind: str, *states: str) -> Callable[[SandboxObject], bool]:
    return lambda row: row.kind == kind and row.data.get("status") in states


@admin.register(SandboxObject)
class SandboxObjectAdmin(ReasonedActions[SandboxObject], HistoryAdmin[SandboxObject]):
    list_display = ["created_at", "kind", "id", "state"]
    list_filter = ["kind"]
    search_fields = ["id__exact"]
    search_help_text = "Id, such as pi_…, exactly"
    ordering = ["-created_at"]
    fields = ["id", "kind", "created_at", "shown"]
    readonly_fields = ["shown"]
    actions = ["dispute", "win", "lose", "advance", "bounce", "arrive", "fail"]

    @admin.display(description="State")
    def state(self, row: SandboxObject) -> str:
        found = row.data.get("type") if row.kind == "event" else row.data.get("status")
        return str(found or "")

    @admin.display(description="Data")
    def shown(self, row: SandboxObject) -> SafeString:
        return format_html("<pre>{}</pre>", json.dumps(row.data, indent=2, ensure_ascii=False))

    @reasoned(
        description="Dispute this payment",
        consequence=f"The cardholder's bank takes the payment back, with a fee of $15.00. {EVENTS}",
        when=of("charge", "succeeded"),
    )
    def dispute(self, row: SandboxObject, given: Given) -> None:
        self.do(row, given, "charge", "disputed", lambda: disputes.open_for(rows.get("charge", row.pk)))

    @reasoned(
        description="Close the dispute as won",
        consequence=f"The bank gives the payment and the fee back. {EVENTS}",
        when=of("dispute", *disputes.OPEN),
    )
    def win(self, row: SandboxObject, given: Given) -> None:
        self.do(row, given, "dispute", "won", lambda: disputes.close(row.pk, won=True))

    @reasoned(
        description="Close the dispute as lost",
        consequence=f"The bank keeps the payment. {EVENTS}",
        when=of("dispute", *disputes.OPEN),
    )
    def lose(self, row: SandboxObject, given: Given) -> None:
        self.do(row, given, "dispute", "lost", lambda: disputes.close(row.pk, won=False))

    @reasoned(
        description="Begin the next period",
        consequence="The subscription's next month begins now: its invoice is charged to the test card, or the "
        f"subscription ends where that was asked for. {EVENTS}",
        when=of("subscription", *subscriptions.LIVING),
    )
    def advance(self, row: SandboxObject, given: Given) -> None:
        self.do(row, given, "subscription", "advanced", lambda: subscriptions.advance(row.pk))

    @reasoned(
        description="Send this refund back",
        consequence=f"The customer's bank could not take it: the refund fails. {EVENTS}",
        when=of("refund", "succeeded"),
    )
    def bounce(self, row: SandboxObject, given: Given) -> None:
        self.do(row, given, "refund", "failed", lambda: refunds.fail(row.pk))

    @reasoned(
        description="Let the bank debit arrive",
        consequence=f"The payment succeeds, days after it was made. {EVENTS}",
        when=of("payment_intent", "processing"),
    )
    def arrive(self, row: SandboxObject, given: Given) -> None:
        self.do(row, given, "payment", "arrived", lambda: checkout.arrive(row.pk, paid=True))

    @reasoned(
        description="Let the bank debit fail",
        consequence=f"The payment fails, days after it was made. {EVENTS}",
        when=of("payment_intent", "processing"),
    )
    def fail(self, row: SandboxObject, given: Given) -> None:
        self.do(row, given, "payment", "failed", lambda: checkout.arrive(row.pk, paid=False))

    @transaction.atomic
    def do(self, row: SandboxObject, given: Given, noun: str, verb: str, act: Callable[[], object]) -> None:
        if not settings.SANDBOX_MONEY:
            raise InvalidRequest("This portal has real money: the sandbox is closed. Nothing was changed.")
        try:
            with rows.writing():
                act()
        except Refusal as refusal:
            raise InvalidRequest(refusal.message) from refusal
        audit.record(
            organization=None,
            actor=given.user,
            action=f"sandbox_{noun}.{verb}",
            target=row.pk,
            reason=given.reason,
        )
