"""What a usage costs: whole micro-USD, each line rounded once, up. No float ever holds an amount."""

from __future__ import annotations

from dataclasses import dataclass

from apps.catalog.models import WHOLE, PriceVersion, Tier
from apps.core.money import TOKENS_PER_MTOK, cost_microusd


@dataclass(frozen=True, slots=True)
class Terms:
    """What a job pays of the list price: frozen at its admission."""

    tier: str = Tier.STANDARD.value
    discount_basis_points: int = 0


STANDARD = Terms()


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a bill: `units` at `price_microusd` (of the list) for every `per` of them come to `microusd`."""

    name: str  # request, input, cached_input, output, pages
    units: int
    price_microusd: int
    per: int
    microusd: int


@dataclass(frozen=True, slots=True)
class Price:
    """A price version. `cached_input_microusd_per_mtok` None: cached input is input, and one line with it."""

    id: int
    input_microusd_per_mtok: int
    cached_input_microusd_per_mtok: int | None
    output_microusd_per_mtok: int
    request_microusd: int
    page_microusd: int
    batch_basis_points: int
    flexible_basis_points: int

    @classmethod
    def of(cls, version: PriceVersion) -> Price:
        return cls(**{name: getattr(version, name) for name in cls.__slots__})

    @property
    def cached_input(self) -> int:
        """For a million cached tokens."""
        cached = self.cached_input_microusd_per_mtok
        return self.input_microusd_per_mtok if cached is None else cached

    def tier_basis_points(self, tier: str) -> int:
        """The share of every price that work of a tier pays."""
        shares = {Tier.BATCH.value: self.batch_basis_points, Tier.FLEXIBLE.value: self.flexible_basis_points}
        return WHOLE if tier == Tier.STANDARD.value else shares[tier]

    def cost(self, units: int, price_microusd: int, per: int, terms: Terms) -> int:
        """ceil(units × price × tier × (10,000 − discount) / (per × 10,000 × 10,000)): rounded once, after both."""
        share = self.tier_basis_points(terms.tier) * (WHOLE - terms.discount_basis_points)
        return cost_microusd(units=units, price_microusd=price_microusd * share, per=per * WHOLE * WHOLE)

    def lines(
        self,
        *,
        prompt_tokens: int,
        completion_tokens: int,
        pages: int,
        cached_prompt_tokens: int = 0,
        terms: Terms = STANDARD,
    ) -> list[Line]:
        """The bill of a usage. `cached_prompt_tokens` are part of `prompt_tokens`. Lines without a price are left out."""
        cached = 0 if self.cached_input_microusd_per_mtok is None else cached_prompt_tokens
        billed = [
            ("request", 1, self.request_microusd, 1),
            ("input", prompt_tokens - cached, self.input_microusd_per_mtok, TOKENS_PER_MTOK),
            ("cached_input", cached, self.cached_input_microusd_per_mtok or 0, TOKENS_PER_MTOK),
            ("output", completion_tokens, self.output_microusd_per_mtok, TOKENS_PER_MTOK),
            ("pages", pages, self.page_microusd, 1),
        ]
        return [
            Line(name, units, price, per, self.cost(units, price, per, terms))
            for name, units, price, per in billed
            if price
        ]

    def charge_microusd(
        self,
        *,
        prompt_tokens: int,
        completion_tokens: int,
        pages: int,
        cached_prompt_tokens: int = 0,
        terms: Terms = STANDARD,
    ) -> int:
        """The cost of a usage: the sum of its lines."""
        return sum(
            line.microusd
            for line in self.lines(
                prompt_tokens=prompt_tokens,
                completion_tokens=completion_tokens,
                pages=pages,
                cached_prompt_tokens=cached_prompt_tokens,
                terms=terms,
            )
        )

    def ceiling_microusd(
        self, *, prompt_tokens: int, completion_tokens: int, pages: int, terms: Terms = STANDARD
    ) -> int:
        """The most any usage within these counts can cost: what is held.

        Every prompt token at the dearer of input and cached input. Where both have a price a prompt may come as two
        lines, each rounded up: one micro-USD more than as one.
        """
        dearer = max(self.input_microusd_per_mtok, self.cached_input)
        two_lines = prompt_tokens > 1 and bool(self.cached_input_microusd_per_mtok and self.input_microusd_per_mtok)
        return (
            self.charge_microusd(prompt_tokens=0, completion_tokens=completion_tokens, pages=pages, terms=terms)
            + self.cost(prompt_tokens, dearer, TOKENS_PER_MTOK, terms)
            + two_lines
        )
