"""Money's rows, to read. Staff replay an event and refund a payment, each with a reason; plans are edited with one."""

from __future__ import annotations

import json
from decimal import Decimal

from django import forms
from django.contrib import admin
from django.utils.html import format_html
from django.utils.safestring import SafeString

from apps.accounts.readonly import HistoryAdmin, ReadOnlyAdmin, ReadOnlyInline
from apps.accounts.reasoned import Given, ReasonedActions, ReasonForm, reasoned
from apps.billing import inbox, plan_admin, refunds  # noqa: F401 - plan_admin registers its pages
from apps.billing.amounts import dollars
from apps.billing.models import (
    AutomaticTopUp,
    Company,
    Customer,
    Dispute,
    Event,
    Invoice,
    Refund,
    TopUp,
)
from apps.billing.sandbox import admin as sandbox_admin  # noqa: F401 - registers its page
from apps.core import numbers

ORGANIZATION = {"org": "organization"}


@admin.register(Customer)
class CustomerAdmin(ReadOnlyAdmin[Customer]):
    list_display = ["organization", "stripe_id", "email", "country", "created_at"]
    list_select_related = ["organization"]
    search_fields = ["stripe_id__exact", "email__exact", "organization__name"]
    search_help_text = "cus_…, e-mail address, organization or org_…"
    public_ids = ORGANIZATION
    ordering = ["-created_at"]


@admin.register(Company)
class CompanyAdmin(ReadOnlyAdmin[Company]):
    list_display = ["organization", "country", "tax_id", "created_at"]
    list_select_related = ["organization"]
    search_fields = ["tax_id__exact", "organization__name"]
    search_help_text = "tax id, organization or org_…"
    public_ids = ORGANIZATION
    ordering = ["-created_at"]


@admin.register(Invoice)
class InvoiceAdmin(HistoryAdmin[Invoice]):
    list_display = ["issued_at", "organization", "number", "state", "total", "stripe_id"]
    list_select_related = ["organization"]
    list_filter = ["state"]
    search_fields = ["stripe_id__exact", "number__exact"]
    search_help_text = "in_…, number or org_…, exactly"
    public_ids = ORGANIZATION
    ordering = ["-issued_at"]

    @admin.display(description="Total")
    def total(self, row: Invoice) -> str:
        return dollars(row.total_cents)


class RefundForm(ReasonForm):
    amount_usd = forms.DecimalField(
        label="Credit to refund, in USD",
        min_value=Decimal("0.01"),
        max_digits=11,
        decimal_places=2,
        help_text="Unused credit of this payment. Its share of the tax is added.",
    )
    field_order = ["amount_usd", "reason"]


class RefundInline(ReadOnlyInline):
    model = Refund
    fields = ["created_at", "state", "amount_cents", "tax_cents", "stripe_id", "reason", "actor", "failure"]


@admin.register(TopUp)
class TopUpAdmin(ReasonedActions[TopUp], HistoryAdmin[TopUp]):
    list_display = ["created_at", "organization", "public_id", "source", "state", "amount", "tax", "payment_intent_id"]
    list_select_related = ["organization"]
    list_filter = ["state", "source"]
    search_fields = ["payment_intent_id__exact", "charge_id__exact", "checkout_session_id__exact"]
    search_help_text = "pi_…, ch_…, cs_…, topup_… or org_…, exactly"
    public_ids = {"org": "organization", "topup": "pk"}
    ordering = ["-pk"]
    inlines = [RefundInline]
    actions = ["refund"]

    @admin.display(description="Amount")
    def amount(self, row: TopUp) -> str:
        return dollars(row.amount_cents)

    @admin.display(description="Tax")
    def tax(self, row: TopUp) -> str:
        return dollars(row.tax_cents)

    @reasoned(
        description="Refund unused credit",
        consequence="The credit leaves the balance at once and goes back to the card, with its share of the tax. The "
        "window for customers does not bind staff; credit that was spent cannot be refunded here.",
        form=RefundForm,
        when=lambda row: row.state == TopUp.State.PAID,
    )
    def refund(self, row: TopUp, given: Given) -> None:
        refunds.request(
            top_up=row, amount=given.fields["amount_usd"], actor=given.user, reason=given.reason, staff=True
        )


@admin.register(AutomaticTopUp)
class AutomaticTopUpAdmin(ReadOnlyAdmin[AutomaticTopUp]):
    list_display = ["organization", "enabled", "threshold", "amount", "failures", "next_try_at", "stopped_reason"]
    list_select_related = ["organization"]
    list_filter = ["enabled"]
    search_fields = ["organization__name"]
    public_ids = ORGANIZATION
    ordering = ["-updated_at"]

    @admin.display(description="Below")
    def threshold(self, row: AutomaticTopUp) -> str:
        return numbers.money(row.threshold_microusd)

    @admin.display(description="Amount")
    def amount(self, row: AutomaticTopUp) -> str:
        return dollars(row.amount_cents)


@admin.register(Refund)
class RefundAdmin(HistoryAdmin[Refund]):
    list_display = ["created_at", "organization", "top_up", "state", "amount", "tax", "stripe_id", "actor"]
    list_select_related = ["organization", "top_up", "actor"]
    list_filter = ["state"]
    search_fields = ["stripe_id__exact"]
    search_help_text = "re_… or org_…, exactly"
    public_ids = ORGANIZATION
    ordering = ["-pk"]

    @admin.display(description="Credit")
    def amount(self, row: Refund) -> str:
        return dollars(row.amount_cents)

    @admin.display(description="Tax")
    def tax(self, row: Refund) -> str:
        return dollars(row.tax_cents)


@admin.register(Dispute)
class DisputeAdmin(HistoryAdmin[Dispute]):
    list_display = ["created_at", "organization", "stripe_id", "state", "amount", "reason", "closed_at"]
    list_select_related = ["organization"]
    list_filter = ["state"]
    search_fields = ["stripe_id__exact"]
    search_help_text = "du_… or org_…, exactly"
    public_ids = ORGANIZATION
    ordering = ["-pk"]

    @admin.display(description="Amount")
    def amount(self, row: Dispute) -> str:
        return dollars(row.amount_cents)


@admin.register(Event)
class EventAdmin(ReasonedActions[Event], HistoryAdmin[Event]):
    list_display = ["received_at", "type", "stripe_id", "state", "attempts", "next_try_at", "error"]
    list_filter = ["state", "type"]
    search_fields = ["stripe_id__exact"]
    search_help_text = "evt_…, exactly"
    ordering = ["-received_at"]
    fields = [
        "stripe_id",
        "type",
        "state",
        "error",
        "attempts",
        "happened_at",
        "received_at",
        "next_try_at",
        "handled_at",
        "shown",
    ]
    readonly_fields = ["shown"]
    actions = ["replay"]

    @admin.display(description="Payload")
    def shown(self, row: Event) -> SafeString:
        return format_html("<pre>{}</pre>", json.dumps(row.payload, indent=2, ensure_ascii=False))

    @reasoned(
        description="Replay",
        consequence="The event waits again and is handled within the minute, from what Stripe says then. What was booked "
        "is not booked twice.",
        when=lambda row: row.state != Event.State.HANDLED,
    )
    def replay(self, row: Event, given: Given) -> None:
        inbox.replay(event=row, actor=given.user, reason=given.reason)
