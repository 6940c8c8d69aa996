"""A runner's report is taken where it names the attempt, fence and claimant in force: its job begins or ends by it."""

import contextlib
from uuid import UUID

from django.conf import settings
from psycopg.types.json import Jsonb

from apps.core.sql import Plan, Row, Statement
from apps.dispatch.admission import topics
from apps.dispatch.finishing import LEASED, News, finish
from apps.dispatch.outcomes import REFUSED, Outcome
from apps.jobs import statements as jobs
from apps.jobs.models import FINAL
from apps.jobs.statements import StaleState
from apps.runner.protocol import Report


def report(news: Report, *, node_id: int | None = None, job: Row | None = None) -> Plan[Outcome]:
    """Take one report. Repeating it changes nothing and is accepted again; a stale or second claimant is refused.

    Counts a column cannot hold are cut; what else cannot be stored raises ValueError or the driver's DataError.

    `node_id` is the node that authenticated: it may only speak for its own pools. `job` is its row as it was just read.
    """
    if news.kind == "finished":
        job = job or (yield from jobs.read(UUID(news.job)))
        if job is None or job["interactive"]:  # others' ends are told to webhooks, which is more than one statement
            with contextlib.suppress(
                StaleState
            ):  # somebody wrote at this moment: decide anew, and hold the row meanwhile
                return (yield from taken(news, job, node_id))
    return (yield from taken(news, (yield from jobs.lock(UUID(news.job))), node_id))


def taken(news: Report, job: Row | None, node_id: int | None) -> Plan[Outcome]:
    """Raises StaleState where the row was not locked, and has changed since it was read; then nothing was written."""
    if job is None or not names_the_attempt(job, news, node_id):
        return REFUSED
    if job["batch_id"] is not None and news.kind != "started":
        return REFUSED  # what a shard has done is for `batches` to take
    if job["state"] in FINAL:
        return Outcome(accepted=job["claimant"] == news.claimant and news.kind == "finished")
    if job["claimant"] not in ("", news.claimant) or job["state"] not in LEASED:
        return REFUSED
    if news.kind == "started":
        return (yield from start(job, news))
    return (yield from finish(job, News.of(news)))


def names_the_attempt(job: Row, news: Report, node_id: int | None) -> bool:
    """Does a report speak of the attempt in force, from the node that has it?"""
    named = job["attempt"] == news.attempt and job["fence"] == news.fence
    return named and node_id in (None, job["node_id"])


# Many starts at once: the job's step, its event, and its order, which is done with. Rows are locked in the order of ids.
START = """
WITH given AS (
    SELECT * FROM jsonb_to_recordset(%(starts)s) AS (job uuid, attempt int, fence uuid, claimant text)
), locked AS MATERIALIZED (
    SELECT given.* FROM given JOIN jobs_job j ON j.id = given.job ORDER BY j.id FOR UPDATE OF j
), moved AS (
    UPDATE jobs_job j SET state = 'running', reason = left('Running at ' || s.name, 200), version = j.version + 1,
        claimant = given.claimant, started_at = clock_timestamp(),
        lease_expires_at = clock_timestamp() + make_interval(secs => CASE WHEN j.batch_id IS NULL THEN %(seconds)s ELSE %(shard_seconds)s END)
    FROM locked AS given
    JOIN sites_pool p ON p.node_id = %(node)s JOIN sites_node n ON n.id = p.node_id JOIN sites_site s ON s.id = n.site_id
    WHERE j.id = given.job AND j.pool_id = p.id AND j.attempt = given.attempt AND j.fence = given.fence
      AND j.state = 'dispatched' AND j.claimant IN ('', given.claimant)
    RETURNING j.id, j.organization_id, j.version, j.attempt, j.reason, s.name AS site
), event AS (
    INSERT INTO jobs_event (job_id, number, state, attempt, reason, data, at)
    SELECT id, version, 'running', attempt, reason, jsonb_build_object('site', site), clock_timestamp() FROM moved
), gone AS (
    DELETE FROM dispatch_order WHERE job_id IN (SELECT id FROM moved)
)
SELECT id, attempt, organization_id FROM moved
"""


def starts(news: list[Report], *, node_id: int) -> Plan[dict[tuple[str, int], Outcome]]:
    """Take many `started` reports of a node. Returns those that began, by job and attempt; the others want `report`."""
    rows = yield Statement(
        START,
        {
            "starts": Jsonb(
                [
                    {"job": each.job, "attempt": each.attempt, "fence": each.fence, "claimant": each.claimant}
                    for each in news
                ]
            ),
            "node": node_id,
            "seconds": settings.INTERACTIVE_LEASE_SECONDS,
            "shard_seconds": settings.SHARD_LEASE_SECONDS,
        },
        alone=True,
    )
    return {
        (str(row["id"]), row["attempt"]): Outcome(accepted=True, topics=topics(row["id"], row["organization_id"]))
        for row in rows
    }


def start(job: Row, news: Report) -> Plan[Outcome]:
    if job["state"] == "running":
        return Outcome(accepted=True)
    yield from jobs.transition(
        job["id"],
        "running",
        sources=("dispatched",),
        version=job["version"],
        reason=f"Running at {job['site']}",
        data={"site": job["site"]},
        now=("started_at",),
        later={
            "lease_expires_at": settings.SHARD_LEASE_SECONDS if job["batch_id"] else settings.INTERACTIVE_LEASE_SECONDS
        },
        claimant=news.claimant,
    )
    yield Statement("DELETE FROM dispatch_order WHERE job_id = %(job)s", {"job": job["id"]})
    return Outcome(accepted=True, topics=topics(job["id"], job["organization_id"]))
