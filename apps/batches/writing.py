"""Rows of a batch that are in progress: which sites have them, and how their runners say they are written.

Runners say it to who watches: `tell` is heard by those that have shards of the batch now, counts for a few seconds and is said
again while somebody listens. What they say lies in Redis for a minute at most, as the text of a single job does.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from redis.exceptions import RedisError

from apps.batches import shards
from apps.core.sql import Plan, Row, Statement
from apps.files.sealing import Unreadable
from apps.live.topics import Text
from apps.runner import protocol
from apps.runner.protocol import Watch
from cango_portal import valkey

WATCH_SECONDS = 15.0  # so long a runner tells of what was watched
EXPIRE_SECONDS = 60  # a word that no runner hears, because it is of an earlier version
ENTRY_UNITS = 8 * protocol.TEXT_UNITS  # of one word, in JSON: a text may have escapes
SILENT_SECONDS = 15.0  # a runner that tells says something every five seconds

# Of one batch those of its shards that a runner has claimed, the one that has been running longest first: on its site its rows
# go before those of the others.
RUNNING = """
SELECT b.state, b.version, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS at,
    j.id AS job, j.attempt, j.claimant, p.code AS pool, s.path
FROM batches_batch b
LEFT JOIN jobs_job j ON j.organization_id = b.organization_id AND j.batch_id = b.id AND j.state = 'running' AND j.claimant <> ''
    AND j.kind = ANY(%(kinds)s) AND b.state = 'in_progress'
LEFT JOIN sites_pool p ON p.id = j.pool_id LEFT JOIN batches_shard s ON s.job_id = j.id
WHERE b.id = %(batch)s ORDER BY j.started_at, j.id
"""
PLACE = """
SELECT j.id AS job, j.attempt, p.code AS pool FROM batches_shard s JOIN jobs_job j ON j.id = s.job_id JOIN sites_pool p ON p.id = j.pool_id
WHERE s.batch_id = %(batch)s AND s.first_line <= %(line)s AND s.first_line + s.lines > %(line)s AND j.state = 'running'
"""


def running(batch_id: UUID) -> Plan[list[Row]]:
    """A row for each shard; one without a job where there is none. Nothing where there is no batch."""
    return (yield Statement(RUNNING, {"batch": batch_id, "kinds": list(protocol.WRITES)}))


def place(batch_id: UUID, line: int) -> Plan[Row | None]:
    """The attempt that has that line now."""
    rows = yield Statement(PLACE, {"batch": batch_id, "line": line})
    return rows[0] if rows else None


def key(shard: Row) -> str:
    return protocol.rows(shard["pool"], str(shard["job"]), shard["attempt"])


async def tell(running: Sequence[Row]) -> None:
    """Let their runners know that somebody watches: of the first the text is wanted. Without Redis nobody is told, for now."""
    try:
        async with valkey.client_async().pipeline(transaction=False) as pipe:
            for number, shard in enumerate(running):
                watch = Watch(job=str(shard["job"]), attempt=shard["attempt"], text=number == 0, seconds=WATCH_SECONDS)
                told = protocol.watching(shard["claimant"])
                pipe.xadd(told, {"e": watch.model_dump_json()}, maxlen=1000)
                pipe.expire(told, EXPIRE_SECONDS)
            await pipe.execute()
    except (RedisError, OSError):
        return


class Writing:
    """What one shard has said of its rows: how many are in progress, and the text of the one it shows.

    Text comes twice where a runner did not hear that it had arrived: an overlap is cut. What is behind a gap is left out until
    the text is begun anew.
    """

    def __init__(self) -> None:
        self.running = 0
        self.line: int | None = None
        self.number = 0
        self.text = Text()
        self.tokens = 0
        self.seconds = 0.0
        self.ended = False
        self.heard_at = 0.0  # monotonic

    @property
    def silent(self) -> bool:
        return time.monotonic() - self.heard_at > SILENT_SECONDS

    def take(self, fields: dict[str, Any]) -> None:
        try:
            entry = protocol.Writing.model_validate_json(fields["e"])
        except (KeyError, ValidationError):
            return
        self.heard_at = time.monotonic()
        self.running = entry.running
        if entry.line is None or entry.number < self.number:
            return
        if entry.number > self.number:
            self.line, self.number, self.text, self.ended = entry.line, entry.number, Text(), False
        have = len(self.text)
        if entry.off <= have <= protocol.TEXT_UNITS:
            units = entry.text.encode("utf-16-le", "surrogatepass")[2 * (have - entry.off) :]
            self.text.units += units[: 2 * (protocol.TEXT_UNITS - have)]
        self.tokens, self.seconds, self.ended = entry.tokens, entry.seconds, self.ended or entry.ended


def custom_ids(path: str) -> dict[int, str]:
    """Of a shard's lines, as far as its file can be read."""
    with contextlib.suppress(FileNotFoundError, Unreadable, ValueError):
        return {line.number: line.custom_id for line in shards.lines(path)} if path else {}
    return {}
