"""What the usage page can measure, and the axis that holds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.utils.translation import gettext, gettext_noop

from apps.core import numbers
from apps.jobs.usage import Used

PLOT = 100.0  # the height of a chart, in its own units
MICRO = Decimal("0.000001")  # of a Wh or a gram: no smaller one is written


@dataclass(frozen=True, slots=True)
class Measure:
    """`name` and `counts` are in English. `least` is the smallest step of an axis, in what `of` gives."""

    name: str
    counts: str
    of: Callable[[Used], float]
    text: Callable[[Any], str]
    least: Decimal = Decimal(1)

    @property
    def title(self) -> str:
        return gettext(self.name)

    @property
    def unit(self) -> str:
        return gettext(self.counts)

    def axis(self, most: float) -> Axis:
        if not most:  # a part without bars, zoomed into
            return Axis(EMPTY, ["", "0"])
        marks = numbers.ticks(most, least=self.least)
        if self is MEASURES["spend"]:  # in words a mark below a cent would be "< $0.01"
            return Axis(float(marks[0]), numbers.money_ticks(marks))
        return Axis(float(marks[0]), [self.text(mark) if mark else "0" for mark in marks])


EMPTY = 2.0**-20  # the upper end of an axis that nothing stands at; steps of 1, 2 or 5 never end there


@dataclass(frozen=True, slots=True)
class Axis:
    """Its upper end, and what its marks say, from there down to 0, equally far apart."""

    top: float
    marks: list[str]

    @property
    def lines(self) -> list[str]:
        """Where the lines of the marks above 0 are, in hundredths of the plot."""
        steps = len(self.marks) - 1
        return [f"{PLOT * step / steps:.2f}" for step in range(steps)]


MEASURES = {
    "spend": Measure(
        gettext_noop("Spend"), "USD", lambda row: row.charge_microusd, lambda value: numbers.money(round(value))
    ),
    "tokens": Measure(
        gettext_noop("Tokens"),
        gettext_noop("input and output"),
        lambda row: row.tokens,
        lambda value: numbers.count(round(value)),
    ),
    "requests": Measure(
        gettext_noop("Requests"),
        gettext_noop("that ended"),
        lambda row: row.requests,
        lambda value: numbers.count(round(value)),
    ),
    "energy": Measure(
        gettext_noop("Energy"),
        gettext_noop("with host and cooling"),
        lambda row: row.energy_wh or 0.0,
        numbers.energy,
        least=MICRO,
    ),
    "carbon": Measure(
        gettext_noop("Carbon"),
        gettext_noop("CO₂ equivalent"),
        lambda row: row.carbon_gco2e or 0.0,
        numbers.carbon,
        least=MICRO,
    ),
}
