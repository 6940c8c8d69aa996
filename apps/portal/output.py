"""How many tokens an organization's jobs write a second, over the last ten minutes: what the overview calls "Output now".

A job's tokens are spread evenly over the time it wrote in: of one that ended, from its first token to its end; of one that runs, what
its stream counts so far, from its start to now; of a running shard, the rows that came. So a long answer counts while it is written.
What is read is bounded, whatever an organization's history: the newest that ended, and what runs now.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

from apps.core import numbers
from apps.core.sql import Plan, Row, Statement
from apps.jobs.pages.written import Written
from apps.runner import protocol
from cango_portal import database, valkey

log = logging.getLogger(__name__)

PART = timedelta(seconds=10)
PARTS = 60
NOW_PARTS = 6  # the last minute is now
ENDED = 10_000  # jobs that are looked at, at most, the newest first: 16 a second for ten minutes
RUNNING = 500
WIDTH, HEIGHT, MARGIN = 100, 32, 2.0  # of the spark

RUNS = """
SELECT j.id, j.attempt, j.started_at, j.batch_id IS NOT NULL AS shard, p.code AS pool,
    CASE WHEN j.batch_id IS NOT NULL THEN (
        SELECT coalesce(sum(r.completion_tokens), 0) FROM batches_row r WHERE r.job_id = j.id AND r.at >= j.started_at
    ) END::bigint AS tokens
FROM jobs_job j JOIN sites_pool p ON p.id = j.pool_id
WHERE j.organization_id = %(organization)s AND j.state IN ('queued', 'dispatched', 'running') AND j.state = 'running'
    AND j.kind = ANY(%(kinds)s) AND j.started_at IS NOT NULL
LIMIT %(most)s
"""
# Those without tokens are left out only after the newest are found: PostgreSQL would read all of the ten minutes for them.
SPREAD = """
WITH newest AS (
    SELECT id, completion_tokens AS tokens, coalesce(first_token_at, started_at, finished_at) AS began, finished_at AS ended
    FROM jobs_job WHERE organization_id = %(organization)s AND finished_at > %(start)s
    ORDER BY finished_at DESC LIMIT %(most)s
), writing AS (
    SELECT tokens, least(began, ended - interval '10 milliseconds') AS began, ended FROM newest WHERE tokens > 0
    UNION ALL
    SELECT tokens, least(began, %(now)s::timestamptz - interval '10 milliseconds'), %(now)s::timestamptz
    FROM unnest(%(ids)s::uuid[], %(tokens)s::bigint[], %(began)s::timestamptz[]) AS running (id, tokens, began)
    WHERE tokens > 0 AND NOT EXISTS (SELECT FROM newest WHERE newest.id = running.id)
), parted AS (
    SELECT tokens, extract(epoch FROM began - %(start)s::timestamptz)::float8 AS began,
        extract(epoch FROM ended - %(start)s::timestamptz)::float8 AS ended FROM writing
), sums AS (
    SELECT part, sum(tokens * (least(ended, (part + 1) * %(part)s) - greatest(began, part * %(part)s)) / (ended - began))::float8 AS tokens
    FROM parted, generate_series(greatest(floor(began / %(part)s), 0)::int, least(ceil(ended / %(part)s)::int, %(parts)s) - 1) AS part
    GROUP BY part
)
SELECT cut, part, tokens
FROM (SELECT CASE WHEN count(*) = %(most)s THEN min(ended) END AS cut FROM newest) looked LEFT JOIN sums ON true
"""


@dataclass(frozen=True, slots=True)
class Output:
    """Tokens per second. `rates` is of each part, the oldest first; None where so many jobs ended since that it was not looked at.

    `streamed`: what runs now is in it; else it is of jobs that ended alone, for Valkey is away.
    """

    per_second: float
    rates: Sequence[float | None]
    streamed: bool
    runs: bool  # something that writes runs now

    @property
    def moves(self) -> bool:
        """It will be another one by itself, though nothing begins or ends."""
        return self.runs or self.most > 0

    @property
    def figure(self) -> str:
        """Without its unit."""
        return numbers.rate_parts(self.per_second)[0]

    @property
    def known(self) -> list[float]:
        return [rate for rate in self.rates if rate is not None]

    @property
    def least(self) -> float:
        return min(self.known, default=0.0)

    @property
    def most(self) -> float:
        return max(self.known, default=0.0)

    @property
    def points(self) -> list[tuple[float, float]]:
        """In the spark, from its bottom at 0 to the highest rate."""
        step, high = WIDTH / (len(self.rates) - 1), self.most or 1.0
        return [
            (n * step, HEIGHT - (HEIGHT - MARGIN) * rate / high)
            for n, rate in enumerate(self.rates)
            if rate is not None
        ]

    @property
    def line(self) -> str:
        return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in self.points)

    @property
    def area(self) -> str:
        points = self.points
        return f"{self.line}L{points[-1][0]:.1f} {HEIGHT}L{points[0][0]:.1f} {HEIGHT}Z"

    @property
    def dot(self) -> str:
        x, y = self.points[-1]
        return f"M{x:.1f} {y:.1f}h0"


def read(organization_id: UUID, *, now: datetime) -> Output:
    runs = database.run(_runs(organization_id))
    tokens = written([run for run in runs if not run["shard"]])
    for run in runs:
        if run["shard"]:
            continue
        run["tokens"] = tokens.get(run["id"], 0) if tokens is not None else 0
    return database.run(_output(organization_id, runs, now, streamed=tokens is not None))


def _runs(organization_id: UUID) -> Plan[list[Row]]:
    params = {"organization": organization_id, "kinds": list(protocol.WRITES), "most": RUNNING}
    return list((yield Statement(RUNS, params)))


def written(runs: Sequence[Row]) -> dict[UUID, int] | None:
    """What each stream counts so far: the last entry says it. None where Valkey is away."""
    if not runs:
        return {}
    try:
        with valkey.client().pipeline(transaction=False) as pipe:
            for run in runs:
                pipe.xrevrange(protocol.stream(run["pool"], str(run["id"]), run["attempt"]), count=1)
            answers = cast("list[list[tuple[str, dict[str, Any]]]]", pipe.execute())
    except valkey.Away as error:
        log.warning("streams cannot be read", extra={"error": type(error).__name__})
        return None
    found = {}
    for run, entries in zip(runs, answers, strict=True):
        last = Written()
        for entry_id, fields in entries:
            last.take(entry_id, fields)
        found[run["id"]] = last.usage.completion_tokens
    return found


def _output(organization_id: UUID, runs: Sequence[Row], now: datetime, *, streamed: bool) -> Plan[Output]:
    start = now - PART * PARTS
    rows = yield Statement(
        SPREAD,
        {
            "organization": organization_id,
            "start": start,
            "now": now,
            "part": PART.total_seconds(),
            "parts": PARTS,
            "most": ENDED,
            "ids": [run["id"] for run in runs],
            "tokens": [run["tokens"] for run in runs],
            "began": [run["started_at"] for run in runs],
        },
    )
    wrote = {row["part"]: row["tokens"] for row in rows}
    cut = rows[0]["cut"]
    first = 0 if cut is None else min(int((cut - start) / PART), PARTS - 1)
    seconds = PART.total_seconds()
    rates = [wrote.get(part, 0.0) / seconds if part >= first else None for part in range(PARTS)]
    last = [rate for rate in rates[-NOW_PARTS:] if rate is not None]
    return Output(sum(last) / len(last), rates, streamed, bool(runs))
