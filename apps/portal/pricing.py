"""The page that says what work costs: prices of every tier, how a charge is made, and a calculator. All by the real code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

from django import forms
from django.conf import settings
from django.utils.text import format_lazy
from django.utils.translation import gettext, gettext_lazy

from apps.accounts.models import Organization
from apps.catalog import offers, prices
from apps.catalog.models import WHOLE, Model, Tier
from apps.catalog.offers import Offer
from apps.catalog.prices import Price, Terms
from apps.core import numbers
from apps.core.money import MICROUSD_PER_CENT
from cango_portal import database

TITLES = {
    "request": gettext_lazy("Request"),
    "input": gettext_lazy("Input"),
    "cached_input": gettext_lazy("Cached input"),
    "output": gettext_lazy("Output"),
    "pages": gettext_lazy("Pages"),
}
EXAMPLE = {"prompt_tokens": 1_234, "cached_prompt_tokens": 200, "completion_tokens": 89, "pages": 0}
EXAMPLE_PRICE = Price(0, 120_000, 30_000, 360_000, 0, 0, 5000, 7000)  # where nothing is on offer yet
MOST_REQUESTS = 1_000_000_000
MOST_TOKENS = 10_000_000
MOST_PAGES = 100_000


@dataclass(frozen=True, slots=True)
class TierPrices:
    """What one tier of one model costs, as text. A dash: it does not apply."""

    tier: str
    share: str
    input: str
    cached_input: str
    output: str
    request: str
    page: str

    @classmethod
    def of(cls, price: Price, tier: Tier) -> TierPrices:
        share = price.tier_basis_points(tier.value)

        def each(microusd: int) -> str:
            return numbers.price(Decimal(microusd) * share / WHOLE)

        cached = price.cached_input
        return cls(
            tier=str(tier.label),
            share=numbers.basis_points(share),
            input=each(price.input_microusd_per_mtok),
            cached_input=each(cached) if cached or not price.input_microusd_per_mtok else "free",
            output=each(price.output_microusd_per_mtok),
            request=each(price.request_microusd),
            page=each(price.page_microusd),
        )


@dataclass(frozen=True, slots=True)
class Row:
    """A model's prices by tier, and the reader's discount ("" where there is none)."""

    offer: Offer
    tiers: list[TierPrices]
    discount: str

    @property
    def publisher(self) -> str:
        return self.offer.name.partition("/")[0]

    @property
    def name(self) -> str:
        return self.offer.name.partition("/")[2]


@dataclass(frozen=True, slots=True)
class Rounded:
    """One usage line: `exactly` is what it comes to before it is rounded, in USD with every digit."""

    title: str
    units: int
    price: str
    exactly: str
    microusd: int


@dataclass(frozen=True, slots=True)
class Bill:
    lines: list[Rounded]
    microusd: int

    @classmethod
    def of(cls, price: Price, usage: Mapping[str, int], terms: Terms) -> Bill:
        share = Decimal(price.tier_basis_points(terms.tier) * (WHOLE - terms.discount_basis_points)) / (WHOLE * WHOLE)
        lines = price.lines(**usage, terms=terms)
        return cls([rounded(line, share) for line in lines], price.charge_microusd(**usage, terms=terms))


def rounded(line: prices.Line, share: Decimal) -> Rounded:
    each = gettext("for 1M") if line.per > 1 else gettext("each")
    exactly = Decimal(line.units * line.price_microusd) * share / line.per
    return Rounded(
        str(TITLES[line.name]), line.units, f"{numbers.price(line.price_microusd)} {each}", usd(exactly), line.microusd
    )


def usd(microusd: Decimal) -> str:
    """Every digit, at least six after the point."""
    whole, _, decimals = f"{microusd / 1_000_000:f}".partition(".")
    return f"${int(whole):,}.{decimals.rstrip('0'):0<6}"


def count(label: Any, help_text: Any = "", *, least: int = 0, most: int, initial: int) -> forms.IntegerField:
    wrong = format_lazy(
        gettext_lazy("Enter a whole number from {least} to {most}."), least=f"{least:,}", most=f"{most:,}"
    )
    return forms.IntegerField(
        label=label,
        help_text=help_text,
        min_value=least,
        max_value=most,
        initial=initial,
        error_messages={"required": wrong, "invalid": wrong, "min_value": wrong, "max_value": wrong},
    )


class Calculator(forms.Form):
    """How much work, of which kind. What a model does not charge for changes nothing."""

    model = forms.ChoiceField(
        label=gettext_lazy("Model"),
        error_messages={"invalid_choice": gettext_lazy("Choose one of the models on offer.")},
    )
    tier = forms.ChoiceField(
        label=gettext_lazy("Tier"),
        choices=Tier.choices,
        initial=Tier.STANDARD,
        error_messages={"invalid_choice": gettext_lazy("Choose standard, flexible or batch.")},
    )
    requests = count(gettext_lazy("Requests"), least=1, most=MOST_REQUESTS, initial=1000)
    input = count(gettext_lazy("Input tokens of each"), most=MOST_TOKENS, initial=1000)
    cached = count(
        gettext_lazy("Cached at best, %"),
        gettext_lazy("Of the input: what requests have in common."),
        most=100,
        initial=0,
    )
    least = count(gettext_lazy("Output tokens of each, at least"), most=MOST_TOKENS, initial=100)
    most = count(gettext_lazy("Output tokens of each, at most"), most=MOST_TOKENS, initial=500)
    pages = count(gettext_lazy("Pages or images of each"), most=MOST_PAGES, initial=1)

    def __init__(self, offered: list[Offer], given: Mapping[str, str]) -> None:
        """What an address leaves out is as in the empty form; an address that names no field is an empty form."""
        fields = self.base_fields
        data = {name: field.initial for name, field in fields.items()} | {"model": offered[0].name if offered else ""}
        super().__init__({**data, **given} if fields.keys() & given.keys() else None)
        model = self.fields["model"]
        assert isinstance(model, forms.ChoiceField)
        model.choices = [(offer.name, offer.title) for offer in offered]
        self.offered = {offer.name: offer for offer in offered}

    def clean(self) -> dict[str, Any]:
        given = self.cleaned_data
        if "least" in given and "most" in given and given["least"] > given["most"]:
            self.add_error("most", gettext("This is less than the least. Enter that or more."))
        return given

    def estimate(self, discounts: Mapping[int, int]) -> Estimate:
        """Of a valid form: from the least output with the most cached to the most output with nothing cached."""
        given = self.cleaned_data
        offer = self.offered[given["model"]]
        terms = Terms(given["tier"], discounts.get(offer.model_id, 0))
        tokens = given["input"] if offer.kind != Model.Kind.OCR else 0
        pages = given["pages"] if offer.kind == Model.Kind.OCR else 0
        least, most = (given["least"], given["most"]) if offer.kind == Model.Kind.CHAT else (0, 0)
        cheap = {"cached_prompt_tokens": tokens * given["cached"] // 100, "completion_tokens": least}
        dear = {"cached_prompt_tokens": 0, "completion_tokens": most}
        both = [
            Bill.of(offer.price, {"prompt_tokens": tokens, "pages": pages, **usage}, terms) for usage in (cheap, dear)
        ]
        low, high = sorted(both, key=lambda bill: bill.microusd)
        return Estimate(offer, terms, given["requests"], low, high)


@dataclass(frozen=True, slots=True)
class Estimate:
    offer: Offer
    terms: Terms
    requests: int
    low: Bill
    high: Bill

    @property
    def total(self) -> str:
        return span(self.low.microusd * self.requests, self.high.microusd * self.requests)

    @property
    def each(self) -> str:
        return span(self.low.microusd, self.high.microusd)

    @property
    def discount(self) -> str:
        return numbers.basis_points(self.terms.discount_basis_points) if self.terms.discount_basis_points else ""

    @property
    def tier(self) -> str:
        return str(Tier(self.terms.tier).label).lower()


def span(low: int, high: int) -> str:
    """Expected money is a range. Cents from a dollar on, rounded outwards; below, every digit.

    >>> span(790_000, 830_001), span(1_234_567, 2_345_678), span(5, 5)
    ('$0.79 to $0.830001', '$1.23 to $2.35', '$0.000005')
    """
    if low >= 1_000_000:
        low, high = low // MICROUSD_PER_CENT * MICROUSD_PER_CENT, -(-high // MICROUSD_PER_CENT) * MICROUSD_PER_CENT
    first, last = (numbers.price(amount) if amount else "$0.00" for amount in (low, high))
    return first if first == last else gettext("%(first)s to %(last)s") % {"first": first, "last": last}


class Pricing:
    """Everything the page shows. `organization` None: a reader without one sees list prices."""

    def __init__(self, organization: Organization | None, given: Mapping[str, str]) -> None:
        self.offered = database.run(offers.offers())
        self.discounts = database.run(offers.discounts(organization.pk)) if organization else {}
        self.form = Calculator(self.offered, given)
        self.wrong = self.form.is_bound and not self.form.is_valid()

    @property
    def rows(self) -> list[Row]:
        return [
            Row(
                offer,
                [TierPrices.of(offer.price, tier) for tier in Tier],
                numbers.basis_points(self.discounts[offer.model_id]) if offer.model_id in self.discounts else "",
            )
            for offer in self.offered
        ]

    @property
    def estimate(self) -> Estimate | None:
        return self.form.estimate(self.discounts) if self.form.is_bound and not self.wrong else None

    @cached_property
    def example_offer(self) -> Offer | None:
        chat = [offer for offer in self.offered if offer.kind == Model.Kind.CHAT]
        return next((offer for offer in chat if offer.price.cached_input_microusd_per_mtok), next(iter(chat), None))

    @property
    def example_discount(self) -> str:
        points = self.discounts.get(self.example_offer.model_id, 0) if self.example_offer else 0
        return numbers.basis_points(points) if points else ""

    @property
    def example(self) -> Bill:
        """A flexible request of the first chat model, so that the tier's share is in it."""
        offer = self.example_offer
        points = self.discounts.get(offer.model_id, 0) if offer else 0
        terms = Terms(Tier.FLEXIBLE.value, points)
        return Bill.of(offer.price if offer else EXAMPLE_PRICE, EXAMPLE, terms)

    @property
    def example_usage(self) -> Mapping[str, int]:
        return EXAMPLE

    @property
    def example_share(self) -> str:
        price = self.example_offer.price if self.example_offer else EXAMPLE_PRICE
        return numbers.basis_points(price.flexible_basis_points)

    @property
    def least_top_up_microusd(self) -> int:
        return int(settings.TOP_UP_MIN_CENTS) * MICROUSD_PER_CENT

    @property
    def refund_days(self) -> int:
        return int(settings.REFUND_DAYS)

    @property
    def flexible_seconds(self) -> int:
        return int(settings.FLEXIBLE_QUEUE_SECONDS)
