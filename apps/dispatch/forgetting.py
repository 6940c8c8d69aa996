"""Text goes when its time is over: what was sent and got, and the stream it was written to.

Each organization says how long (`keep_text_days`), counted from the end of the job. With 0 days a request's text goes as
soon as its client must have it, and a background job's within ten minutes, so that its answer can be fetched once.
Of a job only figures stay. The files of batches have times of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from apps.accounts.models import Organization
from apps.core.sql import Plan, Row, Statement
from apps.jobs.rollup import LONGEST_JOB, first_id
from apps.runner import protocol
from cango_portal import database, valkey

AT_ONCE = 500
SWEEP_SECONDS = 30
FETCHED_SECONDS, ANSWERED_SECONDS = (
    540,
    60,
)  # with 0 days: after the end of a background job; of one whose client waited
LOOKED_BACK = timedelta(hours=1)  # by a sweep, beyond the longest job; a thorough one looks at everything

FORGET = """
WITH over AS (
    SELECT c.job_id FROM jobs_content c JOIN jobs_job j ON j.id = c.job_id JOIN accounts_organization o ON o.id = j.organization_id
    WHERE o.keep_text_days = %(days)s AND j.id >= %(first)s AND j.id < %(last)s AND j.batch_id IS NULL
      AND (%(organization)s::uuid IS NULL OR o.id = %(organization)s::uuid)
      AND j.finished_at < clock_timestamp() - make_interval(
          days => %(days)s, secs => CASE WHEN %(days)s > 0 THEN 0 WHEN j.interactive THEN %(answered)s ELSE %(fetched)s END)
    ORDER BY c.job_id LIMIT %(most)s FOR UPDATE OF c SKIP LOCKED
), gone AS (
    DELETE FROM jobs_content WHERE job_id IN (SELECT job_id FROM over) RETURNING job_id
), files AS (
    UPDATE files_file f SET expires_at = clock_timestamp()
    FROM jobs_job j WHERE j.id IN (SELECT job_id FROM over) AND j.file_id = f.id AND f.purpose = 'input'
      AND NOT EXISTS (SELECT FROM jobs_job other WHERE other.file_id = f.id AND other.finished_at IS NULL AND other.organization_id = j.organization_id
          AND other.id >= %(open)s)
    RETURNING 1
)
SELECT j.id, j.attempt, p.code AS pool, (SELECT count(*) FROM files) AS files
FROM gone JOIN jobs_job j ON j.id = gone.job_id LEFT JOIN sites_pool p ON p.id = j.pool_id
"""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How many jobs lost their text, and how many files are to be taken away now."""

    jobs: int
    files: int


def over(days: int, *, thorough: bool, organization: UUID | None = None) -> Plan[list[Row]]:
    """Forget up to AT_ONCE of those that keep text so long and whose time is over."""
    now = datetime.now(UTC)
    last = now - timedelta(days=days)
    return (
        yield Statement(
            FORGET,
            {
                "days": days,
                "organization": organization,
                "first": UUID(int=0) if thorough else first_id(last - LOOKED_BACK, -LONGEST_JOB),
                "last": first_id(last, timedelta(minutes=5)),
                "open": first_id(now, -LONGEST_JOB),
                "answered": ANSWERED_SECONDS,
                "fetched": FETCHED_SECONDS,
                "most": AT_ONCE,
            },
        )
    )


def sweep(*, thorough: bool = False, organization: UUID | None = None) -> Forgotten:
    """All whose time is over. Safe to repeat, and beside itself."""
    jobs = files = 0
    for days in Organization.KEEPS:
        while rows := database.run(over(days, thorough=thorough, organization=organization)):
            jobs, files = jobs + len(rows), files + rows[0]["files"]
            empty_streams(rows)
            if len(rows) < AT_ONCE:
                break
    return Forgotten(jobs, files)


def empty_streams(rows: list[Row]) -> None:
    """Of every attempt. With Redis away they go by themselves, within the hour."""
    keys = [
        protocol.stream(row["pool"], str(row["id"]), attempt)
        for row in rows
        if row["pool"]
        for attempt in range(1, row["attempt"] + 1)
    ]
    try:
        if keys:
            valkey.client().delete(*keys)
    except valkey.Away:
        return
