"""Work leaves a node that takes no more: shards go back to the line, requests finish, and the end of it is noted.

What still runs near the drain's deadline is not leased for longer (`agents/heartbeats.py`): its runner stops, and it is lost
like any other, so what was delivered counts and what was not runs again.
"""

from uuid import UUID

from apps.core.sql import Plan, Row, Statement
from apps.dispatch import finishing, outcomes
from apps.dispatch.finishing import LEASED
from apps.dispatch.outcomes import Outcome
from apps.jobs import statements as jobs
from apps.sites import lifecycle
from apps.sites.models import Drain, Node

SETTLE_SECONDS = 5  # a placement that saw the node at work a moment ago has written its order by then

SHARDS = """
SELECT j.id, j.attempt, j.claimant, p.code AS pool FROM jobs_job j JOIN sites_pool p ON p.id = j.pool_id JOIN sites_node n ON n.id = p.node_id
WHERE j.state IN ('dispatched', 'running') AND j.batch_id IS NOT NULL AND (p.draining OR n.state IN ('draining', 'maintenance'))
ORDER BY j.id LIMIT 200
"""
EMPTY = """
SELECT d.id, d.node_id, d.purpose, d.reason FROM sites_drain d
WHERE d.open AND d.drained_at IS NULL AND d.began_at < clock_timestamp() - make_interval(secs => %(settle)s)
  AND NOT EXISTS (
    SELECT FROM jobs_job j JOIN sites_pool p ON p.id = j.pool_id WHERE p.node_id = d.node_id AND j.state IN ('dispatched', 'running')
  )
ORDER BY d.id
"""
DRAINED = """
UPDATE sites_drain SET drained_at = clock_timestamp() WHERE id = %(id)s AND open AND drained_at IS NULL RETURNING id
"""


def shards() -> Plan[list[Row]]:
    return (yield Statement(SHARDS, alone=True))


def give_back(job_id: UUID, *, attempt: int) -> Plan[Outcome]:
    """A shard goes on elsewhere: its rows that were reported are kept, the others are done anew. No try of it is counted."""
    job = yield from jobs.lock(job_id)
    if job is None or job["state"] not in LEASED or job["attempt"] != attempt or job["batch_id"] is None:
        return outcomes.REFUSED
    yield from finishing.again(job, f"Attempt {attempt} ended: the site is being emptied.", untaken=True)
    return Outcome(accepted=True, freed=finishing.slot_of(job))


def emptied() -> Plan[list[Row]]:
    """Open drains at whose nodes nothing is leased any more."""
    return (yield Statement(EMPTY, {"settle": SETTLE_SECONDS}, alone=True))


def note(row: Row) -> Plan[None]:
    """One of `emptied` is drained; for a maintenance the node may be opened now."""
    if (yield Statement(DRAINED, {"id": row["id"]})) and row["purpose"] == Drain.Purpose.MAINTENANCE:
        yield from lifecycle.step(
            row["node_id"], before=Node.State.DRAINING, after=Node.State.MAINTENANCE, reason=row["reason"]
        )
