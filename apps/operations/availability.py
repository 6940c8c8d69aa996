"""Does a model take work in a region? Looked at each minute, counted by the day, from what placement itself goes by."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from django.conf import settings
from psycopg.types.json import Jsonb

from apps.core.sql import Plan, Statement
from apps.scheduling import selectors as scheduling

DAYS = 90  # what the status page shows

# A minute that was counted is not counted again, whoever looks and however late.
COUNT = """
WITH clock AS (
    SELECT now.at, now.at AT TIME ZONE 'UTC' AS here, extract(hour FROM now.at AT TIME ZONE 'UTC')::int + 1 AS hour
    FROM (SELECT clock_timestamp() AS at) now
)
INSERT INTO operations_availability AS a (model_id, country, region, day, looks, up, looked_at, looks_by_hour, up_by_hour)
SELECT m.id, seen.country, seen.region, clock.here::date, 1, seen.up, date_trunc('minute', clock.at),
    (SELECT array_agg((n = clock.hour)::int ORDER BY n) FROM generate_series(1, 24) n),
    (SELECT array_agg((n = clock.hour)::int * seen.up ORDER BY n) FROM generate_series(1, 24) n)
FROM clock, jsonb_to_recordset(%(seen)s) AS seen (model bigint, country text, region text, up int)
JOIN catalog_model m ON m.id = seen.model AND m.listed
ORDER BY m.id, seen.country, seen.region
ON CONFLICT (day, model_id, country, region) DO UPDATE SET
    looks = a.looks + 1, up = a.up + excluded.up, looked_at = excluded.looked_at,
    looks_by_hour = ARRAY(SELECT x + y FROM unnest(a.looks_by_hour, excluded.looks_by_hour) WITH ORDINALITY AS each (x, y, n) ORDER BY n),
    up_by_hour = ARRAY(SELECT x + y FROM unnest(a.up_by_hour, excluded.up_by_hour) WITH ORDINALITY AS each (x, y, n) ORDER BY n)
WHERE a.looked_at < excluded.looked_at
RETURNING a.id
"""
HISTORY = """
SELECT model_id, country, region, day, looks, up FROM operations_availability
WHERE day > (clock_timestamp() AT TIME ZONE 'UTC')::date - %(days)s
"""
LAST_HOURS = """
SELECT country, region, sum(looks)::int AS looks, sum(up)::int AS up FROM (
    SELECT a.country, a.region, a.day + make_interval(hours => (each.n - 1)::int) AS hour, each.looks, each.up
    FROM operations_availability a, unnest(a.looks_by_hour, a.up_by_hour) WITH ORDINALITY AS each (looks, up, n)
    WHERE a.model_id = %(model)s AND a.day >= (clock_timestamp() AT TIME ZONE 'UTC')::date - 1
) hours
WHERE hour > (clock_timestamp() AT TIME ZONE 'UTC') - make_interval(hours => %(hours)s)
GROUP BY country, region HAVING sum(looks) > 0
"""


# Maintenance that was announced in time (nothing else is announced), until it was to end: what is away because of it is no
# down time. Longer is.
EXCUSED = """
SELECT DISTINCT p.model_id, s.country, s.region FROM sites_drain d
JOIN sites_node n ON n.id = d.node_id JOIN sites_site s ON s.id = n.site_id JOIN sites_pool p ON p.node_id = n.id
WHERE d.open AND d.announced_at <= d.starts_at - make_interval(secs => %(notice)s)
    AND clock_timestamp() < coalesce(d.ends_at, 'infinity')
"""


@dataclass(frozen=True, slots=True, order=True)
class Where:
    """A model in a region."""

    model_id: int
    country: str
    region: str


@dataclass(frozen=True, slots=True)
class Day:
    looks: int
    up: int

    @property
    def share(self) -> float:
        return self.up / self.looks

    @property
    def down(self) -> int:
        """Minutes: it is looked at in each."""
        return self.looks - self.up


def now() -> Plan[dict[Where, bool]]:
    """Where each model is served, and whether it takes work there now: at one site of the region at least."""
    found: dict[Where, bool] = {}
    for model_id, places in (yield from scheduling.places()).items():
        for place in places:
            where = Where(model_id, place["country"], place["region"])
            found[where] = found.get(where, False) or place["ready"]
    return found


def excused() -> Plan[set[Where]]:
    found = yield Statement(EXCUSED, {"notice": settings.MAINTENANCE_NOTICE_SECONDS})
    return {Where(row["model_id"], row["country"], row["region"]) for row in found}


def look() -> Plan[int]:
    """Count this minute, of listed models. Returns how many models and regions were counted: none where it was before.

    A minute that is down only for announced maintenance counts neither way.
    """
    seen = yield from now()
    for where in (yield from excused()):
        if not seen.get(where, True):
            del seen[where]
    rows = [
        {"model": where.model_id, "country": where.country, "region": where.region, "up": int(up)}
        for where, up in seen.items()
    ]
    counted = yield Statement(COUNT, {"seen": Jsonb(rows)})
    return len(counted)


def history(days: int = DAYS) -> Plan[dict[Where, dict[date, Day]]]:
    """By model and region, the days of UTC that were looked at. Of days that nobody looked at nothing is known."""
    found: dict[Where, dict[date, Day]] = {}
    for row in (yield Statement(HISTORY, {"days": days}, alone=True)):
        where = Where(row["model_id"], row["country"], row["region"])
        found.setdefault(where, {})[row["day"]] = Day(row["looks"], row["up"])
    return found


def last_hours(model_id: int, hours: int = 24) -> Plan[dict[tuple[str, str], Day]]:
    """By country and region: this hour and those before it, so many together, as far as they were looked at."""
    rows = yield Statement(LAST_HOURS, {"model": model_id, "hours": hours}, alone=True)
    return {(row["country"], row["region"]): Day(row["looks"], row["up"]) for row in rows}
