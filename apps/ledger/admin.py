"""The journal, to read. Credit is granted on the organization's page; a correction is a new transfer."""

from __future__ import annotations

from decimal import Decimal

from django import forms
from django.contrib import admin
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from apps.accounts import audit
from apps.accounts.admin import OrganizationAdmin
from apps.accounts.models import Organization
from apps.accounts.readonly import HistoryAdmin, ReadOnlyAdmin
from apps.accounts.reasoned import Given, ReasonedActions, ReasonForm, reasoned
from apps.core import numbers
from apps.core.errors import InvalidRequest
from apps.core.ids import uuid7
from apps.core.money import MICROUSD_PER_USD
from apps.ledger import services
from apps.ledger.models import Account, Hold, Transfer

LARGEST_GRANT_USD = 10_000


class GrantForm(ReasonForm):
    """`key` is made when the page is shown, so that a form sent twice grants once."""

    amount_usd = forms.DecimalField(
        label="Amount in USD",
        min_value=Decimal("0.01"),
        max_value=LARGEST_GRANT_USD,
        max_digits=11,
        decimal_places=6,
        help_text="Promotional credit for each selected organization. It is spent before paid credit.",
    )
    key = forms.UUIDField(widget=forms.HiddenInput, initial=uuid7)
    field_order = ["amount_usd", "reason"]


@admin.register(Organization)
class AccountHolderAdmin(ReasonedActions[Organization], OrganizationAdmin):
    """An organization with its money: balances, the way to its rows, and the grant."""

    list_display = ["name", "public_id", "available", "held", "created_at"]
    list_select_related = ["account"]
    fields = ["name", "public_id", "created_at", "available", "held", "receivable", "rows", "staff_reason"]
    readonly_fields = ["public_id", "created_at", "available", "held", "receivable", "rows"]
    actions = ["grant_credit"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Organization]:
        return super().get_queryset(request).select_related("account")

    @admin.display(description="Available")
    def available(self, row: Organization) -> str:
        account = account_of(row)
        return numbers.money_small(account.available_microusd) if account else numbers.NONE

    @admin.display(description="Held")
    def held(self, row: Organization) -> str:
        account = account_of(row)
        return numbers.money_small(account.held_microusd) if account else numbers.NONE

    @admin.display(description="Receivable")
    def receivable(self, row: Organization) -> str:
        account = account_of(row)
        return numbers.money_small(account.receivable_microusd) if account else numbers.NONE

    @admin.display(description="See its")
    def rows(self, row: Organization) -> SafeString:
        lists = [
            ("ledger_transfer", "transfers"),
            ("ledger_hold", "holds"),
            ("jobs_job", "jobs"),
            ("keys_apikey", "API keys"),
            ("files_file", "files"),
            ("accounts_auditevent", "audit events"),
        ]
        return format_html_join(
            " · ",
            '<a href="{}?organization__id__exact={}">{}</a>',
            ((reverse(f"admin:{name}_changelist"), row.pk, title) for name, title in lists),
        )

    @reasoned(
        description="Grant credit",
        consequence="The credit is there at once and cannot be taken back here. The grant is in the journal (transfers); "
        "the customer sees the new balance.",
        form=GrantForm,
    )
    @transaction.atomic
    def grant_credit(self, row: Organization, given: Given) -> None:
        microusd = int(given.fields["amount_usd"] * MICROUSD_PER_USD)
        key = f"grant:{given.fields['key']}:{row.pk}"
        try:
            granted = services.grant(
                organization=row, microusd=microusd, key=key, reason=given.reason, actor=f"user:{given.user.pk}"
            )
        except LookupError as error:
            raise InvalidRequest("It has no account yet: nobody has finished its welcome page.") from error
        if granted:  # not where this form was sent before
            audit.record(
                organization=row,
                actor=given.user,
                action="credit.granted",
                target=key,
                reason=given.reason,
                data={"amount_microusd": microusd},
            )


def account_of(row: Organization) -> Account | None:
    return getattr(row, "account", None)


@admin.register(Account)
class AccountAdmin(ReadOnlyAdmin[Account]):
    list_display = ["organization", "promotional", "credit", "held", "receivable"]
    list_select_related = ["organization"]
    search_fields = ["organization__name"]
    search_help_text = "Organization or org_…"
    public_ids = {"org": "organization"}
    ordering = ["-pk"]

    @admin.display(description="Promotional", ordering="promotional_microusd")
    def promotional(self, row: Account) -> str:
        return numbers.money_small(row.promotional_microusd)

    @admin.display(description="Paid", ordering="credit_microusd")
    def credit(self, row: Account) -> str:
        return numbers.money_small(row.credit_microusd)

    @admin.display(description="Held", ordering="held_microusd")
    def held(self, row: Account) -> str:
        return numbers.money_small(row.held_microusd)

    @admin.display(description="Receivable", ordering="receivable_microusd")
    def receivable(self, row: Account) -> str:
        return numbers.money_small(row.receivable_microusd)


@admin.register(Transfer)
class TransferAdmin(HistoryAdmin[Transfer]):
    """Operators read the journal; a correction is a new transfer made by an action, with a reason."""

    list_display = ["at", "organization", "debit", "credit", "amount", "key", "reason"]
    list_select_related = ["organization"]
    list_filter = ["debit", "credit"]
    search_fields = ["key__exact"]
    search_help_text = "Key or org_…, exactly"
    public_ids = {"org": "organization"}
    ordering = ["-at"]

    @admin.display(description="Amount")
    def amount(self, row: Transfer) -> str:
        return numbers.money_small(row.amount_microusd)


@admin.register(Hold)
class HoldAdmin(HistoryAdmin[Hold]):
    list_display = ["created_at", "organization", "key", "state", "amount", "charged", "ended_at"]
    list_select_related = ["organization"]
    list_filter = ["state"]
    search_fields = ["key__exact"]
    search_help_text = "Key or org_…, exactly"
    public_ids = {"org": "organization"}
    ordering = ["-pk"]
    readonly_fields = ["transfers"]

    @admin.display(description="Amount")
    def amount(self, row: Hold) -> str:
        return numbers.money_small(row.amount_microusd)

    @admin.display(description="Charged")
    def charged(self, row: Hold) -> str:
        return numbers.money_small(row.charged_microusd)

    @admin.display(description="Transfers")
    def transfers(self, row: Hold) -> SafeString:
        url = reverse("admin:ledger_transfer_changelist")
        return format_html('<a href="{}?hold__id__exact={}">its steps in the journal</a>', url, row.pk)
