"""What Stripe and we agreed on: payments, refunds, disputes, plans, invoices, and the inbox of its events.

Amounts here are integer US cents, as Stripe counts; the ledger has micro-USD. Nothing here is a balance: the ledger is.
"""

from __future__ import annotations

import uuid
from datetime import datetime

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy

from apps.accounts.models import Organization, User
from apps.core.ids import public, uuid7
from apps.ledger.models import Budget


class Customer(models.Model):
    """An organization as Stripe knows it. Name, address and tax id live at Stripe; these are copies for our pages."""

    organization = models.OneToOneField(Organization, models.PROTECT, primary_key=True, related_name="customer")
    stripe_id = models.CharField(max_length=64, unique=True)
    email = models.EmailField(blank=True)
    name = models.CharField(max_length=200, blank=True)
    country = models.CharField(max_length=2, blank=True)
    tax_ids = models.JSONField(default=list, help_text="[{type, value}]")
    created_at = models.DateTimeField(auto_now_add=True)
    refreshed_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.stripe_id


class Company(models.Model):
    """What an organization said of itself when it began: it makes Stripe's customer, which counts from then on."""

    organization = models.OneToOneField(Organization, models.PROTECT, primary_key=True, related_name="company")
    country = models.CharField(max_length=2, help_text="ISO 3166-1 alpha-2")
    tax_id_type = models.CharField(max_length=20, blank=True)
    tax_id = models.CharField(max_length=40, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "companies"

    def __str__(self) -> str:
        return self.country


class Invoice(models.Model):
    """A document of Stripe's, kept to list it: `hosted_url` and `pdf_url` are Stripe's own pages."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="invoices")
    stripe_id = models.CharField(max_length=64, unique=True)
    number = models.CharField(max_length=64, blank=True)
    state = models.CharField(max_length=16, help_text="draft, open, paid, uncollectible, void")
    description = models.CharField(max_length=200, blank=True)
    subtotal_cents = models.BigIntegerField(default=0)
    tax_cents = models.BigIntegerField(default=0)
    total_cents = models.BigIntegerField(default=0)
    hosted_url = models.URLField(max_length=500, blank=True)
    pdf_url = models.URLField(max_length=500, blank=True)
    charge_id = models.CharField(max_length=64, null=True, help_text="The payment of a subscription's invoice")
    fee_cents = models.BigIntegerField(null=True, help_text="Of a plan's; null while Stripe has not settled it")
    issued_at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(fields=["organization", "-issued_at"], name="billing_invoice_recent"),
            models.Index(fields=["charge_id"], condition=Q(charge_id__isnull=False), name="billing_invoice_charge"),
        ]

    def __str__(self) -> str:
        return self.number or self.stripe_id


class TopUp(models.Model):
    """One payment for credit. The row is written before Stripe is asked; its id is the idempotency key.

    `paid` is set, and the credit given, only by the worker that read the payment afresh after Stripe's event.
    """

    class State(models.TextChoices):
        OPEN = "open", gettext_lazy("Waiting for payment")
        PAID = "paid", gettext_lazy("Paid")
        FAILED = "failed", gettext_lazy("Failed")
        EXPIRED = "expired", gettext_lazy("Not paid in time")

    class Source(models.TextChoices):
        CHECKOUT = "checkout", gettext_lazy("Checkout")
        AUTOMATIC = "automatic", gettext_lazy("Automatic top-up")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="top_ups")
    source = models.CharField(max_length=10, choices=Source)
    state = models.CharField(max_length=8, choices=State, default=State.OPEN)
    amount_cents = models.BigIntegerField(help_text="The credit bought, before tax")
    tax_cents = models.BigIntegerField(default=0)
    fee_cents = models.BigIntegerField(default=0)
    checkout_session_id = models.CharField(max_length=128, unique=True, null=True)
    checkout_url = models.URLField(max_length=1000, blank=True)
    payment_intent_id = models.CharField(max_length=64, unique=True, null=True)
    charge_id = models.CharField(max_length=64, unique=True, null=True)
    invoice = models.ForeignKey(Invoice, models.SET_NULL, null=True, related_name="top_ups")
    receipt_url = models.URLField(max_length=500, blank=True)
    failure = models.CharField(max_length=300, blank=True, help_text="Why it failed, for the customer")
    created_by = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount_cents__gt=0), name="billing_topup_amount_positive"),
            models.UniqueConstraint(
                fields=["organization"],
                condition=Q(source="automatic", state="open"),
                name="billing_topup_one_automatic_in_flight",
            ),
        ]
        indexes = [models.Index(fields=["organization", "-id"], name="billing_topup_recent")]

    def __str__(self) -> str:
        return self.public_id

    @property
    def public_id(self) -> str:
        return public("topup", uuid.UUID(str(self.pk)))

    @property
    def total_cents(self) -> int:
        return self.amount_cents + self.tax_cents


class AutomaticTopUp(models.Model):
    """Buy credit by the saved card when the balance falls below the threshold, up to a ceiling a UTC month.

    Three failures in a row switch it off; `stopped_reason` says so to the customer.
    """

    organization = models.OneToOneField(Organization, models.PROTECT, primary_key=True, related_name="automatic_top_up")
    enabled = models.BooleanField(default=False)
    threshold_microusd = models.BigIntegerField()
    amount_cents = models.BigIntegerField()
    monthly_ceiling_cents = models.BigIntegerField()
    failures = models.PositiveSmallIntegerField(default=0)
    next_try_at = models.DateTimeField(null=True, help_text="Not before, after a failure")
    needs_authentication = models.BooleanField(
        default=False, help_text="The bank wants the customer there: a banner asks"
    )
    stopped_reason = models.CharField(max_length=300, blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(threshold_microusd__gte=0, amount_cents__gt=0)
                & Q(monthly_ceiling_cents__gte=F("amount_cents")),
                name="billing_automatictopup_amounts",
            )
        ]

    def __str__(self) -> str:
        return f"automatic top-up of {self.organization_id}"


class Refund(models.Model):
    """Unused credit on its way back to the card. Its credit leaves the balance before Stripe is asked."""

    class State(models.TextChoices):
        PENDING = "pending", gettext_lazy("On its way")
        SUCCEEDED = "succeeded", gettext_lazy("Refunded")
        FAILED = "failed", gettext_lazy("Failed, the credit is back")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="refunds")
    top_up = models.ForeignKey(TopUp, models.PROTECT, related_name="refunds")
    state = models.CharField(max_length=10, choices=State, default=State.PENDING)
    amount_cents = models.BigIntegerField(help_text="The credit given back, before tax")
    tax_cents = models.BigIntegerField(default=0)
    stripe_id = models.CharField(max_length=64, unique=True, null=True)
    reason = models.CharField(max_length=300, blank=True)
    actor = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    failure = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(amount_cents__gt=0), name="billing_refund_amount_positive")]

    def __str__(self) -> str:
        return f"refund of {self.top_up_id}"

    @property
    def total_cents(self) -> int:
        return self.amount_cents + self.tax_cents


class Dispute(models.Model):
    """A payment the cardholder's bank took back. Stripe debits it at once; we take it from free credit, the rest is owed."""

    class State(models.TextChoices):
        OPEN = "open", gettext_lazy("Open")
        WON = "won", gettext_lazy("Won")
        LOST = "lost", gettext_lazy("Lost")

    stripe_id = models.CharField(max_length=64, unique=True)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="disputes")
    top_up = models.ForeignKey(TopUp, models.PROTECT, null=True, related_name="disputes")
    state = models.CharField(max_length=8, choices=State, default=State.OPEN)
    amount_cents = models.BigIntegerField()
    reason = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    closed_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.stripe_id


USUAL_RATE = "Of the whole organization. Empty: as without a plan"


class Plan(models.Model):
    """A monthly subscription on offer. Without one an organization pays as it goes.

    A row of `keys.RateLimit` for the organization goes before the plan's rate limits.
    """

    code = models.SlugField(max_length=40, unique=True, help_text="Also the lookup key of its price at Stripe")
    title = models.CharField(max_length=80)
    description = models.TextField(blank=True)
    price_cents = models.PositiveIntegerField()
    included_microusd = models.BigIntegerField(
        default=0, help_text="Promotional credit each month; it ends with the month"
    )
    reserved_slots = models.PositiveSmallIntegerField(default=0)
    max_open_jobs = models.PositiveIntegerField(help_text="Jobs that have not ended, at most")
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True, help_text=USUAL_RATE)
    input_tokens_per_minute = models.PositiveBigIntegerField(null=True, blank=True, help_text=USUAL_RATE)
    output_tokens_per_minute = models.PositiveBigIntegerField(null=True, blank=True, help_text=USUAL_RATE)
    concurrent_requests = models.PositiveIntegerField(null=True, blank=True, help_text=USUAL_RATE)
    batch_input_tokens = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Of a model's batches that run, together. Empty: as without a plan"
    )
    listed = models.BooleanField(default=True)
    stripe_price_id = models.CharField(max_length=64, blank=True)
    position = models.PositiveSmallIntegerField(default=0)

    class Meta:
        ordering = ["position", "price_cents"]

    def __str__(self) -> str:
        return self.title


class Subscription(models.Model):
    """An organization's plan, as Stripe last told. `past_due_since` starts the grace period.

    After a change to a cheaper plan the month that was paid for still counts: until `kept_until` the organization has
    what `kept_plan` gives.
    """

    class State(models.TextChoices):
        ACTIVE = "active", "Active"
        PAST_DUE = "past_due", gettext_lazy("Payment overdue")
        ENDED = "ended", "Ended"

    organization = models.OneToOneField(Organization, models.PROTECT, primary_key=True, related_name="subscription")
    plan = models.ForeignKey(Plan, models.PROTECT, related_name="subscriptions")
    stripe_id = models.CharField(max_length=64, unique=True)
    stripe_item_id = models.CharField(max_length=64, blank=True)
    state = models.CharField(max_length=10, choices=State)
    period_start_at = models.DateTimeField()
    period_end_at = models.DateTimeField()
    cancel_at_period_end = models.BooleanField(default=False)
    past_due_since = models.DateTimeField(null=True)
    kept_plan = models.ForeignKey(Plan, models.PROTECT, null=True, related_name="+", db_index=False)
    kept_until = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    refreshed_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"{self.plan} of {self.organization_id}"

    def paid_plan(self, now: datetime) -> Plan:
        """The plan whose month is paid for: after a change to a cheaper one still the dearer, to its end."""
        if self.kept_plan and self.kept_until and self.kept_until > now:
            return self.kept_plan
        return self.plan


class Event(models.Model):
    """The inbox: an event is stored before anything else is done, once by its id, and handled in a worker."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        HANDLED = "handled", "Handled"
        IGNORED = "ignored", "Not for us"
        FAILED = "failed", gettext_lazy("Failed")

    stripe_id = models.CharField(max_length=64, primary_key=True)
    type = models.CharField(max_length=100)
    payload = models.JSONField()
    state = models.CharField(max_length=8, choices=State, default=State.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    error = models.CharField(max_length=500, blank=True)
    happened_at = models.DateTimeField(help_text="By Stripe's clock")
    received_at = models.DateTimeField(auto_now_add=True)
    next_try_at = models.DateTimeField(null=True)
    handled_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(
                fields=["next_try_at"], condition=Q(state__in=["waiting", "failed"]), name="billing_event_due"
            ),
            models.Index(fields=["-received_at"], name="billing_event_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.stripe_id}"

    @property
    def object_id(self) -> str:
        return self.related("id")

    def related(self, field: str) -> str:
        """An id in the event's object ("" where it has none): all that is ever believed of a payload."""
        value = self.payload.get("data", {}).get("object", {}).get(field)
        return value if isinstance(value, str) else ""


class AlertSettings(models.Model):
    """What an organization wants to be warned of. Without a row: the defaults.

    `low_since` is set from the warning on until the balance has risen again: one warning for each fall.
    """

    LOW_BALANCE_MICROUSD = 5_000_000

    organization = models.OneToOneField(Organization, models.PROTECT, primary_key=True, related_name="alert_settings")
    low_balance_microusd = models.BigIntegerField(
        default=LOW_BALANCE_MICROUSD, help_text="Warn when less than this is left; 0 never warns"
    )
    mail_enabled = models.BooleanField(default=True, help_text="Also by mail, beside webhooks")
    low_since = models.DateTimeField(null=True, editable=False)

    class Meta:
        verbose_name_plural = "alert settings"
        constraints = [
            models.CheckConstraint(
                condition=Q(low_balance_microusd__gte=0), name="billing_alertsettings_low_balance_not_negative"
            )
        ]

    def __str__(self) -> str:
        return f"alert settings of {self.organization_id}"


class Alert(models.Model):
    """A warning: once for each limit of a budget, window and share, each fall of the balance, each overdue payment.

    The row is written with the fact; `sent_at` stays empty until its mail was handed over, so that a crash between
    the two sends it late, or at worst twice, and never not at all.
    """

    class Kind(models.TextChoices):
        BUDGET = "budget", "Budget"
        BALANCE = "balance", "Low balance"
        PLAN = "plan", "Plan"

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="alerts")
    kind = models.CharField(max_length=8, choices=Kind)
    budget = models.ForeignKey(Budget, models.PROTECT, null=True, related_name="alerts")
    period = models.CharField(
        max_length=8, blank=True, help_text="Of a budget: total, daily, weekly, monthly; of a plan: overdue, ended"
    )
    percent = models.PositiveSmallIntegerField(default=0)
    window = models.DateField(help_text="The first day of the window; of a plan, the day its payment was due")
    limit_microusd = models.BigIntegerField(
        default=0, db_default=0, help_text="What it warns of: a new limit warns anew"
    )
    spent_microusd = models.BigIntegerField(default=0, db_default=0, help_text="Spent, or what is left of the balance")
    created_at = models.DateTimeField(auto_now_add=True, db_default=Now())
    sent_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["budget", "period", "percent", "window", "limit_microusd"],
                condition=Q(kind="budget"),
                name="billing_alert_once_a_window",
            ),
            models.UniqueConstraint(
                fields=["organization", "period", "window"],
                condition=Q(kind="plan"),
                name="billing_alert_once_an_overdue_payment",
            ),
        ]
        indexes = [models.Index(fields=["created_at"], condition=Q(sent_at__isnull=True), name="billing_alert_unsent")]

    def __str__(self) -> str:
        return f"{self.kind} {self.percent}%" if self.kind == self.Kind.BUDGET else str(self.get_kind_display())


class SandboxObject(models.Model):
    """One object of the Stripe double, as its API would show it. Only `billing.sandbox` reads this table."""

    id = models.CharField(max_length=128, primary_key=True)
    kind = models.CharField(max_length=40)
    data = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["kind", "-created_at", "-id"], name="billing_sandboxobject_list")]

    def __str__(self) -> str:
        return self.id
