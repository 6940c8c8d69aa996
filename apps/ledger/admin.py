"""The journal, to read. Credit is granted, and a balance corrected, on the organization's page: each is a new transfer."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
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
from apps.ledger.models import Account, Budget, Grant, Hold, Transfer

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
    expires_on = forms.DateField(
        label="Ends on",
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text="The first day (UTC) on which it can no longer be spent. Empty: it has no end.",
    )
    key = forms.UUIDField(widget=forms.HiddenInput, initial=uuid7)
    field_order = ["amount_usd", "expires_on", "reason"]

    def clean_expires_on(self) -> date | None:
        chosen: date | None = self.cleaned_data["expires_on"]
        if chosen and chosen <= datetime.now(UTC).date():
            raise forms.ValidationError("This day has begun already. Choose a later one, or leave it empty.")
        return chosen


class CorrectionForm(ReasonForm):
    """`key` is made when the page is shown, so that a form sent twice corrects once."""

    amount_usd = forms.DecimalField(
        label="Amount in USD",
        min_value=-LARGEST_GRANT_USD,
        max_value=LARGEST_GRANT_USD,
        max_digits=11,
        decimal_places=6,
        help_text="Added to the paid credit of each selected organization; with a minus sign, taken from what is free.",
    )
    key = forms.UUIDField(widget=forms.HiddenInput, initial=uuid7)
    field_order = ["amount_usd", "reason"]

    def clean_amount_usd(self) -> Decimal:
        amount: Decimal = self.cleaned_data["amount_usd"]
        if not amount:
            raise forms.ValidationError("Zero changes nothing. Enter the difference to correct.")
        return amount


@admin.register(Organization)
class AccountHolderAdmin(ReasonedActions[Organization], OrganizationAdmin):
    """An organization with its money: balances, the way to its rows, and the grant."""

    list_display = ["name", "public_id", "available", "held", "created_at", "closing_at"]
    list_select_related = ["account"]
    fields = [
        "name",
        "public_id",
        "created_at",
        "closing_at",
        "closed_at",
        "available",
        "held",
        "receivable",
        "rows",
        "staff_reason",
    ]
    readonly_fields = ["public_id", "created_at", "closing_at", "closed_at", "available", "held", "receivable", "rows"]
    actions = ["grant_credit", "correct_balance"]

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
            ("ledger_grant", "grants"),
            ("ledger_budget", "budgets"),
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
        ends_on = given.fields["expires_on"]
        try:
            granted = services.grant(
                organization=row,
                microusd=microusd,
                key=key,
                reason=given.reason,
                actor=f"user:{given.user.pk}",
                expires_at=datetime.combine(ends_on, time(), UTC) if ends_on else None,
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

    @reasoned(
        description="Correct the balance",
        consequence="A new transfer between the paid credit and the platform's adjustments, in force at once; no earlier "
        "transfer is changed. Another correction of the same amount with the other sign undoes it. The customer sees it "
        "among the movements.",
        form=CorrectionForm,
    )
    @transaction.atomic
    def correct_balance(self, row: Organization, given: Given) -> None:
        microusd = int(given.fields["amount_usd"] * MICROUSD_PER_USD)
        key = f"correction:{given.fields['key']}:{row.pk}"
        by = {"key": key, "reason": given.reason, "actor": f"user:{given.user.pk}"}
        try:
            if microusd > 0:
                done = services.deposit(organization=row, microusd=microusd, source="adjustments", **by)
            else:
                done = services.withdraw(organization=row, microusd=-microusd, to="adjustments", **by)
        except LookupError as error:
            raise InvalidRequest("It has no account yet: nobody has finished its welcome page.") from error
        if done:
            audit.record(
                organization=row,
                actor=given.user,
                action="balance.corrected",
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


@admin.register(Grant)
class GrantAdmin(HistoryAdmin[Grant]):
    list_display = ["created_at", "organization", "key", "amount", "remaining", "expired", "expires_at"]
    list_select_related = ["organization"]
    search_fields = ["key__exact"]
    search_help_text = "Key or org_…, exactly"
    public_ids = {"org": "organization"}
    ordering = ["-pk"]

    @admin.display(description="Amount")
    def amount(self, row: Grant) -> str:
        return numbers.money_small(row.amount_microusd)

    @admin.display(description="Left")
    def remaining(self, row: Grant) -> str:
        return numbers.money_small(row.remaining_microusd)

    @admin.display(description="Expired")
    def expired(self, row: Grant) -> str:
        return numbers.money_small(row.expired_microusd)


@admin.register(Budget)
class BudgetAdmin(ReadOnlyAdmin[Budget]):
    """Customers set their own limits, on the Limits page; staff look."""

    list_display = ["organization", "kind", "title", "daily", "monthly", "total", "day"]
    list_select_related = ["organization"]
    list_filter = ["kind"]
    search_fields = ["title"]
    search_help_text = "Key's name, member's address, or org_…"
    public_ids = {"org": "organization"}
    ordering = ["-pk"]

    @admin.display(description="Daily: used of limit")
    def daily(self, row: Budget) -> str:
        return used_of(row.daily_used_microusd, row.daily_limit_microusd)

    @admin.display(description="Monthly: used of limit")
    def monthly(self, row: Budget) -> str:
        return used_of(row.monthly_used_microusd, row.monthly_limit_microusd)

    @admin.display(description="Total: used of limit")
    def total(self, row: Budget) -> str:
        return used_of(row.total_used_microusd, row.total_limit_microusd)


def used_of(used_microusd: int, limit_microusd: int | None) -> str:
    limit = numbers.NONE if limit_microusd is None else numbers.money_small(limit_microusd)
    return f"{numbers.money_small(used_microusd)} of {limit}"
