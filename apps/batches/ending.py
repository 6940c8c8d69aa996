"""How a batch stops: its shards are done, a customer cancels, its window ends. Its files are written after that."""

from __future__ import annotations

import contextlib
from typing import Any
from uuid import UUID

from apps.batches import shards, statements
from apps.batches.models import ENDED
from apps.core.errors import PortalError
from apps.core.sql import Plan, Row, Statement
from apps.dispatch import ending as dispatch
from apps.dispatch import finishing, outcomes
from apps.dispatch.outcomes import Outcome
from apps.jobs import statements as jobs
from apps.jobs.models import FINAL
from apps.runner.protocol import Control, control
from apps.scheduling import slots
from cango_portal import database, valkey

SUMS = f"""
SELECT count(*)::int AS rows, count(*) FILTER (WHERE status <> 200)::int AS failed_rows,
    coalesce(sum(prompt_tokens), 0)::int AS prompt_tokens, coalesce(sum(cached_prompt_tokens), 0)::int AS cached_prompt_tokens,
    coalesce(sum(completion_tokens), 0)::int AS completion_tokens, coalesce(sum(charge_microusd), 0)::bigint AS charge_microusd,
    sum(gpu_energy_mj)::float8 / 3600000 AS gpu_energy_wh, sum(energy_wh) AS energy_wh, sum(carbon_gco2e) AS carbon_gco2e,
    {statements.BY_MARKET} AS carbon_market_gco2e
FROM batches_row WHERE job_id = %(job)s
"""  # noqa: S608 - a constant goes in
STANDING = """
SELECT count(*) FILTER (WHERE s.job_id IS NULL)::int AS waiting,
    count(*) FILTER (WHERE s.job_id IS NOT NULL AND j.finished_at IS NULL)::int AS open
FROM batches_shard s LEFT JOIN jobs_job j ON j.id = s.job_id WHERE s.batch_id = %(batch)s
"""
OPEN_JOBS = """
SELECT j.id FROM batches_shard s JOIN jobs_job j ON j.id = s.job_id
WHERE s.batch_id = %(batch)s AND j.finished_at IS NULL ORDER BY s.number
"""


class CannotCancel(PortalError):
    """The batch has ended, or all its rows have."""

    code, status, retryable = "batch_state", 409, False


def close_shard(job: Row, state: str, reason: str, *, claimant: str = "", quality: str | None = None) -> Plan[None]:
    """End a locked shard with the sums of the rows it recorded, over all its attempts."""
    sums: dict[str, Any] = dict((yield Statement(SUMS, {"job": job["id"]}))[0])
    charge = sums.pop("charge_microusd")
    named: dict[str, Any] = {"claimant": claimant} if claimant else {}
    if quality and sums["energy_wh"] is not None:
        named["energy_quality"] = quality
    yield from finishing.close(job, state, charge_microusd=charge, reason=reason, **sums, **named)


def advance(batch_id: UUID) -> Plan[UUID | None]:
    """Open what may be opened; where no shard is left, go on to the files. Returns the batch where they are due now.

    The caller has locked the batch, or this does.
    """
    batch = yield from statements.lock(batch_id)
    if batch is None or batch["state"] in ENDED:
        return None
    running = batch["state"] in ("validating", "in_progress")
    if running and batch["past_window"]:
        yield from statements.move(batch_id, "finalizing", sources=("validating", "in_progress"), ending="expired")
        running = False
    if batch["state"] == "validating" and running:
        return None
    if running and (yield from shards.open_next(batch_id)):
        return None
    standing = (yield Statement(STANDING, {"batch": batch_id}))[0]
    if standing["open"] or (running and standing["waiting"]):
        return None
    if running:
        yield from statements.move(batch_id, "finalizing", sources=("in_progress",), ending="completed")
    return batch_id


def cancel(batch_id: UUID) -> Plan[None]:
    """From now on nothing new begins. Safe to repeat. Raises CannotCancel where there is nothing left to stop."""
    batch = yield from statements.lock(batch_id)
    if batch is None or batch["state"] in ("cancelling", "cancelled"):
        return
    if not (
        yield from statements.move(batch_id, "cancelling", sources=("validating", "in_progress"), ending="cancelled")
    ):
        raise CannotCancel(f"A batch that is {batch['state']} cannot be cancelled any more.")


def stop_shard(job_id: UUID, *, state: str) -> Plan[tuple[Outcome, Row | None]]:
    """End a shard that waits; ask a runner to end one that runs. What it has recorded is kept and charged."""
    job = yield from jobs.lock(job_id)
    if job is None or job["state"] in FINAL:
        return outcomes.REFUSED, None
    if job["state"] == "queued":
        yield from close_shard(job, state, "Stopped before it started; what was finished is kept and charged")
        return Outcome(accepted=True), None
    if job["cancel_requested_at"] is None:
        yield from dispatch.ask_to_stop(job)
    return Outcome(accepted=True), job


def open_jobs(batch_id: UUID) -> Plan[list[UUID]]:
    return [row["id"] for row in (yield Statement(OPEN_JOBS, {"batch": batch_id}))]


def stop_shards(batch_id: UUID, *, state: str) -> UUID | None:
    """Stop whatever of a batch is still open. Returns the batch where its files are due now. Safe to repeat."""
    for job_id in database.run(open_jobs(batch_id)):
        outcome, running = database.run(stop_shard(job_id, state=state))
        outcome.announce()
        if running is not None and running["claimant"]:
            told = Control(kind="cancel", job=str(job_id), attempt=running["attempt"])
            with contextlib.suppress(*slots.UNUSABLE):  # the next heartbeat's answer says it again
                valkey.client().xadd(control(running["claimant"]), {"e": told.model_dump_json()}, maxlen=1000)
    return database.run(advance(batch_id))
