"""Double-entry credit in integer micro-USD: accounts, grants, budgets, holds, transfers."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Q
from django.db.models.functions import Least
from django.db.models.lookups import Exact, GreaterThanOrEqual, IsNull
from django.utils.translation import gettext_lazy

from apps.accounts.models import Organization, User
from apps.core.ids import uuid7


class AmountField(models.BigIntegerField):  # type: ignore[type-arg]
    """Micro-USD that are never below zero: a domain with that check, which PostgreSQL reads once for each connection.

    The check of a table it reads anew for each statement that writes the table, here while others wait for the row.
    """

    domain = "ledger_amount"

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return self.domain

    def get_internal_type(self) -> str:
        return "BigIntegerField"


class Account(models.Model):
    """One organization's four balances. Only the statements of this app write them.

    A balance is a column that cannot be negative, never a sum read before writing. The platform's own accounts (revenue,
    clearing, …) are names in the journal without a row, so customers' settlements never queue on one row.
    """

    organization = models.OneToOneField(Organization, models.PROTECT, related_name="account")
    credit_microusd = AmountField(default=0)
    promotional_microusd = AmountField(default=0)
    held_microusd = AmountField(default=0)
    receivable_microusd = AmountField(default=0)

    def __str__(self) -> str:
        return f"account of {self.organization_id}"

    @property
    def available_microusd(self) -> int:
        available: int = self.credit_microusd + self.promotional_microusd
        return available


class Grant(models.Model):
    """Promotional credit given at once, with what is left of it. Spent before paid credit, the soonest to expire first.

    The `remaining_microusd` of an organization's grants sum to its account's promotional balance. What is left after
    `expires_at` cannot be held; the sweep moves it to `credits_expired`.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    key = models.CharField(max_length=120, unique=True)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="grants")
    amount_microusd = models.BigIntegerField()
    remaining_microusd = models.BigIntegerField()
    expired_microusd = models.BigIntegerField(default=0)
    expires_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount_microusd__gt=0), name="ledger_grant_amount_positive"),
            models.CheckConstraint(
                condition=Q(remaining_microusd__gte=0, expired_microusd__gte=0)
                & Q(remaining_microusd__lte=F("amount_microusd") - F("expired_microusd")),
                name="ledger_grant_remaining_within",
            ),
        ]
        indexes = [
            models.Index(fields=["expires_at"], condition=Q(remaining_microusd__gt=0), name="ledger_grant_expiring"),
        ]

    def __str__(self) -> str:
        return self.key


class Budget(models.Model):
    """What one spender (the organization, a member, an API key) may spend in a UTC day, ISO week, month, and ever.

    Every hold counts in all four windows of each of its budgets, limit or not, so that a limit set later is exact at
    once. `…_used_microusd` is what is held and charged in the window that `day` lies in: a window ends by date
    arithmetic in the statement that takes from it, never by a clock of its own. A limit below what is used stops new
    work and touches nothing else; null is no limit.
    """

    class Kind(models.TextChoices):
        ORGANIZATION = "organization", gettext_lazy("Organization")
        MEMBER = "member", gettext_lazy("Member")
        KEY = "key", "API key"

    kind = models.CharField(max_length=12, choices=Kind)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="budgets")
    user = models.ForeignKey(User, models.PROTECT, null=True, related_name="budgets")
    title = models.CharField(max_length=120, blank=True, help_text="Whose it is, as a refusal names it")
    total_limit_microusd = AmountField(null=True, blank=True)
    daily_limit_microusd = AmountField(null=True, blank=True)
    weekly_limit_microusd = AmountField(null=True, blank=True)
    monthly_limit_microusd = AmountField(null=True, blank=True)
    total_used_microusd = AmountField(default=0)
    daily_used_microusd = AmountField(default=0)
    weekly_used_microusd = AmountField(default=0)
    monthly_used_microusd = AmountField(default=0)
    day = models.DateField(help_text="The last UTC day it was taken from")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization"], condition=Q(kind="organization"), name="ledger_budget_one_of_organization"
            ),
            models.UniqueConstraint(
                fields=["organization", "user"], condition=Q(kind="member"), name="ledger_budget_one_of_member"
            ),
            models.CheckConstraint(
                condition=Q(kind="member", user__isnull=False) | (~Q(kind="member") & Q(user__isnull=True)),
                name="ledger_budget_member_has_user",
            ),
        ]

    def __str__(self) -> str:
        return self.title or f"{self.get_kind_display()} of {self.organization_id}"


class Hold(models.Model):
    """Credit set aside for one piece of work; it remembers which parts it was taken from.

    `open` until nothing is left; what was taken and not charged goes back to exactly where it came from: the paid
    part to credit, `grant_amounts_microusd` to `grant_ids` (same order, the order in which they are charged), and the
    windows of `day` in `budget_ids`, even where a grant has expired or a window has ended since.
    """

    class State(models.TextChoices):
        OPEN = "open"
        SETTLED = "settled"  # charged, in full or in part, the rest returned
        RELEASED = "released"  # nothing charged

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    key = models.CharField(max_length=120, unique=True)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="holds", db_constraint=False)
    state = models.CharField(max_length=8, choices=State, default=State.OPEN)
    promotional_microusd = models.BigIntegerField()
    credit_microusd = models.BigIntegerField()
    promotional_charged_microusd = models.BigIntegerField(default=0)
    credit_charged_microusd = models.BigIntegerField(default=0)
    overrun_microusd = models.BigIntegerField(default=0)
    grant_ids = ArrayField(models.UUIDField(), default=list, db_default=[])
    grant_amounts_microusd = ArrayField(models.BigIntegerField(), default=list, db_default=[])
    budget_ids = ArrayField(models.BigIntegerField(), default=list, db_default=[])
    day = models.DateField(null=True, help_text="The UTC day whose windows it was taken from")
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=GreaterThanOrEqual(
                    Least(
                        "promotional_charged_microusd",
                        "credit_charged_microusd",
                        F("promotional_microusd") - F("promotional_charged_microusd"),
                        F("credit_microusd") - F("credit_charged_microusd"),
                    ),
                    0,
                ),
                name="ledger_hold_charges_within_itself",
            ),
            models.CheckConstraint(
                condition=Exact(Q(state="open"), IsNull(F("ended_at"), True)), name="ledger_hold_open_or_ended"
            ),
        ]
        indexes = [
            models.Index(fields=["created_at"], condition=Q(state="open"), name="ledger_hold_open"),
        ]

    def __str__(self) -> str:
        return self.key

    @property
    def amount_microusd(self) -> int:
        return self.promotional_microusd + self.credit_microusd

    @property
    def charged_microusd(self) -> int:
        return self.promotional_charged_microusd + self.credit_charged_microusd


class Transfer(models.Model):
    """One immutable step of the journal: the amount leaves `debit` and arrives at `credit`, so every step sums to zero."""

    class Name(models.TextChoices):
        """Accounts. The first four are an organization's own; the rest are the platform's."""

        CREDIT = "credit"
        PROMOTIONAL = "promotional"
        HELD = "held"
        RECEIVABLE = "receivable"
        REVENUE = "revenue"
        STRIPE_CLEARING = "stripe_clearing"
        FEES = "fees"
        REFUNDS = "refunds"
        DISPUTES = "disputes"
        CREDITS_GRANTED = "credits_granted"
        CREDITS_EXPIRED = "credits_expired"
        TAX = "tax"
        ADJUSTMENTS = "adjustments"
        OVERRUN = "house:overrun"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    key = models.CharField(max_length=160, unique=True)
    organization = models.ForeignKey(
        Organization, models.PROTECT, related_name="transfers", db_index=False, db_constraint=False
    )
    debit = models.CharField(max_length=20, choices=Name)
    credit = models.CharField(max_length=20, choices=Name)
    amount_microusd = models.BigIntegerField()
    hold = models.ForeignKey(Hold, models.PROTECT, null=True, related_name="transfers", db_constraint=False)
    reason = models.CharField(max_length=200, blank=True)
    actor = models.CharField(max_length=120, blank=True)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount_microusd__gt=0), name="ledger_transfer_amount_positive"),
            models.CheckConstraint(condition=~Q(debit=F("credit")), name="ledger_transfer_moves"),
        ]
        indexes = [
            models.Index(fields=["organization", "-at"], name="ledger_transfer_recent"),
            models.Index(fields=["-at"], name="ledger_transfer_newest"),
        ]

    def __str__(self) -> str:
        return self.key


class ChargedHour(models.Model):
    """What an organization's work was charged in an hour of the last days. `spending.fill` alone writes it."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+", db_index=False)
    hour = models.DateTimeField(help_text="Its beginning")
    microusd = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "hour"], name="ledger_chargedhour_unique")]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H:00} {self.microusd}"


class ChargedUntil(models.Model):
    """One row: the end of the hours that are in `ChargedHour`."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    at = models.DateTimeField()

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="ledger_chargeduntil_one")]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:00}"
