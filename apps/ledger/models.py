"""Double-entry credit in integer micro-USD: accounts, transfers, holds."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from apps.accounts.models import Organization
from apps.core.ids import uuid7


class Account(models.Model):
    """One organization's four balances. Only the statements of this app write them.

    A balance is a column with a CHECK, never a sum read before writing. The platform's own accounts (revenue,
    clearing, …) are names in the journal without a row, so customers' settlements never queue on one row.
    """

    organization = models.OneToOneField(Organization, models.PROTECT, related_name="account")
    credit_microusd = models.BigIntegerField(default=0)
    promotional_microusd = models.BigIntegerField(default=0)
    held_microusd = models.BigIntegerField(default=0)
    receivable_microusd = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(credit_microusd__gte=0), name="ledger_account_credit_not_overdrawn"),
            models.CheckConstraint(
                condition=Q(promotional_microusd__gte=0), name="ledger_account_promotional_not_overdrawn"
            ),
            models.CheckConstraint(condition=Q(held_microusd__gte=0), name="ledger_account_held_not_overdrawn"),
            models.CheckConstraint(
                condition=Q(receivable_microusd__gte=0), name="ledger_account_receivable_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return f"account of {self.organization_id}"

    @property
    def available_microusd(self) -> int:
        return self.credit_microusd + self.promotional_microusd


class Hold(models.Model):
    """Credit set aside for one piece of work; it remembers which parts it was taken from.

    `open` until nothing is left; what was taken and not charged goes back to exactly where it came from.
    """

    class State(models.TextChoices):
        OPEN = "open"
        SETTLED = "settled"  # charged, in full or in part, the rest returned
        RELEASED = "released"  # nothing charged

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    key = models.CharField(max_length=120, unique=True)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="holds")
    state = models.CharField(max_length=8, choices=State, default=State.OPEN)
    promotional_microusd = models.BigIntegerField()
    credit_microusd = models.BigIntegerField()
    promotional_charged_microusd = models.BigIntegerField(default=0)
    credit_charged_microusd = models.BigIntegerField(default=0)
    overrun_microusd = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(promotional_microusd__gte=0, credit_microusd__gte=0), name="ledger_hold_parts_not_negative"
            ),
            models.CheckConstraint(
                condition=Q(
                    promotional_charged_microusd__gte=0,
                    credit_charged_microusd__gte=0,
                    promotional_charged_microusd__lte=F("promotional_microusd"),
                    credit_charged_microusd__lte=F("credit_microusd"),
                ),
                name="ledger_hold_never_charges_above_itself",
            ),
            models.CheckConstraint(
                condition=Q(state="open", ended_at__isnull=True) | (~Q(state="open") & Q(ended_at__isnull=False)),
                name="ledger_hold_ended_has_time",
            ),
        ]
        indexes = [
            models.Index(fields=["created_at"], condition=Q(state="open"), name="ledger_hold_open"),
            models.Index(fields=["organization"], condition=Q(state="open"), name="ledger_hold_open_of"),
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
        OVERRUN = "house:overrun"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    key = models.CharField(max_length=160, unique=True)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="transfers")
    debit = models.CharField(max_length=20, choices=Name)
    credit = models.CharField(max_length=20, choices=Name)
    amount_microusd = models.BigIntegerField()
    hold = models.ForeignKey(Hold, models.PROTECT, null=True, related_name="transfers")
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
