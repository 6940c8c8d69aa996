"""Models on offer and their prices. A price is never edited: a new version takes its place from a moment on."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, cast

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone

from apps.accounts.readonly import ReadOnlyInline
from apps.accounts.reasoned import ReasonedAdmin, ReasonedModelForm
from apps.catalog.models import Model, PriceVersion
from apps.core import numbers
from apps.core.money import MICROUSD_PER_USD

CLOCK_SKEW = timedelta(minutes=5)
HIGH_USD_PER_MTOK = 1_000  # a price above one of these is more likely a slip than meant
HIGH_USD = 10
LARGEST_USD = 1_000_000


class InDollars:
    """A price version's amounts as columns, each in the words of its entry in the form."""

    @admin.display(description="Input, 1M tokens")
    def input_price(self, row: PriceVersion) -> str:
        return numbers.price(row.input_microusd_per_mtok)

    @admin.display(description="Output, 1M tokens")
    def output_price(self, row: PriceVersion) -> str:
        return numbers.price(row.output_microusd_per_mtok)

    @admin.display(description="Request")
    def request_price(self, row: PriceVersion) -> str:
        return numbers.price(row.request_microusd)

    @admin.display(description="Page")
    def page_price(self, row: PriceVersion) -> str:
        return numbers.price(row.page_microusd)


COLUMNS = ["effective_at", "input_price", "output_price", "request_price", "page_price"]


class PriceInline(InDollars, ReadOnlyInline):
    model = PriceVersion
    fields = [*COLUMNS]
    verbose_name_plural = "Prices in USD"

    def get_queryset(self, request: HttpRequest):  # type: ignore[no-untyped-def]
        return super().get_queryset(request).select_related("model")


@admin.register(Model)
class ModelAdmin(ReasonedAdmin[Model]):
    list_display = ["name", "title", "kind", "listed", "context_tokens", "max_output_tokens", "max_queue_seconds"]
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


class PriceVersionForm(ReasonedModelForm):
    """Amounts are entered in USD and kept in micro-USD."""

    input_usd_per_mtok = amount("USD for 1M input tokens", "2.50 is $2.50 for a million. Empty: not charged.")
    output_usd_per_mtok = amount("USD for 1M output tokens")
    request_usd = amount("USD for a request")
    page_usd = amount("USD for a page")
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
        return ["model", "effective_at", *PriceVersionForm.AMOUNTS, "meant", "staff_reason"]

    def has_change_permission(self, request: HttpRequest, obj: PriceVersion | None = None) -> bool:
        return False

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"effective_at": timezone.now(), **super().get_changeform_initial_data(request)}
