"""The site's meter against the sum of its GPUs: energy × (1 + host share) × PUE. Beyond 8 % for 15 minutes is an alarm."""

from __future__ import annotations

import logging

from django.db import transaction
from psycopg.types.json import Jsonb

from apps.accounts import audit
from apps.accounts.models import User
from apps.core.errors import InvalidRequest
from apps.core.sql import Plan, Row, Statement
from apps.sites import feeds
from apps.sites.models import Site
from cango_portal import database

log = logging.getLogger(__name__)

TOLERANCE = 0.08  # reference: reconciliation of Σ device energy with the meter
WINDOW_SECONDS = 900.0
GRACE_SECONDS = 120.0  # until what runners said is counted
FEED_DAYS = 3  # what a meter's feed told longer ago is not looked at again

FROM_FEEDS = """
INSERT INTO telemetry_sitemeterreading (site_id, at, energy_wh)
SELECT s.id, v.at, v.value FROM sites_site s JOIN sites_feed f ON f.code = s.meter_feed AND f.kind = 'meter'
JOIN sites_feedvalue v ON v.feed_id = f.id
WHERE v.at <= clock_timestamp() AND v.at > clock_timestamp() - make_interval(days => %(days)s) ORDER BY s.id, v.at
ON CONFLICT DO NOTHING
"""
ENTERED = """
INSERT INTO telemetry_sitemeterreading AS r (site_id, at, energy_wh)
SELECT %(site)s, at, value FROM jsonb_to_recordset(%(values)s) AS (at timestamptz, value float8) ORDER BY at
ON CONFLICT (site_id, at) DO UPDATE SET energy_wh = excluded.energy_wh WHERE r.energy_wh <> excluded.energy_wh
"""
# The newest window of at least a quarter of an hour between two readings of each site. A minute that reaches over its edge counts by its part.
WINDOWS = """
SELECT s.id, s.code, b.at AS starts_at, e.at AS ends_at, e.energy_wh - b.energy_wh AS meter_wh, a.id AS alarm,
    (1 + s.host_share) * s.pue / 3600000 * coalesce((
        SELECT sum(m.energy_mj * extract(epoch FROM least(m.at + interval '1 min', e.at) - greatest(m.at, b.at)) / 60)
        FROM telemetry_minute m JOIN sites_node n ON n.id = m.node_id
        WHERE n.site_id = s.id AND m.at > b.at - interval '1 min' AND m.at < e.at
    ), 0)::float8 AS counted_wh
FROM sites_site s
JOIN LATERAL (
    SELECT at, energy_wh FROM telemetry_sitemeterreading
    WHERE site_id = s.id AND at <= clock_timestamp() - make_interval(secs => %(grace)s) ORDER BY at DESC LIMIT 1
) e ON true
JOIN LATERAL (
    SELECT at, energy_wh FROM telemetry_sitemeterreading
    WHERE site_id = s.id AND at <= e.at - make_interval(secs => %(window)s) ORDER BY at DESC LIMIT 1
) b ON true
LEFT JOIN telemetry_meteralarm a ON a.site_id = s.id AND a.open
ORDER BY s.id
"""
RAISE = """
INSERT INTO telemetry_meteralarm (site_id, starts_at, ends_at, meter_wh, counted_wh, began_at, open)
VALUES (%(id)s, %(starts_at)s, %(ends_at)s, %(meter_wh)s, %(counted_wh)s, clock_timestamp(), true)
ON CONFLICT DO NOTHING RETURNING id
"""
END = "UPDATE telemetry_meteralarm SET open = false, ended_at = clock_timestamp() WHERE id = %(alarm)s AND open"


def enter(*, site: Site, content: str, unit: str, reason: str, actor: User) -> None:
    """Readings that staff have as CSV or JSON. Raises InvalidRequest, and then nothing was written."""
    try:
        told = [(at, feeds.in_portal_unit(unit, value)) for at, value in feeds.parse(content.encode())]
    except feeds.Unread as unread:
        raise InvalidRequest(f"These are no readings: {unread}.") from None
    if any(value < 0 for _, value in told):
        raise InvalidRequest("A meter shows nothing negative.")
    values = Jsonb([{"at": at.isoformat(), "value": value} for at, value in told])
    with transaction.atomic():
        database.run(_one(ENTERED, {"site": site.pk, "values": values}))
        audit.record(
            organization=None, actor=actor, action="meter.entered", target=site.code, reason=reason, data={"readings": len(told)}
        )  # fmt: skip


def reconcile() -> None:
    """Take what meters' feeds told, compare, and raise or end each site's alarm."""
    database.run(_one(FROM_FEEDS, {"days": FEED_DAYS}))
    for row in database.run(_rows(WINDOWS, {"grace": GRACE_SECONDS, "window": WINDOW_SECONDS})):
        if row["meter_wh"] < 0:  # it was changed for another
            continue
        if differs(row["meter_wh"], row["counted_wh"]):
            if row["alarm"] is None and database.run(_rows(RAISE, row)):
                about = {name: row[name] for name in ("code", "meter_wh", "counted_wh")}
                log.error("a site's meter and its GPUs differ", extra=about)
        elif row["alarm"] is not None:
            database.run(_one(END, row))
            log.warning("a site's meter and its GPUs agree again", extra={"code": row["code"]})


def differs(meter_wh: float, counted_wh: float) -> bool:
    return abs(meter_wh - counted_wh) > TOLERANCE * meter_wh


def _one(sql: str, params: Row) -> Plan[None]:
    yield Statement(sql, params)


def _rows(sql: str, params: Row) -> Plan[list[Row]]:
    return (yield Statement(sql, params))
