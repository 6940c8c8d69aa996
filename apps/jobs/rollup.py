"""Hours of usage, summed once: what many rows are read from.

Every hour up to `UsageUntil` has its sums in `UsageHour`; later ones are read from the jobs themselves. An hour is filled
when every transaction that could end a job in it is over. Filling again replaces: it may run twice, late, or beside itself.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from apps.core.sql import Plan, Statement

HOUR = timedelta(hours=1)
LONGEST_JOB = timedelta(days=2)  # deadline and run time of any job that can end in the span
SKEW = timedelta(minutes=5)  # between the clock that makes ids and the database's
SETTLED = timedelta(minutes=10)  # after its end an hour changes no more
AT_ONCE = timedelta(days=1)

# What one row of either table counts; of a batch, its shards.
OF_JOB = """
j.model_id, j.api_key_id, j.user_id, s.id AS site_id,
CASE WHEN j.batch_id IS NULL THEN 1 ELSE j.rows END AS requests,
CASE WHEN j.batch_id IS NOT NULL THEN j.failed_rows WHEN j.state IN ('failed', 'expired') THEN 1 ELSE 0 END AS failed,
j.prompt_tokens, j.cached_prompt_tokens, j.completion_tokens, j.pages, j.charge_microusd, j.energy_wh, j.carbon_gco2e, j.carbon_market_gco2e,
j.energy_quality IN ('modelled', 'nameplate') AS estimated
"""
JOBS = """
FROM jobs_job j
LEFT JOIN sites_pool p ON p.id = j.pool_id LEFT JOIN sites_node n ON n.id = p.node_id LEFT JOIN sites_site s ON s.id = n.site_id
"""
SUMMED = (
    "requests",
    "failed",
    "prompt_tokens",
    "cached_prompt_tokens",
    "completion_tokens",
    "pages",
    "charge_microusd",
)
# By market: what contracts say where a site has them, the grid's figure elsewhere; null where none has. A sum of such sums is one.
MARKET = "CASE WHEN count({f}carbon_market_gco2e) > 0 THEN sum(coalesce({f}carbon_market_gco2e, {f}carbon_gco2e)) END"
KEY = "organization_id, hour, model_id, api_key_id, user_id, site_id"

UNTIL = "SELECT at FROM jobs_usageuntil"
OLDEST = "SELECT date_trunc('hour', min(created_at), 'UTC') AS at FROM (SELECT created_at FROM jobs_job ORDER BY id LIMIT 1) first"
BEGIN = "INSERT INTO jobs_usageuntil (id, at) VALUES (1, %(at)s) ON CONFLICT (id) DO NOTHING"
LOCK = "SELECT at, clock_timestamp() AS now FROM jobs_usageuntil FOR UPDATE"
EMPTY = "DELETE FROM jobs_usagehour WHERE hour >= %(start)s AND hour < %(end)s"
FILL = f"""
INSERT INTO jobs_usagehour ({KEY}, {", ".join(SUMMED)}, energy_wh, carbon_gco2e, carbon_market_gco2e, estimated)
SELECT {KEY}, {", ".join(f"sum({name})" for name in SUMMED)}, sum(energy_wh), sum(carbon_gco2e), {MARKET.format(f="")}, bool_or(estimated)
FROM (
    SELECT j.organization_id, date_trunc('hour', j.finished_at, 'UTC') AS hour, {OF_JOB} {JOBS}
    WHERE j.finished_at >= %(start)s AND j.finished_at < %(end)s AND j.id >= %(first)s AND j.id < %(last)s
) ended
GROUP BY {KEY}
"""  # noqa: S608 - constants go in
MOVE = "UPDATE jobs_usageuntil SET at = %(at)s"
BACK = "UPDATE jobs_usageuntil SET at = %(at)s WHERE at > %(at)s"


def hour_of(at: datetime) -> datetime:
    """The beginning of its hour, UTC."""
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def first_id(at: datetime, shift: timedelta) -> UUID:
    """No job created at that time, shifted so, or later has a smaller id: ids begin with their milliseconds."""
    milliseconds = int((at.timestamp() + shift.total_seconds()) * 1000)
    return UUID(int=max(milliseconds, 0) << 80)


def bounds(start: datetime, end: datetime) -> dict[str, object]:
    """Of jobs that ended in the span: the times, and the ids between which all of them are."""
    return {"start": start, "end": end, "first": first_id(start, -LONGEST_JOB), "last": first_id(end, SKEW)}


def until() -> Plan[datetime | None]:
    """The end of the hours that are summed."""
    rows = yield Statement(UNTIL)
    return rows[0]["at"] if rows else None


def fill() -> Plan[bool]:
    """Sum the next hours, at most a day of them. True where there may be more to do."""
    oldest = (yield Statement(OLDEST))[0]["at"]
    if oldest is None:
        return False
    yield Statement(BEGIN, {"at": oldest})
    [row] = yield Statement(LOCK)
    start: datetime = row["at"]
    settled = hour_of(row["now"] - SETTLED)
    end = min(start + AT_ONCE, settled)
    if end <= start:
        return False
    yield Statement(EMPTY, {"start": start, "end": end})
    yield Statement(FILL, bounds(start, end))
    yield Statement(MOVE, {"at": end})
    return end < settled


def again(since: datetime) -> Plan[None]:
    """Jobs were written into the past: what ended since then is summed anew."""
    yield Statement(BACK, {"at": hour_of(since)})
