"""Figures that change by the hour: prices of power, carbon of the grid, meters. One interface, by file or by HTTP.

A feed tells moments and values, as JSON (`[{"at": "2026-11-29T12:00:00Z", "value": 41.2}, …]`, or the same under `data`) or as CSV
with the header `at,value`. Moments have their zone; those ahead are taken too (prices of the next day) and hold from then on.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from django.conf import settings
from django.db import transaction
from psycopg.types.json import Jsonb

from apps.core.sql import Plan, Statement
from apps.sites import power
from apps.sites.models import Feed, FeedValue
from cango_portal import database

log = logging.getLogger(__name__)

MOST_BYTES = 4 * 1024 * 1024
MOST_VALUES = 20_000
HTTP_SECONDS = 10.0
Value = tuple[datetime, float]


class Unread(Exception):
    """The feed told nothing that can be used; the message says why, for staff."""


def parse(content: bytes) -> list[Value]:
    """Moments and values, in their order. Raises Unread, which names the first that is none."""
    try:
        text = content.decode("utf-8-sig").strip()
        rows: Any
        if text[:1] in ("[", "{"):
            rows = json.loads(text)
            rows = rows["data"] if isinstance(rows, dict) else rows
        else:
            rows = list(csv.DictReader(io.StringIO(text)))
    except (ValueError, KeyError) as error:
        raise Unread(f"neither JSON nor CSV with at,value: {type(error).__name__}") from error
    if not isinstance(rows, list) or not rows:
        raise Unread("it has no values")
    if len(rows) > MOST_VALUES:
        raise Unread(f"it has more than {MOST_VALUES} values")
    found = []
    for number, row in enumerate(rows, start=1):
        try:
            at, value = datetime.fromisoformat(str(row["at"])), float(row["value"])
        except (ValueError, KeyError, TypeError) as error:
            raise Unread(f"value {number} is no moment with a number") from error
        if at.tzinfo is None or not math.isfinite(value):
            raise Unread(f"value {number} has no zone, or is no finite number")
        found.append((at.astimezone(UTC), value))
    return sorted(found)


def from_file(address: str) -> bytes:
    """Only below FEEDS_DIR: whoever writes an address reads no other file of the portal's."""
    root = Path(settings.FEEDS_DIR).resolve()
    path = (root / address).resolve()
    if not path.is_relative_to(root):
        raise Unread("the file is not below FEEDS_DIR")
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise Unread(f"the file cannot be read: {error.strerror}") from error
    return bounded(content)


def from_http(address: str) -> bytes:
    content = bytearray()
    try:
        with httpx.stream("GET", address, timeout=HTTP_SECONDS, follow_redirects=False) as answer:
            if answer.status_code != 200:
                raise Unread(f"the address answered {answer.status_code}")
            for part in answer.iter_bytes():
                content += part
                bounded(content)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise Unread(f"the address does not answer: {type(error).__name__}") from error
    return bytes(content)


def bounded(content: bytes | bytearray) -> bytes:
    if len(content) > MOST_BYTES:
        raise Unread(f"it is larger than {MOST_BYTES} bytes")
    return bytes(content)


ADAPTERS: dict[str, Callable[[str], bytes]] = {Feed.Adapter.FILE: from_file, Feed.Adapter.HTTP: from_http}
WH_PER_KWH = 1000


def in_portal_unit(unit: str, value: float) -> float:
    """USD/MWh, gCO₂e/kWh or Wh."""
    if unit == Feed.Unit.LB_PER_MWH:
        return power.gco2e_per_kwh(value)
    return value * WH_PER_KWH if unit == Feed.Unit.KWH else value


KEEP = """
INSERT INTO sites_feedvalue (feed_id, at, value)
SELECT %(feed)s, at, value FROM jsonb_to_recordset(%(values)s) AS (at timestamptz, value float8) ORDER BY at
ON CONFLICT (feed_id, at) DO UPDATE SET value = excluded.value WHERE sites_feedvalue.value <> excluded.value
"""
NEWEST = """
UPDATE sites_feed f SET read_at = clock_timestamp(), error = left(%(error)s, 200), newest_at = now.at, value = now.value
FROM (SELECT 1) one LEFT JOIN LATERAL (
    SELECT at, value FROM sites_feedvalue WHERE feed_id = %(feed)s AND at <= clock_timestamp() ORDER BY at DESC LIMIT 1
) now ON true
WHERE f.id = %(feed)s
"""
# Jobs freeze what their site says at their placement, so what is written here holds from the next one on.
APPLY = """
UPDATE sites_site s SET
    power_usd_per_mwh = coalesce(p.value, s.power_usd_per_mwh),
    grid_gco2e_per_kwh = coalesce(c.value, s.grid_gco2e_per_kwh),
    market_gco2e_per_kwh = coalesce(m.value, s.market_gco2e_per_kwh)
FROM sites_site old
LEFT JOIN sites_feed p ON p.code = old.price_feed AND p.kind = 'price'
LEFT JOIN sites_feed c ON c.code = old.carbon_feed AND c.kind = 'carbon'
LEFT JOIN sites_feed m ON m.code = old.market_feed AND m.kind = 'market'
WHERE s.id = old.id AND (s.power_usd_per_mwh, s.grid_gco2e_per_kwh, s.market_gco2e_per_kwh) IS DISTINCT FROM
    (coalesce(p.value, s.power_usd_per_mwh), coalesce(c.value, s.grid_gco2e_per_kwh), coalesce(m.value, s.market_gco2e_per_kwh))
"""


def kept(feed_id: int, values: list[Value], error: str) -> Plan[None]:
    if values:
        told = [{"at": at.isoformat(), "value": value} for at, value in values]
        yield Statement(KEEP, {"feed": feed_id, "values": Jsonb(told)})
    yield Statement(NEWEST, {"feed": feed_id, "error": error})


def applied() -> Plan[None]:
    yield Statement(APPLY)


def read(feed: Feed) -> None:
    """Take what a feed tells now. One that tells nothing keeps what it had, and its row says why."""
    values: list[Value] = []
    error = ""
    try:
        told = parse(ADAPTERS[feed.adapter](feed.address))
        values = [(at, in_portal_unit(feed.unit, value)) for at, value in told]
        if feed.kind != Feed.Kind.PRICE and any(value < 0 for _, value in values):
            raise Unread("only a price may be negative")
    except Unread as unread:
        values, error = [], str(unread)
        if feed.error != error:
            log.warning("a feed cannot be read", extra={"feed": feed.code, "reason": error})
    database.run(kept(feed.pk, values, error))


def read_all() -> None:
    """Every feed, then the sites that name them. One that fails keeps no other back."""
    for feed in Feed.objects.order_by("pk"):
        read(feed)
    with transaction.atomic():
        database.run(applied())


def stale(now: datetime) -> dict[tuple[str, str], bool]:
    """By (kind, code): whether a feed is stale."""
    return {(feed.kind, feed.code): feed.is_stale(now) for feed in Feed.objects.all()}


def forget(older: timedelta, now: datetime) -> None:
    """Old values go; the one in force stays with the feed."""
    FeedValue.objects.filter(at__lt=now - older).delete()
