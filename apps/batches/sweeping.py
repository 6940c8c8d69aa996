"""What a lost task, a dead worker or a silent site left undone, found by looking."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import psycopg
from django.conf import settings
from django.db.utils import OperationalError as DatabaseAway

from apps.batches import collecting, ending, finalizing, statements
from apps.core.ids import public
from apps.core.sql import Plan, Statement
from apps.core.sql import Row as Record
from apps.jobs import statements as jobs
from apps.ledger import statements as ledger
from apps.runner.protocol import Failure
from cango_portal import database

log = logging.getLogger(__name__)

OPEN = """
SELECT id, state, ending, expires_at <= clock_timestamp() AS past_window,
    working_until IS NULL OR working_until < clock_timestamp() AS idle
FROM batches_batch WHERE state NOT IN ('completed', 'failed', 'expired', 'cancelled') ORDER BY id
"""
WORN = """
SELECT j.id FROM batches_shard s JOIN jobs_job j ON j.id = s.job_id
WHERE s.batch_id = %(batch)s AND j.state = 'queued' AND j.attempt >= %(attempts)s
"""
ORPHANS = """
SELECT h.key, b.id FROM ledger_hold h JOIN batches_batch b ON h.key = 'batch:' || b.id
WHERE h.state = 'open' AND b.state IN ('completed', 'failed', 'expired', 'cancelled')
"""
UNCLEAN = """
SELECT id FROM batches_batch
WHERE state IN ('completed', 'failed', 'expired', 'cancelled') AND NOT cleaned ORDER BY id LIMIT %(most)s
"""
CLEANED = 1000  # batches a sweep cleans
LOST = Failure(code="site_lost", message="The sites that worked on this stopped answering.", status=503)


def sweep() -> list[UUID]:
    """Repair what can be repaired at once. Returns the batches that a task is to go on with."""
    due: list[UUID] = []
    for batch in database.run(rows(OPEN)):
        with alone("repair", batch["id"]):
            ready = repair(batch)
            if batch["idle"] and (batch["state"] == "validating" or ready is not None):
                due.append(batch["id"])
    for hold in database.run(rows(ORPHANS)):  # cannot happen while one transaction ends both, so it alarms
        with alone("release", hold["id"]):
            log.error("orphaned hold released", extra={"hold": hold["key"]})
            database.run(ledger.release(hold["key"]))
    for batch in database.run(rows(UNCLEAN, most=CLEANED)):
        with alone("clean", batch["id"]):
            finalizing.clean(batch["id"])
    return due


@contextmanager
def alone(doing: str, batch_id: UUID) -> Iterator[None]:
    """One batch that cannot be worked on keeps no other back; a database that is away ends the sweep."""
    try:
        yield
    except (DatabaseAway, psycopg.OperationalError):
        raise
    except Exception:
        log.exception("a batch is stuck", extra={"batch": public("batch", batch_id), "doing": doing})


def repair(batch: Record) -> UUID | None:
    """One open batch. Returns it where its files are due now."""
    if batch["state"] == "in_progress" and not batch["past_window"]:
        for job in database.run(rows(WORN, batch=batch["id"], attempts=settings.BATCH_SHARD_ATTEMPTS)):
            database.run(give_up(job["id"]))
        return database.run(ending.advance(batch["id"]))
    if batch["past_window"]:
        database.run(ending.advance(batch["id"]))
    if batch["state"] == "validating" and not batch["past_window"]:
        return None
    stopping = "cancelled" if batch["state"] == "cancelling" else batch["ending"] or "expired"
    return ending.stop_shards(batch["id"], state="cancelled" if stopping == "completed" else stopping)


def give_up(job_id: UUID) -> Plan[None]:
    """A shard whose sites were lost so often ends; its missing rows fail. Left alone where it is not queued any more."""
    job = yield from jobs.lock(job_id)
    if (
        job is None
        or job["state"] != "queued"
        or (yield from collecting.fruitless(job)) < settings.BATCH_SHARD_ATTEMPTS
    ):
        return
    batch = yield from statements.lock(job["batch_id"])
    if batch is None or batch["state"] != "in_progress":
        return
    shard = (yield Statement(collecting.SHARD, {"job": job_id}))[0]
    yield from collecting.give_up(job, batch, shard, LOST)
    yield from ending.advance(batch["id"])


def rows(sql: str, **params: object) -> Plan[list[Record]]:
    return (yield Statement(sql, params))
