"""Models on offer, their prices, and discounts. A price is never edited: a new version takes its place from a moment on."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, cast

from django import forms
from django.contrib import admin
from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Greatest
from django.http import HttpRequest
from django.utils import timezone

from apps.accounts import audit
from apps.accounts.models import Organization
from apps.accounts.readonly import ReadOnlyInline
from apps.accounts.reasoned import Given, ReasonedActions, ReasonedAdmin, ReasonedModelForm, reasoned, staff
from apps.catalog.models import Discount, Model, PriceVersion
from apps.core import numbers
from apps.core.errors import NotAllowed
from apps.core.money import MICROUSD_PER_USD
from apps.wire.capabilities import Capability

CLOCK_SKEW = timedelta(minutes=5)
HIGH_USD_PER_MTOK = 1_000  # a price above one of these is more likely a slip than meant
HIGH_USD = 10
LARGEST_USD = 1_000_000


class InDollars:
    """A price version's amounts as columns, each in the words of its entry in the form."""

    @admin.display(description="Input, 1M tokens")
    def input_price(self, row: PriceVersion) -> str:
        return numbers.price(row.input_microusd_per_mtok)

    @admin.display(description="Cached input, 1M tokens")
    def cached_input_price(self, row: PriceVersion) -> str:
        cached = row.cached_input_microusd_per_mtok
        return "as input" if cached is None else "free" if cached == 0 else numbers.price(cached)

    @admin.display(description="Output, 1M tokens")
    def output_price(self, row: PriceVersion) -> str:
        return numbers.price(row.output_microusd_per_mtok)

    @admin.display(description="Request")
    def request_price(self, row: PriceVersion) -> str:
        return numbers.price(row.request_microusd)

    @admin.display(description="Page")
    def page_price(self, row: PriceVersion) -> str:
        return numbers.price(row.page_microusd)

    @admin.display(description="Flexible")
    def flexible_share(self, row: PriceVersion) -> str:
        return numbers.basis_points(row.flexible_basis_points)

    @admin.display(description="Batch")
    def batch_share(self, row: PriceVersion) -> str:
        return numbers.basis_points(row.batch_basis_points)


COLUMNS = [
    "effective_at",
    "input_price",
    "cached_input_price",
    "output_price",
    "request_price",
    "page_price",
    "flexible_share",
    "batch_share",
]


class PriceInline(InDollars, ReadOnlyInline):
    model = PriceVersion
    fields = [*COLUMNS]
    verbose_name_plural = "Prices in USD"

    def get_queryset(self, request: HttpRequest):  # type: ignore[no-untyped-def]
        return super().get_queryset(request).select_related("model")


class ModelForm(ReasonedModelForm):
    """Capabilities are boxes to tick, each with what it promises."""

    capabilities = forms.MultipleChoiceField(
        choices=[(term.value, f"{term.value}: {promise}") for term, promise in Model.CAPABILITIES.items()],
        widget=forms.CheckboxSelectMultiple,
        required=False,
        help_text="What the engine does when asked; try it before you tick. A request for anything else is refused with the parameter's name.",
    )

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        given = self.cleaned_data
        if Capability.IMAGE_INPUT in given.get("capabilities", []) and not given.get("image_tokens"):
            self.add_error("image_tokens", "Give the most tokens of an image: that much is held for each.")
        dimensions = given.get("dimensions") or 0
        if dimensions and any(size >= dimensions for size in given.get("shorter_dimensions") or []):
            self.add_error("shorter_dimensions", f"Shorter than the whole vector, which has {dimensions:,} dimensions.")
        return cleaned


@admin.register(Model)
class ModelAdmin(ReasonedAdmin[Model]):
    form = ModelForm
    list_display = [
        "name",
        "title",
        "kind",
        "listed",
        "retires_at",
        "context_tokens",
        "max_output_tokens",
        "max_queue_seconds",
    ]
    list_filter = ["kind", "listed"]
    search_fields = ["name", "title"]
    ordering = ["name"]
    inlines = [PriceInline]

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        return ["name", "kind", "created_at"] if obj else []  # clients and jobs know it by these


def amount(label: str, help_text: str = "") -> forms.DecimalField:
    """An amount in USD, exact to the micro-USD. Left empty it does not apply."""
    return forms.DecimalField(
        label=label, help_text=help_text, required=False, min_value=0, max_value=LARGEST_USD, decimal_places=6
    )


def percent(label: str, help_text: str, *, most: Decimal, initial: Decimal | None = None) -> forms.DecimalField:
    """Exact to a basis point."""
    return forms.DecimalField(
        label=label,
        help_text=help_text,
        initial=initial,
        min_value=Decimal("0.01"),
        max_value=most,
        decimal_places=2,
        error_messages={
            name: f"Enter at least 0.01%% and at most {most.normalize():f}%%."  # Django fills it in with %
            for name in ("min_value", "max_value")
        },
    )


class PriceVersionForm(ReasonedModelForm):
    """Amounts are entered in USD and kept in micro-USD, shares in percent and kept in basis points."""

    input_usd_per_mtok = amount("USD for 1M input tokens", "2.50 is $2.50 for a million. Empty: not charged.")
    cached_input_usd_per_mtok = amount(
        "USD for 1M cached input tokens", "Prompt tokens the engine had from before. Empty: as other input; 0: free."
    )
    output_usd_per_mtok = amount("USD for 1M output tokens")
    request_usd = amount("USD for a request")
    page_usd = amount("USD for a page", "Or an image.")
    flexible_percent = percent(
        "Flexible work pays, in % of every price",
        "It waits behind standard work.",
        most=Decimal(100),
        initial=Decimal(70),
    )
    batch_percent = percent(
        "Batches pay, in % of every price", "They run within a day.", most=Decimal(100), initial=Decimal(50)
    )
    meant = forms.BooleanField(
        label="This price is meant",
        required=False,
        help_text=f"Needed above ${HIGH_USD_PER_MTOK:,} for a million tokens or ${HIGH_USD} for a page or a request.",
    )

    AMOUNTS = {
        "input_usd_per_mtok": ("input_microusd_per_mtok", HIGH_USD_PER_MTOK),
        "output_usd_per_mtok": ("output_microusd_per_mtok", HIGH_USD_PER_MTOK),
        "request_usd": ("request_microusd", HIGH_USD),
        "page_usd": ("page_microusd", HIGH_USD),
    }
    SHARES = {"flexible_percent": "flexible_basis_points", "batch_percent": "batch_basis_points"}

    def clean_effective_at(self) -> datetime:
        effective_at: datetime = self.cleaned_data["effective_at"]
        if effective_at < timezone.now() - CLOCK_SKEW:
            raise forms.ValidationError("A price holds from now or later: what was charged stays explained.")
        return effective_at

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        given = {name: self.cleaned_data.get(name) or Decimal(0) for name in self.AMOUNTS}
        if not any(given.values()) and not any(name in self.errors for name in self.AMOUNTS):
            raise forms.ValidationError("Give at least one price: nothing on offer is free.")
        high = [name for name, (_, limit) in self.AMOUNTS.items() if given[name] > limit]
        if high and not self.cleaned_data.get("meant"):
            named = ", ".join(f"${given[name]:,} {str(self.fields[name].label).removeprefix('USD ')}" for name in high)
            self.add_error("meant", f"This is unusually high: {named}. Tick the box if it is meant.")
        for name, (column, _) in self.AMOUNTS.items():
            setattr(cast(PriceVersion, self.instance), column, int(given[name] * MICROUSD_PER_USD))
        cached = self.cleaned_data.get("cached_input_usd_per_mtok")
        if cached is not None and cached > given["input_usd_per_mtok"] and "input_usd_per_mtok" not in self.errors:
            self.add_error(
                "cached_input_usd_per_mtok", "Cached input may not cost more than input. Lower it or leave it empty."
            )
        cast(PriceVersion, self.instance).cached_input_microusd_per_mtok = (
            None if cached is None else int(cached * MICROUSD_PER_USD)
        )
        for name, column in self.SHARES.items():
            if name in self.cleaned_data:
                setattr(cast(PriceVersion, self.instance), column, int(self.cleaned_data[name] * 100))
        return cleaned


@admin.register(PriceVersion)
class PriceVersionAdmin(InDollars, ReasonedAdmin[PriceVersion]):
    """Add only, in USD."""

    form = PriceVersionForm
    list_display = ["model", *COLUMNS]
    list_filter = ["model__kind"]
    list_select_related = ["model"]
    search_fields = ["model__name"]
    autocomplete_fields = ["model"]
    ordering = ["-effective_at"]

    def get_fields(self, request: HttpRequest, obj: PriceVersion | None = None) -> Any:
        if obj:
            return ["model", *COLUMNS, "created_at"]
        return [
            "model",
            "effective_at",
            "input_usd_per_mtok",
            "cached_input_usd_per_mtok",
            "output_usd_per_mtok",
            "request_usd",
            "page_usd",
            *PriceVersionForm.SHARES,
            "meant",
            "staff_reason",
        ]

    def has_change_permission(self, request: HttpRequest, obj: PriceVersion | None = None) -> bool:
        return False

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"effective_at": timezone.now(), **super().get_changeform_initial_data(request)}


class DiscountForm(ReasonedModelForm):
    percent_off = percent(
        "Percent off every price",
        "12.50 is 12.5%. The largest discount in force counts alone; they are not added up.",
        most=Decimal("99.99"),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        discount = cast(Discount, self.instance)
        if discount.pk:
            self.initial["percent_off"] = Decimal(discount.basis_points) / 100

    def clean_starts_at(self) -> datetime:
        starts_at: datetime = self.cleaned_data["starts_at"]
        if starts_at < timezone.now() - CLOCK_SKEW:
            raise forms.ValidationError("A discount begins now or later: what was charged stays explained.")
        return starts_at

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        starts_at, ends_at = self.cleaned_data.get("starts_at"), self.cleaned_data.get("ends_at")
        if starts_at and ends_at and ends_at <= starts_at:
            self.add_error("ends_at", "It ends before it begins. Give a later end, or none.")
        if "percent_off" in self.cleaned_data:
            cast(Discount, self.instance).basis_points = int(self.cleaned_data["percent_off"] * 100)
        return cleaned


@admin.register(Discount)
class DiscountAdmin(ReasonedActions[Discount], ReasonedAdmin[Discount]):
    """Once it has begun, only its end may change: by an action, with a reason."""

    form = DiscountForm
    list_display = ["organization", "model", "off", "starts_at", "ends_at", "reason", "created_by"]
    search_fields = ["organization__name", "model__name"]
    autocomplete_fields = ["organization", "model"]
    public_ids = {"org": "organization"}
    ordering = ["-starts_at"]
    actions = ["end"]

    @admin.display(description="Off")
    def off(self, row: Discount) -> str:
        return numbers.basis_points(row.basis_points)

    def organization_of(self, row: Discount) -> Organization:
        return row.organization

    def get_queryset(self, request: HttpRequest):  # type: ignore[no-untyped-def]
        return super().get_queryset(request).select_related("organization", "model", "created_by")

    def get_fields(self, request: HttpRequest, obj: Discount | None = None) -> Any:
        if obj and not self.has_change_permission(request, obj):
            return ["organization", "model", "off", "starts_at", "ends_at", "reason", "created_by", "created_at"]
        return ["organization", "model", "percent_off", "starts_at", "ends_at", "staff_reason"]

    def has_change_permission(self, request: HttpRequest, obj: Discount | None = None) -> bool:
        if obj and obj.starts_at <= timezone.now():
            return False
        return super().has_change_permission(request, obj)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"starts_at": timezone.now(), **super().get_changeform_initial_data(request)}

    def save_model(self, request: HttpRequest, obj: Discount, form: Any, change: bool) -> None:
        obj.reason = form.cleaned_data["staff_reason"]
        if not change:
            obj.created_by = staff(request)
        super().save_model(request, obj, form, change)

    @reasoned(
        description="End now",
        consequence="Work admitted from now on pays without it. What was admitted before keeps it.",
        when=lambda row: row.ends_at is None or row.ends_at > timezone.now(),
    )
    @transaction.atomic
    def end(self, row: Discount, given: Given) -> None:
        now = timezone.now()
        lasting = Discount.objects.filter(Q(ends_at=None) | Q(ends_at__gt=Greatest(now, F("starts_at"))), pk=row.pk)
        if not lasting.update(ends_at=Greatest(now, F("starts_at"))):
            raise NotAllowed("It has ended already. Nothing was changed.")
        audit.record(
            organization=row.organization,
            actor=given.user,
            action="discount.ended",
            target=str(row),
            reason=given.reason,
        )
