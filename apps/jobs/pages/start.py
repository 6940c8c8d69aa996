"""When jobs that wait are expected to start, in words: nothing is said where nothing is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from django.utils import timezone
from django.utils.translation import gettext

from apps.core.sql import Row
from apps.jobs import statements
from apps.jobs.pages.progress import left_in_words
from apps.scheduling import expecting, placement, selectors, starts
from apps.scheduling.placement import Candidate
from cango_portal import database


@dataclass(frozen=True, slots=True)
class Start:
    """`reason` is why it waits now; `at` when it is expected to start, None where nobody knows. `version` is that of the reading."""

    now: datetime
    version: int = 0
    reason: str = ""
    at: datetime | None = None
    deadline_at: datetime | None = None
    late: bool = False  # it was said to start sooner

    def after(self, said: Start | None) -> Start:
        """What was said before holds until it has passed; then it takes longer, and that is said from then on."""
        if said is None or said.at is None or self.at is None:
            return self
        if said.at > self.now:
            return replace(self, at=min(self.at, said.at), late=said.late)
        return replace(self, late=True)

    @property
    def words(self) -> str:
        if self.at is None:
            return ""
        if self.deadline_at and self.at > self.deadline_at:
            return gettext("Not expected to start before its deadline")
        left = left_in_words((self.at - self.now).total_seconds())
        if self.late:
            return gettext("Waits longer than expected, about %(left)s more") % {"left": left}
        return gettext("Expected to start in about %(left)s") % {"left": left}

    @property
    def sentence(self) -> str:
        """Before another."""
        return (gettext("%(why)s. %(then)s") % {"why": self.words, "then": ""}).strip() if self.words else ""


def expected(job_ids: Iterable[UUID], now: datetime | None = None) -> dict[UUID, Start]:
    """Of those that are queued. Two readings of the database and one of Redis, however many there are."""
    now = now or timezone.now()
    found: dict[UUID, list[Row]] = {}
    for row in database.run(statements.ahead(job_ids)):
        found.setdefault(row["id"], []).append(row)
    if not found:
        return {}
    models = {rows[0]["model_id"] for rows in found.values()}
    if len(models) == 1:
        (model,) = models
        pools = {model: database.run(selectors.views(model))}
    else:
        pools = database.run(selectors.views_by_model())
    paces = starts.read(now.timestamp(), {(rows[0]["model_id"], lane_of(rows[0])) for rows in found.values()})
    return {
        pk: start(
            rows,
            placement.rank(pools.get(rows[0]["model_id"], []), rows[0]["residency"]),
            paces.get((rows[0]["model_id"], lane_of(rows[0])), starts.Started()),
            now,
        )
        for pk, rows in found.items()
    }


class Kept:
    """What was read, for a list that is made anew far more often than starts move: of each job in a state once."""

    def __init__(self) -> None:
        self.read: dict[tuple[UUID, int], Start | None] = {}

    def expected(self, versions: Mapping[UUID, int]) -> dict[UUID, Start]:
        """Of jobs by id, each with its version."""
        asked = {pk: (pk, version) for pk, version in versions.items()}
        if missing := [pk for pk, key in asked.items() if key not in self.read]:
            found = expected(missing)
            self.read |= {asked[pk]: found.get(pk) for pk in missing}
        return {pk: start for pk, key in asked.items() if (start := self.read[key]) is not None}


def lane_of(row: Row) -> str:
    return starts.lane(row["tier"], shard=row["shard"])


def start(rows: list[Row], ranked: list[Candidate], started: starts.Started, now: datetime) -> Start:
    """`rows` are of one job: how many are ahead of it, by lane and rule of places."""
    mine = rows[0]
    open_to = [each.pool for each in placement.affordable(ranked, None)]
    ahead = Counter[str]()
    for row in rows:
        rule = None if row["rule"] is None else tuple(row["rule"])
        if row["lane"] is not None and any(not placement.barred(pool, rule) for pool in open_to):
            ahead[starts.lane(row["lane"], shard=row["shard"])] += row["count"]
    seconds = expecting.seconds(lane_of(mine), ahead, started, {pool.code for pool in open_to})
    at = None if seconds is None or mine["passed"] else now + timedelta(seconds=seconds)
    return Start(now, mine["at"], placement.waits(ranked), at, mine["deadline_at"])
