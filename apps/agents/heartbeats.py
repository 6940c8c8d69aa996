"""Heartbeats of many runners, written together: one transaction for whatever arrived in a short while.

Leases are extended by the database clock in one UPDATE, whether or not Redis is there.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import psycopg
from django.conf import settings
from psycopg.errors import DataError
from psycopg.types.json import Jsonb
from pydantic import ValidationError

from apps.core.errors import InvalidRequest
from apps.core.ids import public
from apps.core.sql import Plan, Row, Statement
from apps.live import bell
from apps.runner.protocol import Attempt, Heartbeat, HeartbeatAnswer, Wanted
from apps.sites import enrolment
from apps.sites import statements as sites
from apps.sites.enrolment import Right
from apps.telemetry import newest
from cango_portal import database

log = logging.getLogger(__name__)

LISTEN_SECONDS = 1.0
GATHER_SECONDS = 0.5  # how long a beat waits for others before all are written; with 0.1 each costs a third more
SHOW_SECONDS = 0.05  # that Redis may keep beats from being written
OVERDUE_SECONDS = 300  # past its order's deadline a runner has stopped and reported; after this its lease runs out

# Near the deadline of a node's drain its leases are not extended, so that the last of them has run out by then.
EXTEND = """
WITH lease AS (
    SELECT * FROM jsonb_to_recordset(%(leases)s) AS (node bigint, claimant text, job uuid, attempt int, fence uuid, done int, total int)
), locked AS MATERIALIZED (
    SELECT lease.* FROM lease JOIN jobs_job j ON j.id = lease.job ORDER BY j.id FOR NO KEY UPDATE OF j
), extended AS (
    UPDATE jobs_job j SET
        lease_expires_at = clock_timestamp()
            + make_interval(secs => CASE WHEN j.batch_id IS NULL THEN %(seconds)s ELSE %(shard_seconds)s END),
        claimant = lease.claimant,
        version = j.version + CASE WHEN lease.done > j.pages AND j.kind = 'ocr' THEN 1 ELSE 0 END,
        pages = CASE WHEN j.kind = 'ocr' THEN greatest(j.pages, coalesce(lease.done, 0)) ELSE j.pages END
    FROM locked AS lease JOIN sites_pool p ON p.node_id = lease.node
    WHERE j.id = lease.job AND j.pool_id = p.id AND j.attempt = lease.attempt AND j.fence = lease.fence
      AND j.state IN ('dispatched', 'running') AND j.claimant IN ('', lease.claimant)
      AND j.dispatched_at > clock_timestamp() - make_interval(secs => %(run_seconds)s)
      AND NOT EXISTS (
        SELECT FROM sites_drain d WHERE d.node_id = lease.node AND d.open
          AND d.deadline_at < clock_timestamp() + make_interval(secs => %(seconds)s)
      )
    RETURNING j.id, j.attempt, j.cancel_requested_at IS NOT NULL AS cancelled, j.organization_id, lease.node, lease.claimant, j.kind
)
SELECT lease.node, lease.claimant, lease.job, lease.attempt, extended.id IS NULL AS lost, coalesce(extended.cancelled, false) AS cancelled, extended.kind
FROM lease LEFT JOIN extended ON extended.id = lease.job AND extended.attempt = lease.attempt AND extended.node = lease.node
    AND extended.claimant = lease.claimant
WHERE extended.id IS NULL OR extended.cancelled OR extended.kind = 'ocr'
"""
NOTHING = HeartbeatAnswer()


@dataclass(slots=True)
class Beat:
    """`node_id` is known once the flush has asked whose right it came with. Each call that waits has its own of `answers`."""

    right: Right
    heartbeat: Heartbeat
    answers: list[asyncio.Future[HeartbeatAnswer]]
    node_id: int = 0

    def answer(self, said: HeartbeatAnswer) -> None:
        for waiting in self.answers:
            if not waiting.done():
                waiting.set_result(said)

    def fail(self, error: Exception) -> None:
        for waiting in self.answers:
            if not waiting.done():
                waiting.set_exception(error)


def take(beats: list[Beat]) -> Plan[list[Row]]:
    """Write beats and extend their leases. Returns a row for each lease that was lost or is to be cancelled, and of pages read."""
    leases = [
        {"node": beat.node_id, "claimant": beat.heartbeat.claimant, **vars(lease)}
        for beat in beats
        for lease in beat.heartbeat.leases
    ]
    rows: list[Row] = []
    if leases:
        rows = yield Statement(
            EXTEND,
            {
                "leases": Jsonb(leases),
                "seconds": settings.INTERACTIVE_LEASE_SECONDS,
                "shard_seconds": settings.SHARD_LEASE_SECONDS,
                "run_seconds": settings.RUN_SECONDS + OVERDUE_SECONDS,
            },
        )
    changed = yield from sites.beat(
        nodes=[{"node": b.node_id, "claimant": b.heartbeat.claimant, "power_w": b.heartbeat.power_w} for b in beats],
        pools=[{"node": b.node_id, **vars(p)} for b in beats for p in b.heartbeat.pools],
    )
    if changed:
        yield Statement("SELECT pg_notify('dispatch', '')")  # a pool became ready: the backlog may move
    return rows


class Collector:
    """Gathers the beats of one event loop."""

    def __init__(self) -> None:
        self.beats: dict[tuple[Right, str], Beat] = {}
        self.flushing: asyncio.Task[None] | None = None

    async def add(self, right: Right, heartbeat: Heartbeat) -> HeartbeatAnswer:
        """Answered when the beat is in PostgreSQL. A process's newer beat takes the place of one still waiting.

        Whose right it is, and whether its node may speak now, is asked for all beats of a flush together. Raises
        NotAuthenticated, and InvalidRequest where PostgreSQL cannot read it; that keeps no other node's beat back.
        """
        key = right, heartbeat.claimant
        waiting = self.beats.get(key)
        answers = waiting.answers if waiting else []
        answer: asyncio.Future[HeartbeatAnswer] = asyncio.get_running_loop().create_future()
        answers.append(answer)
        self.beats[key] = Beat(right, heartbeat, answers)
        if self.flushing is None:
            self.flushing = asyncio.create_task(self.flush())
        return await answer

    async def flush(self) -> None:
        await asyncio.sleep(GATHER_SECONDS)
        beats, self.beats, self.flushing = list(self.beats.values()), {}, None
        try:
            beats = await known(beats)
        except Exception as error:
            fail(beats, error)
            return
        if not beats:
            return
        showing = asyncio.create_task(
            newest.keep({beat.node_id: beat.heartbeat.reading for beat in beats if beat.heartbeat.reading})
        )
        await asyncio.wait({showing}, timeout=SHOW_SECONDS)
        await self.write(beats)
        await showing

    async def write(self, beats: list[Beat]) -> None:
        try:
            rows = await database.run_async(take(beats))
        except DataError as error:
            if len(beats) > 1:  # one of them is malformed: each for itself
                for beat in beats:
                    await self.write([beat])
            else:
                log.error("a heartbeat cannot be written", extra={"node": beats[0].node_id, "error": str(error)})
                beats[0].fail(InvalidRequest("A value of this heartbeat cannot be stored."))
            return
        except Exception as error:
            fail(beats, error)
            return
        told: dict[tuple[int, str], list[Row]] = {}
        for row in rows:
            if row["lost"] or row["cancelled"]:
                told.setdefault((row["node"], row["claimant"]), []).append(row)
        wanted = await self.wanted(beats)
        for beat in beats:
            key = beat.node_id, beat.heartbeat.claimant
            if key in told or key in wanted:
                mine = told.get(key, ())
                stop = [attempt(row) for row in mine if row["lost"]]
                cancel = [attempt(row) for row in mine if row["cancelled"]]
                beat.answer(HeartbeatAnswer(stop=stop, cancel=cancel, wanted=wanted.get(key)))
            else:
                beat.answer(NOTHING)
        await bell.ring_async(*(f"job.{public('job', UUID(str(row['job'])))}" for row in rows if row["kind"] == "ocr"))

    async def wanted(self, beats: list[Beat]) -> dict[tuple[int, str], Wanted]:
        """By node and process. The leases are written: what fails here is asked for again by the next beat."""
        asked = [
            {"node": b.node_id, "claimant": b.heartbeat.claimant, "version": b.heartbeat.wanted}
            for b in beats
            if b.heartbeat.wanted is not None
        ]
        if not asked:
            return {}
        try:
            rows = await database.run_async(sites.wanted(asked))
            return {(row["node"], row["claimant"]): Wanted(version=row["version"], pools=row["pools"]) for row in rows}
        except (psycopg.Error, ValidationError) as error:
            log.error("nodes cannot be told what to run", extra={"reason": type(error).__name__})
            return {}


async def known(beats: list[Beat]) -> list[Beat]:
    """Those whose node may speak now, with it. The others are refused."""
    found = await database.run_async(enrolment.holders({beat.right for beat in beats}))
    heard = []
    for beat in beats:
        if beat.right in found:
            beat.node_id = found[beat.right]
            heard.append(beat)
        else:
            beat.fail(enrolment.unknown())
    return heard


def fail(beats: list[Beat], error: Exception) -> None:
    for beat in beats:
        beat.fail(error)


async def listen() -> None:
    """Tell the dispatcher, for as long as this process takes heartbeats, that it may believe a lease that ran out."""
    said = False
    while True:
        try:
            await database.run_async(sites.listen())
            said = False
        except psycopg.Error as error:
            if not said:
                log.warning("heartbeats cannot be written", extra={"reason": type(error).__name__})
            said = True
        await asyncio.sleep(LISTEN_SECONDS)


def attempt(row: dict[str, Any]) -> Attempt:
    return Attempt(job=str(row["job"]), attempt=row["attempt"])


_collectors: WeakKeyDictionary[asyncio.AbstractEventLoop, Collector] = WeakKeyDictionary()


def collector() -> Collector:
    loop = asyncio.get_running_loop()
    found = _collectors.get(loop)
    if found is None:
        found = _collectors[loop] = Collector()
    return found
