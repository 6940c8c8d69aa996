"""Usage on the overview: of some days, and of today, with the bars of its hours up to now on an axis of the whole day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cached_property

from django.utils import timezone

from apps.accounts.times import written
from apps.jobs.pages.usage import Line, UsagePage

HOURS = 24
MARKED = 6  # hours between the marks of the axis


class DaysPage(UsagePage):
    """A usage page as a card of the overview."""

    @cached_property
    def lines(self) -> list[Line]:
        """Those that have a share: jobs that were cancelled before a site had them ran nowhere."""
        return [line for line in super().lines if self.measure.of(line.used)]

    @property
    def energy_wh_each(self) -> float | None:
        """Of a request that ended, on average."""
        used = self.total
        return used.energy_wh / used.requests if used.energy_wh is not None and used.requests else None

    @property
    def zooms(self) -> bool:
        return False


class DayPage(DaysPage):
    """Of "today" (UTC). Hours that have not come are room to the right of the line at now, and no zeros."""

    @cached_property
    def moments(self) -> list[str]:
        return [f"{self.start + timedelta(hours=n):%Y-%m-%dT%H:00}" for n in range(HOURS)]

    @property
    def now_x(self) -> str:
        """Where the dotted line stands (design guide, §9), in the units of the bars."""
        return f"{self.width * ((self.end - self.start) / timedelta(hours=HOURS)):.2f}"

    def moment_words(self, moment: str) -> str:
        """In the reader's zone."""
        at = datetime.fromisoformat(moment).replace(tzinfo=UTC)
        return written(timezone.localtime(at), "H:i")

    @property
    def times(self) -> list[str]:
        first, *rest = (self.moment_words(moment) for moment in self.moments[::MARKED])
        return [first, *rest, "24:00" if first == "00:00" else first]

    @property
    def table(self) -> list[tuple[str, str, list[str]]]:
        came = sum(datetime.fromisoformat(moment).replace(tzinfo=UTC) < self.end for moment in self.moments)
        return super().table[:came]
