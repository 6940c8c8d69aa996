"""What a job costs, line by line, and the energy it took."""

from __future__ import annotations

from dataclasses import dataclass

from apps.core import numbers
from apps.core.money import TOKENS_PER_MTOK, cost_microusd
from apps.jobs.pages import timeline
from apps.jobs.pages.progress import Progress


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the receipt. `field` names it on the socket."""

    field: str
    title: str
    sub: str
    microusd: int


class Receipt(Progress):
    @property
    def lines(self) -> list[Line]:
        price = self.job.price
        found = []
        if price.request_microusd:
            found.append(
                Line(
                    "request", "Request", "once", price.request_microusd if self.done or self.job.charge_microusd else 0
                )
            )
        if price.input_microusd_per_mtok or self.prompt_tokens:
            found.append(self._tokens("input", "Input", self.prompt_tokens, price.input_microusd_per_mtok))
        if self.job.kind == "chat":
            found.append(self._tokens("output", "Output", self.completion_tokens, price.output_microusd_per_mtok))
        if price.page_microusd:
            microusd = cost_microusd(units=self.pages, price_microusd=price.page_microusd)
            found.append(
                Line(
                    "pages",
                    "Pages",
                    f"{numbers.count(self.pages)} at {numbers.price(price.page_microusd)} each",
                    microusd,
                )
            )
        return found

    def _tokens(self, field: str, title: str, tokens: int, price_microusd: int) -> Line:
        microusd = cost_microusd(units=tokens, price_microusd=price_microusd, per=TOKENS_PER_MTOK)
        return Line(
            field, title, f"{numbers.count(tokens)} tok at {numbers.price(price_microusd)} per million", microusd
        )

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
        return {"ocr": "Per page", "chat": "Per 1k output tokens"}.get(self.job.kind, "Per 1k input tokens")

    @property
    def estimated(self) -> bool:
        return self.job.energy_quality in ("modelled", "nameplate")

    @property
    def energy_note(self) -> str:
        return self.job.get_energy_quality_display() if self.job.energy_quality else ""
