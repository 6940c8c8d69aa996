"""What was counted long ago goes, some thousand rows in a transaction, so that nobody who counts waits for it."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings

from apps.core.sql import Plan, Statement
from apps.telemetry.counting import OLDEST_SECONDS
from cango_portal import database

AT_ONCE = 5_000
ROUNDS = 400  # of one run: two million rows, four hours of a thousand nodes with eight GPUs; the next run goes on

# Oldest first; what another transaction has in hand is left to the next round.
FORGET = """
DELETE FROM {table} WHERE id IN (
    SELECT id FROM {table} WHERE {at} < %(before)s ORDER BY {at} LIMIT %(most)s FOR UPDATE SKIP LOCKED
) RETURNING 1
"""
MINUTES = FORGET.format(table="telemetry_minute", at="at")
METERS = FORGET.format(table="telemetry_sitemeterreading", at="at")
SOURCES = FORGET.format(table="telemetry_source", at="heard_at")


def forget(now: datetime) -> int:
    """Minutes and meter readings older than the retention, and processes of which nothing can come any more. How many rows."""
    kept = now - timedelta(days=settings.TELEMETRY_RETENTION_DAYS)
    silent = now - timedelta(seconds=2 * OLDEST_SECONDS)
    return sum(some(sql, before) for sql, before in ((MINUTES, kept), (METERS, kept), (SOURCES, silent)))


def some(sql: str, before: datetime) -> int:
    """Each round is a transaction of its own."""
    gone = 0
    for _ in range(ROUNDS):
        count = database.run(batch(sql, before))
        gone += count
        if count < AT_ONCE:
            break
    return gone


def batch(sql: str, before: datetime) -> Plan[int]:
    return len((yield Statement(sql, {"before": before, "most": AT_ONCE})))
