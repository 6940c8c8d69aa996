"""Plans, who has one, and what was warned of. Registered with the other pages by `admin`."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, cast

from django import forms
from django.contrib import admin
from django.http import HttpRequest

from apps.accounts.readonly import HistoryAdmin, ReadOnlyAdmin
from apps.accounts.reasoned import Given, ReasonedActions, ReasonedAdmin, ReasonedModelForm, reasoned
from apps.billing import plans
from apps.billing.amounts import dollars
from apps.billing.models import Alert, AlertSettings, Plan, Subscription
from apps.core import numbers
from apps.core.money import MICROUSD_PER_USD

RATES = [
    "requests_per_minute",
    "input_tokens_per_minute",
    "output_tokens_per_minute",
    "concurrent_requests",
    "batch_input_tokens",
]


class PlanForm(ReasonedModelForm):
    """Amounts are entered in USD."""

    price_usd = forms.DecimalField(
        label="USD a month", min_value=Decimal(1), max_value=100_000, decimal_places=2, help_text="Before tax"
    )
    included_usd = forms.DecimalField(
        label="Included credit, USD", min_value=0, max_value=100_000, decimal_places=2, help_text="Each month"
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        plan = cast(Plan, self.instance)
        if plan.pk:
            self.initial.setdefault("price_usd", Decimal(plan.price_cents) / 100)
            self.initial.setdefault("included_usd", Decimal(plan.included_microusd) / MICROUSD_PER_USD)

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        plan = cast(Plan, self.instance)
        price, included = self.cleaned_data.get("price_usd"), self.cleaned_data.get("included_usd")
        if price is not None and plan.price_cents != int(price * 100):
            plan.price_cents = int(price * 100)
            plan.stripe_price_id = ""  # an amount at Stripe never changes: the next subscription makes a new price
        if included is not None:
            plan.included_microusd = int(included * MICROUSD_PER_USD)
        return cleaned


@admin.register(Plan)
class PlanAdmin(ReasonedActions[Plan], ReasonedAdmin[Plan]):
    """Once somebody has subscribed, price and included credit stay: take the plan off the list and add another."""

    form = PlanForm
    list_display = [
        "title",
        "code",
        "price",
        "included",
        "reserved_slots",
        "max_open_jobs",
        "listed",
        "stripe_price_id",
    ]
    list_filter = ["listed"]
    search_fields = ["title", "code"]
    ordering = ["position", "price_cents"]
    actions = ["publish"]

    @admin.display(description="A month")
    def price(self, plan: Plan) -> str:
        return dollars(plan.price_cents)

    @admin.display(description="Included credit")
    def included(self, plan: Plan) -> str:
        return numbers.money(plan.included_microusd)

    def get_fields(self, request: HttpRequest, obj: Plan | None = None) -> Any:
        fixed = obj is not None and obj.subscriptions.exists()
        amounts = ["price", "included"] if fixed else ["price_usd", "included_usd"]
        limits = ["reserved_slots", "max_open_jobs", *RATES]
        fields = ["code", "title", "description", *amounts, *limits, "position", "listed"]
        return [*fields, *(["stripe_price_id"] if obj else []), "staff_reason"]

    def get_readonly_fields(self, request: HttpRequest, obj: Plan | None = None) -> list[str]:
        if obj is None:
            return []
        return ["code", "price", "included", "stripe_price_id"]

    def get_form(self, request: HttpRequest, obj: Plan | None = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is not None and obj.subscriptions.exists():
            kwargs["form"] = ReasonedModelForm
        return super().get_form(request, obj, change, **kwargs)

    @reasoned(
        description="Publish at Stripe",
        consequence="Stripe is told of the product and its price. Nobody is charged. It happens by itself at the first subscription.",
        when=lambda plan: not plan.stripe_price_id,
    )
    def publish(self, plan: Plan, given: Given) -> None:
        plans.publish(plan)


@admin.register(Subscription)
class SubscriptionAdmin(ReadOnlyAdmin[Subscription]):
    """As Stripe last told; it is changed there, or by the customer."""

    list_display = ["organization", "plan", "state", "period_end_at", "cancel_at_period_end", "past_due_since"]
    list_filter = ["state", "plan"]
    list_select_related = ["organization", "plan"]
    search_fields = ["=stripe_id", "organization__name"]
    public_ids = {"org": "organization"}


@admin.register(Alert)
class AlertAdmin(HistoryAdmin[Alert]):
    """What was warned of. Empty `sent_at`: its mail is still to be sent."""

    list_display = ["organization", "kind", "period", "percent", "budget", "window", "created_at", "sent_at"]
    list_filter = ["kind"]
    list_select_related = ["organization", "budget"]
    ordering = ["-pk"]
    public_ids = {"org": "organization"}


@admin.register(AlertSettings)
class AlertSettingsAdmin(ReadOnlyAdmin[AlertSettings]):
    list_display = ["organization", "low_balance_microusd", "mail_enabled", "low_since"]
    list_select_related = ["organization"]
    search_fields = ["organization__name"]
    public_ids = {"org": "organization"}
