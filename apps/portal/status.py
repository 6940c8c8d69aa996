"""What /status/ shows: models by region, now and over ninety days, and what customers were told of incidents."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from apps.catalog import offers
from apps.core.sql import Plan
from apps.operations import availability
from apps.operations.availability import DAYS, Day, Where
from apps.operations.models import Incident
from apps.sites.models import Drain
from cango_portal import database

SHOWN = 50  # incidents, and updates in the feed
WELL = 0.999  # a day of which less was up is named


@dataclass(frozen=True, slots=True)
class Bar:
    """One day of a line. `day` is None where nobody looked: a gap, no zero. Bars stand on the line, as tall as their share."""

    at: date
    day: Day | None
    x: int

    @property
    def height(self) -> float:
        return 2.5 if self.day is None else round(max(10 * self.day.share, 1.5), 2)

    @property
    def kind(self) -> str:
        if self.day is None:
            return "none"
        return "up" if self.day.share >= WELL else "down" if self.day.share < 0.5 else "partly"


@dataclass(frozen=True, slots=True)
class Line:
    """A model in a region. `ready` is None where no site there serves it any more."""

    country: str
    region: str
    ready: bool | None
    bars: list[Bar]

    @property
    def known(self) -> list[Bar]:
        return [bar for bar in self.bars if bar.day]

    @property
    def drawn(self) -> dict[str, str]:
        """A path for each kind of day, a unit a day: a page has many lines of many days."""
        paths: dict[str, str] = {}
        for bar in self.bars:
            path = f"M{bar.x}.15 10v-{bar.height:g}h.7v{bar.height:g}z"
            paths[bar.kind] = paths.get(bar.kind, "") + path
        return paths

    @property
    def share(self) -> float | None:
        looks = sum(bar.day.looks for bar in self.known if bar.day)
        return sum(bar.day.up for bar in self.known if bar.day) / looks if looks else None

    @property
    def bad(self) -> list[Bar]:
        """Days below `WELL`, newest first."""
        return [bar for bar in reversed(self.known) if bar.kind != "up"]


@dataclass(frozen=True, slots=True)
class Served:
    title: str
    name: str
    lines: list[Line]

    @property
    def publisher(self) -> str:
        return self.name.partition("/")[0]

    @property
    def short(self) -> str:
        return self.name.partition("/")[2]

    @property
    def ready(self) -> bool:
        return any(line.ready for line in self.lines)


@dataclass(frozen=True, slots=True)
class Bad:
    """A day of a line below `WELL`."""

    title: str
    line: Line
    bar: Bar


@dataclass(frozen=True, slots=True)
class Maintenance:
    site: str
    starts_at: datetime
    ends_at: datetime | None


@dataclass(frozen=True, slots=True)
class Status:
    at: datetime
    models: list[Served]
    open: list[Incident]
    past: list[Incident]
    maintenance: list[Maintenance]

    @property
    def days(self) -> int:
        return DAYS

    @property
    def incidents(self) -> list[Incident]:
        return [*self.open, *self.past]

    @property
    def bad(self) -> list[Bad]:
        """Days below `WELL` of any line, newest first."""
        found = [Bad(each.title, line, bar) for each in self.models for line in each.lines for bar in line.bad]
        return sorted(found, key=lambda each: each.bar.at, reverse=True)[:SHOWN]

    @property
    def away(self) -> int:
        """Models that take no work anywhere."""
        return sum(not each.ready for each in self.models)

    @property
    def narrowed(self) -> int:
        """Regions in which a model that works elsewhere takes no work."""
        return sum(line.ready is False for each in self.models if each.ready for line in each.lines)


def models(today: date) -> Plan[list[Served]]:
    now = yield from availability.now()
    history = yield from availability.history()
    days = [today - timedelta(days=back) for back in reversed(range(DAYS))]
    served = []
    for offer in (yield from offers.offers()):
        wheres = sorted({where for where in (*now, *history) if where.model_id == offer.model_id})
        lines = [line(where, now.get(where), history.get(where, {}), days) for where in wheres]
        served.append(Served(offer.title, offer.name, lines))
    return served


def line(where: Where, ready: bool | None, history: dict[date, Day], days: list[date]) -> Line:
    bars = [Bar(at, history.get(at), number) for number, at in enumerate(days)]
    return Line(where.country, where.region, ready, bars)


def public() -> list[Incident]:
    """Incidents that customers know of, newest first, with models and updates."""
    since = datetime.now(UTC) - timedelta(days=DAYS)
    found = Incident.objects.public().filter(began_at__gte=since) | Incident.objects.public().open()
    return list(found.prefetch_related("updates", "affected").order_by("-began_at", "-pk")[:SHOWN])


def maintenance() -> list[Maintenance]:
    """Announced and not over, the next one first; several nodes of a site at the same time are one."""
    drains = Drain.objects.filter(announced_at__isnull=False, ended_at__isnull=True).select_related("node__site")
    found = {(each.node.site.name, each.starts_at): each.ends_at for each in drains.order_by("starts_at")[:SHOWN]}
    return [Maintenance(site, starts_at, ends_at) for (site, starts_at), ends_at in found.items()]


def status() -> Status:
    at = datetime.now(UTC)
    incidents = public()
    return Status(
        at,
        database.run(models(at.date())),
        [each for each in incidents if each.ended_at is None],
        [each for each in incidents if each.ended_at is not None],
        maintenance(),
    )
