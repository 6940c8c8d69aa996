"""What a job costs, line by line, and the energy it took."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext, gettext_lazy

from apps.catalog import prices
from apps.catalog.models import Tier
from apps.catalog.prices import Price, Terms
from apps.core import numbers
from apps.jobs.pages import timeline
from apps.jobs.pages.progress import Progress


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the receipt. `field` names it on the socket."""

    field: str
    title: str
    sub: str
    microusd: int


TITLES = {
    "input": gettext_lazy("Input"),
    "cached_input": gettext_lazy("Cached input"),
    "output": gettext_lazy("Output"),
    "pages": gettext_lazy("Pages"),
}


class Receipt(Progress):
    @property
    def lines(self) -> list[Line]:
        """Each as it is charged: tier and discount are in it."""
        price = Price.of(self.job.price)
        bill = {
            line.name: line
            for line in price.lines(
                prompt_tokens=self.prompt_tokens,
                cached_prompt_tokens=self.cached_prompt_tokens,
                completion_tokens=self.completion_tokens,
                pages=self.pages,
                terms=Terms(self.job.tier, self.job.discount_basis_points),
            )
        }
        found = []
        if request := bill.get("request"):
            found.append(
                Line(
                    "request",
                    gettext("Request"),
                    "once",
                    request.microusd if self.done or self.job.charge_microusd else 0,
                )
            )
        if "input" in bill or (self.prompt_tokens and "cached_input" not in bill):
            found.append(self._tokens("input", bill, self.prompt_tokens))
        if "cached_input" in bill:
            found.append(self._tokens("cached_input", bill, 0))
        if self.job.writes:
            found.append(self._tokens("output", bill, self.completion_tokens))
        if pages := bill.get("pages"):
            sub = gettext("%(units)s at %(price_microusd)s each") % {
                "units": numbers.count(pages.units),
                "price_microusd": numbers.price(pages.price_microusd),
            }
            found.append(Line("pages", str(TITLES["pages"]), sub, pages.microusd))
        return found

    def _tokens(self, field: str, bill: dict[str, prices.Line], free: int) -> Line:
        """`free` is how many tokens there are where they have no price."""
        line = bill.get(field)
        tokens, price, microusd = (line.units, line.price_microusd, line.microusd) if line else (free, 0, 0)
        return Line(
            field,
            str(TITLES[field]),
            gettext("%(tokens)s tok at %(price)s per million")
            % {"tokens": numbers.count(tokens), "price": numbers.price(price)},
            microusd,
        )

    @property
    def terms(self) -> list[tuple[str, str]]:
        """What is in every line: the tier's share of the price, and the discount."""
        found = []
        if self.job.tier != Tier.STANDARD:
            share = numbers.basis_points(Price.of(self.job.price).tier_basis_points(self.job.tier))
            found.append((self.job.get_tier_display(), gettext("%(share)s of each price") % {"share": share}))
        if self.job.discount_basis_points:
            found.append(
                (
                    gettext("Discount"),
                    gettext("%(discount_basis_points)s off each price")
                    % {"discount_basis_points": numbers.basis_points(self.job.discount_basis_points)},
                )
            )
        return found

    @property
    def cost_microusd(self) -> int:
        """What is charged, or would be if it ended now."""
        if self.job.charge_microusd is not None:
            return self.job.charge_microusd
        return (
            min(self.job.hold_microusd, sum(line.microusd for line in self.lines))
            if self.done or self.prompt_tokens
            else 0
        )

    @property
    def decimals(self) -> int:
        """Of the money of this job once it has ended, so that its lines, charge and return add up."""
        return timeline.decimals_of(self.job, [line.microusd for line in self.lines])

    @property
    def returned_microusd(self) -> int:
        return self.job.hold_microusd - (self.job.charge_microusd or 0)

    @property
    def energy_each_wh(self) -> float | None:
        """For 1,000 tokens written (or, of embeddings, read), or for one page."""
        if self.job.energy_wh is None or not self.done:
            return None
        return self.job.energy_wh / self.done * (1 if self.job.kind == "ocr" else 1000)

    @property
    def energy_unit(self) -> str:
        if self.job.kind == "ocr":
            return gettext("Per page")
        return gettext("Per 1k output tokens") if self.job.writes else gettext("Per 1k input tokens")

    @property
    def estimated(self) -> bool:
        return self.job.energy_quality in ("modelled", "nameplate")

    @property
    def energy_note(self) -> str:
        return self.job.get_energy_quality_display() if self.job.energy_quality else ""
