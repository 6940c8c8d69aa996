"""Queued work meets free slots: reserved ones first, then by tier and deadline, fair between organizations."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.conf import settings

from apps.billing import entitlements
from apps.core import places
from apps.core.sql import Plan, Row, Statement
from apps.dispatch import orders
from apps.dispatch.admission import topics
from apps.jobs import sealed
from apps.jobs import statements as jobs
from apps.runner import protocol
from apps.scheduling.placement import Candidate

BATCH = (
    200  # of one model and rule in one tick: what waits for a model or a place that is away keeps no other work back
)

# `first`: while fewer of an organization's jobs have a slot than its plan reserves, so many of its jobs for each model.
NEXT = f"""
WITH waiting AS (
    SELECT id, attempt, model_id, residency, organization_id, interactive, tier, deadline_at, max_usd_per_mwh,
        batch_id IS NOT NULL AS shard, {jobs.RANK.format("j")} AS rank,
        row_number() OVER (PARTITION BY model_id, organization_id, tier ORDER BY deadline_at, id) AS turn
    FROM jobs_job j WHERE state = 'queued' AND deadline_at > clock_timestamp() AND cancel_requested_at IS NULL
), reserved AS (
    SELECT p.organization_id, p.reserved_slots - (
        SELECT count(*) FROM jobs_job j WHERE j.organization_id = p.organization_id AND j.state IN ('dispatched', 'running') AND j.batch_id IS NULL
    ) AS free
    FROM ({entitlements.IN_FORCE}) p
    WHERE p.reserved_slots > 0 AND EXISTS (SELECT FROM jobs_job q WHERE q.organization_id = p.organization_id AND q.state = 'queued')
), line AS (
    SELECT w.*, NOT w.shard AND coalesce(row_number() OVER (
        PARTITION BY w.model_id, w.organization_id ORDER BY w.rank, w.shard, w.deadline_at, w.id
    ) <= r.free, false) AS first
    FROM waiting w LEFT JOIN reserved r ON r.organization_id = w.organization_id
)
SELECT id, attempt, model_id, residency, organization_id, interactive, tier, rank, turn, first, shard, max_usd_per_mwh FROM (
    SELECT *, row_number() OVER (PARTITION BY model_id, residency, shard ORDER BY NOT first, rank, turn, deadline_at, id) AS place FROM line
) placed
WHERE place <= %(limit)s
ORDER BY NOT first, rank, turn, deadline_at, id
"""  # noqa: S608 - constants go in

DETAILS = f"""
SELECT j.kind, m.engine_name, {sealed.REQUEST}, j.max_completion_tokens, j.batch_id IS NOT NULL AS shard, j.file_id, coalesce(f.content_type, '') AS file_type
FROM jobs_job j JOIN catalog_model m ON m.id = j.model_id JOIN jobs_content c ON c.job_id = j.id LEFT JOIN files_file f ON f.id = j.file_id
WHERE j.id = %(id)s
"""  # noqa: S608 - a constant goes in


def next_in_line() -> Plan[list[Row]]:
    """Queued jobs in the order they should run: those with a reserved slot free (`first`), then standard, flexible,
    batch (`rank`). Within one, each organization's first before anyone's second, soonest deadline first."""
    return (yield Statement(NEXT, {"limit": BATCH, **entitlements.params(datetime.now(UTC))}))


def assign(
    job_id: UUID, *, attempt: int, chosen: Candidate, ranked: list[Candidate]
) -> Plan[tuple[protocol.Order, tuple[str, ...]] | None]:
    """Lease a queued job to a pool whose slot was won, with its order. None where another dispatcher was first. Raises Unreadable.

    The job's own rule is asked once more, under its lock: `ranked` was made for the job, and a mistake there moves no data.
    """
    job = yield from jobs.lock(job_id)
    if (
        job is None
        or job["state"] != "queued"
        or job["attempt"] + 1 != attempt
        or job["past_deadline"]
        or job["cancel_requested_at"]
    ):
        return None
    if not places.inside(chosen.pool.place, job["residency"]):
        raise ValueError(f"{chosen.pool.code} is outside the places of {job_id}")
    details: dict[str, Any] = (yield Statement(DETAILS, {"id": job_id}))[0]
    fence = orders.new_fence()
    yield from jobs.transition(
        job_id,
        "dispatched",
        sources=("queued",),
        version=job["version"],
        reason=orders.reason(chosen, ranked),
        data={"site": chosen.pool.site},
        now=("dispatched_at",),
        later={"lease_expires_at": settings.DISPATCH_LEASE_SECONDS},
        attempt=attempt,
        claimant="",
        **orders.draft_changes(chosen, ranked, fence),
    )
    order = orders.make(_draft(job_id, details), attempt=attempt, pool=chosen.pool.code, fence=fence)
    yield from orders.write(order)
    return order, topics(job_id, job["organization_id"])


def _draft(job_id: UUID, details: dict[str, Any]) -> orders.Draft:
    return orders.Draft(
        job_id=job_id,
        kind=details["kind"],
        engine_name=details["engine_name"],
        request=sealed.request_of(details).request or {},
        max_completion_tokens=details["max_completion_tokens"],
        file_id=details["file_id"],
        file_type=details["file_type"],
        shard=details["shard"],
    )
