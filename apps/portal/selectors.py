"""What the catalog and the overview show: reads that join apps."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any

from django.core.cache import cache
from django.utils.translation import gettext, gettext_lazy

from apps.accounts.models import Organization
from apps.catalog import offers
from apps.catalog.models import Model
from apps.catalog.offers import Offer
from apps.core import numbers
from apps.core.sql import Plan, Statement
from apps.jobs import usage
from apps.jobs.models import FINAL, Job
from apps.jobs.pages import history
from apps.jobs.pages.history import Row
from apps.jobs.pages.job import JobPage
from apps.jobs.pages.measures import Axis
from apps.jobs.usage import Used
from apps.keys.models import APIKey
from apps.ledger import budgets, limits
from apps.ledger.limits import Spent
from apps.operations import availability
from apps.portal.span import Span
from apps.runner.protocol import WRITES
from apps.scheduling import placement
from apps.scheduling import selectors as scheduling
from apps.scheduling.placement import PoolView
from cango_portal import database

RECENT_JOBS = 2_000  # what a model's energy and speed are taken from: the newest jobs of all customers together
WALKED_JOBS = 20_000  # of an organization, at most, to find its answers in text
LISTED = 10
USUAL, USUAL_SECONDS = timedelta(days=7), 3600
AHEAD = timedelta(minutes=5)  # by so much the database's clock may be
LONGEST_JOB = timedelta(days=2)  # deadline and run time of any job that can still end today

MEASURED = """
SELECT model_id, count(*) AS jobs,
    sum(energy_wh) AS energy_wh,
    sum(prompt_tokens + completion_tokens) FILTER (WHERE energy_wh IS NOT NULL) AS tokens,
    sum(pages) FILTER (WHERE energy_wh IS NOT NULL) AS pages,
    bool_or(energy_quality IN ('modelled', 'nameplate')) AS estimated,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM first_token_at - created_at)::float8)
        FILTER (WHERE first_token_at IS NOT NULL AND streaming) AS first_token_seconds,
    sum(completion_tokens) FILTER (WHERE finished_at > first_token_at)
        / NULLIF(sum(extract(epoch FROM finished_at - first_token_at)) FILTER (WHERE finished_at > first_token_at), 0)::float8
        AS tokens_per_second
FROM (SELECT * FROM jobs_job WHERE state = 'succeeded' AND batch_id IS NULL ORDER BY id DESC LIMIT %(recent)s) recent
GROUP BY model_id
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """Over a model's recent jobs. `energy_wh` is for 1,000 tokens, for OCR one page; None where nothing was measured."""

    energy_wh: float | None = None
    estimated: bool = False
    first_token_seconds: float | None = None
    tokens_per_second: float | None = None
    jobs: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """A site that serves a model."""

    name: str
    region: str
    country: str
    ready: bool
    reason: str


# By the names of `Capability`.
ABILITIES = {
    "tools": gettext_lazy("Tools"),
    "image_input": gettext_lazy("Vision"),
    "reasoning_effort": gettext_lazy("Reasoning"),
}


@dataclass(frozen=True, slots=True)
class Listing:
    """One line of the catalog."""

    offer: Offer
    places: list[Place]
    measured: Measured

    @property
    def publisher(self) -> str:
        return self.offer.name.partition("/")[0]

    @property
    def name(self) -> str:
        return self.offer.name.partition("/")[2]

    @property
    def kind(self) -> str:
        return str(Model.Kind(self.offer.kind).label)

    @property
    def ready(self) -> int:
        return sum(place.ready for place in self.places)

    @property
    def tags(self) -> list[str]:
        """Its kind, and what it can do that others of its kind may not."""
        return [self.kind, *(str(label) for value, label in ABILITIES.items() if value in self.offer.capabilities)]


def _measured() -> Plan[dict[int, Measured]]:
    rows = yield Statement(MEASURED, {"recent": RECENT_JOBS})
    return {
        row["model_id"]: Measured(
            energy_wh=_each(row["energy_wh"], row["tokens"], row["pages"]),
            estimated=bool(row["estimated"]),
            first_token_seconds=row["first_token_seconds"],
            tokens_per_second=row["tokens_per_second"],
            jobs=row["jobs"],
        )
        for row in rows
    }


def _each(energy_wh: float | None, tokens: int | None, pages: int | None) -> float | None:
    if energy_wh is None:
        return None
    if pages:
        return energy_wh / int(pages)
    return energy_wh / int(tokens) * 1000 if tokens else None


def _places(views: Iterable[PoolView]) -> list[Place]:
    """Each site once; it is ready where one of its pools may take work now."""
    found: dict[str, Place] = {}
    for view in views:
        refusal = placement.refusal(view)
        if view.site not in found or not refusal:
            found[view.site] = Place(view.site, view.region, view.country, not refusal, refusal)
    return sorted(found.values(), key=lambda place: (not place.ready, place.name))


def _catalog() -> Plan[list[Listing]]:
    offered = yield from offers.offers()
    measured = yield from _measured()
    pools = yield from scheduling.views_by_model()
    return [
        Listing(offer, _places(pools.get(offer.model_id, ())), measured.get(offer.model_id, Measured()))
        for offer in offered
    ]


def catalog() -> list[Listing]:
    return database.run(_catalog())


def _listing(name: str) -> Plan[Listing | None]:
    offer = yield from offers.offer(name)
    if offer is None:
        return None
    places = _places((yield from scheduling.views(offer.model_id)))
    measured = yield from _measured()
    return Listing(offer, places, measured.get(offer.model_id, Measured()))


def listing(name: str) -> Listing | None:
    """The model of that name, or None where it is not on offer."""
    return database.run(_listing(name))


# The newest answers that somebody waited for; in text to the first token, else to the end.
LAST_DAY = """
SELECT s.country, s.region, count(*)::int AS answers,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS p50, percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds) AS p95
FROM (
    SELECT pool_id, extract(epoch FROM CASE WHEN %(writes)s THEN first_token_at ELSE finished_at END - created_at)::float8 AS seconds
    FROM jobs_job
    WHERE model_id = %(model)s AND id >= %(first)s AND batch_id IS NULL AND interactive AND state = 'succeeded'
      AND (NOT %(writes)s OR streaming AND first_token_at IS NOT NULL)
    ORDER BY id DESC LIMIT %(recent)s
) recent JOIN sites_pool p ON p.id = recent.pool_id JOIN sites_node n ON n.id = p.node_id JOIN sites_site s ON s.id = n.site_id
GROUP BY s.country, s.region
"""


@dataclass(frozen=True, slots=True)
class Region:
    """A model in a region over the last day. `ready` is None where no site there serves it any more; `up` None where nobody looked.

    `p50` and `p95` are seconds to the first token of an answer in text, else to the end; None without answers.
    """

    country: str
    region: str
    ready: bool | None
    up: availability.Day | None
    answers: int = 0
    p50: float | None = None
    p95: float | None = None


def regions(listing: Listing, *, now: datetime) -> list[Region]:
    """Where it is served, or was within the day."""
    return database.run(_regions(listing, now))


def _regions(listing: Listing, now: datetime) -> Plan[list[Region]]:
    ready: dict[tuple[str, str], bool] = {}
    for place in listing.places:
        where = place.country, place.region
        ready[where] = ready.get(where, False) or place.ready
    up = yield from availability.last_hours(listing.offer.model_id)
    params = {
        "model": listing.offer.model_id,
        "first": first_id(now - timedelta(days=1)),
        "writes": listing.offer.kind in WRITES,
        "recent": RECENT_JOBS,
    }
    rows = yield Statement(LAST_DAY, params, alone=True)
    answered = {(row.pop("country"), row.pop("region")): row for row in rows}
    return [
        Region(*where, ready.get(where), up.get(where), **answered.get(where, {}))
        for where in sorted({*ready, *up, *answered})
    ]


@dataclass(frozen=True, slots=True)
class Figures:
    """Of an organization, from a midnight of UTC to now.

    `energy_wh_per_ktok` is of models that count tokens, input and output together; `energy_wh` of all, pages too.
    """

    spend_microusd: int
    requests: int
    failed: int
    energy_wh: float | None
    energy_wh_per_ktok: float | None
    estimated: bool
    failed_share: float = 0  # of those that ended
    limit: Spent | None = None  # the organization's daily limit, where there is one; of today
    usual_wh_per_ktok: float | None = None  # of the seven days before, where they are no more than that themselves

    @property
    def against_usual(self) -> str:
        """How the energy of 1,000 tokens stands against the days before; empty where either is not known."""
        if self.energy_wh_per_ktok is None or not self.usual_wh_per_ktok:
            return ""
        change = round(self.energy_wh_per_ktok / self.usual_wh_per_ktok * 100) - 100
        if not change:
            return gettext("as in the week before")
        words = (
            gettext("%(percent)s%% more than in the week before")
            if change > 0
            else gettext("%(percent)s%% less than in the week before")
        )
        return words % {"percent": numbers.count(abs(change))}


def first_id(at: datetime) -> uuid.UUID:
    """No job created at that time or later has a smaller id: ids begin with their milliseconds."""
    return uuid.UUID(int=int(at.timestamp() * 1000) << 80)


def figures(organization: Organization, *, span: Span, now: datetime) -> Figures:
    """From the sums of hours, so that a day of a million jobs is read as one of ten. What runs now is a request too."""
    start = span.start(now)
    rows = database.run(usage.used(organization.pk, start=start, end=now + AHEAD, groups=("model",)))
    total = usage.total(rows)
    spent = limits.spent(budgets.budget_of_organization(organization), now) if span.is_today else []
    return Figures(
        spend_microusd=total.charge_microusd,
        requests=total.requests + Job.objects.of(organization).open().count(),
        failed=total.failed,
        energy_wh=total.energy_wh,
        energy_wh_per_ktok=wh_per_ktok(rows),
        usual_wh_per_ktok=usual_wh_per_ktok(organization, start) if span.days <= USUAL.days else None,
        estimated=total.estimated,
        failed_share=total.failed / total.requests if total.requests else 0,
        limit=next((each for each in spent if each.window.period == "daily" and each.percent is not None), None),
    )


def wh_per_ktok(rows: Iterable[Used]) -> float | None:
    metered = usage.total(row for row in rows if row.energy_wh is not None and row.tokens)
    return metered.energy_wh / metered.tokens * 1000 if metered.energy_wh is not None else None


def usual_wh_per_ktok(organization: Organization, midnight: datetime) -> float | None:
    """Of the seven days before. They are over, and the overview is read once a second: it is kept for a while."""
    name = f"usual-energy:{organization.pk}:{midnight:%Y-%m-%d}"
    known: float | None = cache.get(name)
    if known is None:
        week = database.run(usage.used(organization.pk, start=midnight - USUAL, end=midnight, groups=("model",)))
        known = wh_per_ktok(week) or 0.0
        cache.set(name, known, USUAL_SECONDS)
    return known or None


# What is not of the day is left out only after the newest are found: PostgreSQL would read the whole day for them. And answers in text are
# looked for among so many jobs: who sends embeddings or batches alone has a day of them without one.
LATENCY = """
SELECT CASE WHEN GROUPING(part) = 0 THEN part END AS part, count(*) AS jobs,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS p50, percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds) AS p95,
    (sum(tokens) / NULLIF(sum(writing), 0))::float8 AS tokens_per_second
FROM (
    SELECT greatest(floor(extract(epoch FROM first_token_at - %(midnight)s::timestamptz) / %(part)s), 0)::int AS part,
        extract(epoch FROM first_token_at - created_at)::float8 AS seconds, completion_tokens AS tokens,
        extract(epoch FROM greatest(finished_at - first_token_at, interval '0'))::float8 AS writing, finished_at
    FROM (
        SELECT id, kind, batch_id, created_at, first_token_at, finished_at, completion_tokens FROM jobs_job
        WHERE organization_id = %(organization)s AND id >= %(first)s
        ORDER BY id DESC LIMIT %(walked)s
    ) walked
    WHERE batch_id IS NULL AND first_token_at IS NOT NULL AND kind = ANY(%(kinds)s)
    ORDER BY id DESC LIMIT %(recent)s
) newest
WHERE finished_at >= %(midnight)s
GROUP BY GROUPING SETS ((), (part)) ORDER BY part NULLS FIRST
"""
LATENCY_PART = timedelta(minutes=15)
MILLISECOND = Decimal("0.001")


@dataclass(frozen=True, slots=True)
class Quarter:
    """The answers whose first token came in a quarter of an hour."""

    at: datetime
    jobs: int
    p50: float
    p95: float


@dataclass(frozen=True)
class Latency:
    """Of the newest RECENT_JOBS answers in text, those that ended today: from admission to the first token, and how fast the rest came.

    They are looked for among the newest WALKED_JOBS jobs of every kind, those of batches too: what is older is left out.
    `quarters` without answers are left out. The day begins at `start`, and is known until `end`.
    """

    start: datetime
    end: datetime
    jobs: int
    p50: float | None
    p95: float | None
    tokens_per_second: float | None
    quarters: list[Quarter]

    @cached_property
    def axis(self) -> Axis:
        marks = numbers.ticks(max((each.p95 for each in self.quarters), default=0), least=MILLISECOND)
        return Axis(float(marks[0]), [numbers.latency(mark) if mark else "0" for mark in marks])

    @property
    def paths(self) -> list[tuple[str, str]]:
        """Class and path of each line, and of the quarters that stand alone; p95 first, p50 over it."""
        p95, p50 = ([(each.at, getattr(each, name)) for each in self.quarters] for name in ("p95", "p50"))
        return [("line line-2", self._path(p95)), ("line line-2 line-alone", self._path(p95, alone=True)),
                ("line", self._path(p50)), ("line line-alone", self._path(p50, alone=True))]  # fmt: skip

    @property
    def slowest(self) -> Quarter | None:
        return max(self.quarters, key=lambda each: each.p95, default=None)

    def _path(self, points: list[tuple[datetime, float]], *, alone: bool = False) -> str:
        """In hundredths of the plot. A quarter without answers is a gap; dots are those between two gaps."""
        at_all = {at for at, _ in points}
        said = []
        for at, seconds in points:
            before, after = at - LATENCY_PART in at_all, at + LATENCY_PART in at_all
            if alone == (before or after):
                continue
            x = min((at + LATENCY_PART / 2 - self.start) / (self.end - self.start), 1) * 100  # the last one is not over
            said.append(
                f"{'L' if before else 'M'}{x:.2f} {100 - seconds / self.axis.top * 100:.2f}{'h0' if alone else ''}"
            )
        return "".join(said)


def latency(organization: Organization, *, now: datetime) -> Latency:
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    params = {
        "organization": organization.pk,
        "first": first_id(midnight - LONGEST_JOB),
        "midnight": midnight,
        "kinds": list(WRITES),
        "recent": RECENT_JOBS,
        "walked": WALKED_JOBS,
        "part": LATENCY_PART.total_seconds(),
    }
    return database.run(_latency(params, now))


def _latency(params: dict[str, Any], now: datetime) -> Plan[Latency]:
    whole, *parts = yield Statement(LATENCY, params)
    midnight = params["midnight"]
    quarters = [
        Quarter(midnight + each["part"] * LATENCY_PART, each["jobs"], each["p50"], each["p95"]) for each in parts
    ]
    return Latency(midnight, now, whole["jobs"], whole["p50"], whole["p95"], whole["tokens_per_second"], quarters)


def clock() -> Plan[int]:
    """The database's time in µs: the version of what is read after it, on the page's socket."""
    rows = yield Statement("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS at")
    at: int = rows[0]["at"]
    return at


@dataclass(frozen=True, slots=True)
class Overview:
    """What ended or was refused last, and how far a new customer has come."""

    latest: list[Row]
    key: APIKey | None
    began: bool  # a request has succeeded, be it a row of a batch


def overview(organization: Organization) -> Overview:
    jobs = Job.objects.of(organization).select_related("model", "price", "api_key", "pool__node__site").order_by("-pk")
    latest = list(jobs.filter(state__in=FINAL)[:LISTED])
    succeeded = Job.objects.filter(organization=organization, state=Job.State.SUCCEEDED)
    rows = [Row(int(job.pk), page=JobPage(job)) for job in latest]
    rows = sorted([*rows, *history.refused(organization, most=LISTED)], key=lambda row: row.key, reverse=True)
    return Overview(
        latest=rows[:LISTED],
        began=any(job.state == Job.State.SUCCEEDED for job in latest) or succeeded.exists(),
        key=APIKey.objects.active().filter(organization=organization).first(),
    )
