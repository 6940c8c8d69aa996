"""What work was charged lately, by the hour: how fast an organization spends, without reading each charge of a week.

Every hour up to `ChargedUntil` has its sums in `ChargedHour`; later charges are read from the journal. An hour is summed when every
transaction that could charge in it should be over: it says how long credit lasts, and is no book. Filling again replaces.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.core.cache import cache
from django.utils import timezone
from django.utils.translation import gettext, ngettext

from apps.accounts.models import Organization
from apps.core import numbers
from apps.core.sql import Plan, Statement
from cango_portal import database

DAYS = 7
NEWEST = 2_000  # charges that are read beside the hours, at most
SETTLED = timedelta(minutes=10)  # after its end an hour changes no more
AT_ONCE = timedelta(days=1)
YEAR = 365  # longer is not told in days
KEPT_SECONDS = 60  # what stands on every page
DAY = timedelta(days=1)

BEGIN = "INSERT INTO ledger_chargeduntil (id, at) VALUES (1, %(at)s) ON CONFLICT (id) DO NOTHING"
LOCK = "SELECT at, clock_timestamp() AS now FROM ledger_chargeduntil FOR UPDATE"
FILL = """
INSERT INTO ledger_chargedhour (organization_id, hour, microusd)
SELECT organization_id, date_trunc('hour', at, 'UTC'), sum(amount_microusd) FROM ledger_transfer
WHERE at >= %(start)s AND at < %(end)s AND debit = 'held' AND credit = 'revenue'
GROUP BY 1, 2
ON CONFLICT (organization_id, hour) DO UPDATE SET microusd = EXCLUDED.microusd
"""
FORGET = "DELETE FROM ledger_chargedhour WHERE hour < %(since)s"
MOVE = "UPDATE ledger_chargeduntil SET at = %(at)s"
BACK = "UPDATE ledger_chargeduntil SET at = %(at)s WHERE at > %(at)s"

# An hour is summed when it is before `until`: after `again` those that wait to be summed anew are read from the journal alone.
SPENT = """
WITH summed AS (
    SELECT greatest(max(at), %(since)s::timestamptz) AS until FROM ledger_chargeduntil
), hours AS (
    SELECT sum(microusd) AS charged, min(hour) AS since FROM ledger_chargedhour
    WHERE organization_id = %(organization)s::uuid AND hour >= %(since)s::timestamptz AND hour < (SELECT until FROM summed)
), newest AS (
    SELECT sum(amount_microusd) AS charged, min(at) AS since, count(*) AS charges FROM (
        SELECT amount_microusd, at FROM ledger_transfer
        WHERE organization_id = %(organization)s::uuid AND debit = 'held' AND credit = 'revenue'
          AND at >= (SELECT until FROM summed)
        ORDER BY at DESC LIMIT %(most)s
    ) AS charges
)
SELECT coalesce(hours.charged, 0)::bigint AS summed, hours.since, until, coalesce(newest.charged, 0)::bigint AS newest,
    newest.since AS newest_since, newest.charges = %(most)s AS cut
FROM summed, hours, newest
"""


@dataclass(frozen=True, slots=True)
class Pace:
    """`microusd_per_day` is charged a day lately; `days_left` is None while nothing is spent."""

    microusd_per_day: int
    days_left: int | None

    @property
    def words(self) -> str:
        """How long what is free lasts; nothing while nothing is spent."""
        if self.days_left is None:
            return ""
        if not self.days_left:
            return gettext("less than a day at this pace")
        if self.days_left > YEAR:
            return gettext("more than a year at this pace")
        days = {"days": numbers.count(self.days_left)}
        return ngettext("about %(days)s day at this pace", "about %(days)s days at this pace", self.days_left) % days


def hour_of(at: datetime) -> datetime:
    """The beginning of its hour, UTC."""
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def fill() -> Plan[bool]:
    """Sum the next hours, at most a day of them, and forget those nobody asks for. True where there may be more to do."""
    yield Statement(BEGIN, {"at": hour_of(timezone.now() - timedelta(days=DAYS))})
    [row] = yield Statement(LOCK)
    since, settled = hour_of(row["now"] - timedelta(days=DAYS)), hour_of(row["now"] - SETTLED)
    start: datetime = max(row["at"], since)
    end = min(start + AT_ONCE, settled)
    if end <= start:
        return False
    yield Statement(FILL, {"start": start, "end": end})
    yield Statement(FORGET, {"since": since})
    yield Statement(MOVE, {"at": end})
    return end < settled


def again(since: datetime) -> Plan[None]:
    """Charges were written into the past: the hours since then are summed anew."""
    yield Statement(BACK, {"at": hour_of(since)})


def _pace(organization_id: uuid.UUID, available_microusd: int, now: datetime) -> Plan[Pace]:
    """Charged a day since the first charge of the days, over one day at least.

    Where the newest are cut off, all that was not summed is taken to be as they are, and a pace of theirs that is faster is the pace:
    nobody is told that credit lasts while a flood takes it.
    """
    since = hour_of(now - timedelta(days=DAYS))
    [row] = yield Statement(SPENT, {"organization": organization_id, "since": since, "most": NEWEST})
    newest, newest_since, flood = row["newest"], row["newest_since"], 0.0
    if row["cut"]:
        flood = newest / (max(now - newest_since, timedelta(minutes=1)) / DAY)
        newest, newest_since = flood * ((now - row["until"]) / DAY), row["until"]
    first = row["since"] or newest_since
    if first is None:
        return Pace(0, None)
    daily = max(round((row["summed"] + newest) / max((now - first) / DAY, 1)), round(flood), 1)
    return Pace(daily, available_microusd // daily)


def pace(organization: Organization, *, available_microusd: int) -> Pace:
    """How fast the last days' work spent, and how long what is free lasts at that."""
    return database.run(_pace(organization.pk, available_microusd, timezone.now()))


def lately(organization_id: uuid.UUID, *, available_microusd: int) -> Pace:
    """As `pace`, of a minute ago at most: for what stands on every page."""
    name = f"pace:{organization_id}"
    daily: int | None = cache.get(name)
    if daily is None:
        daily = database.run(_pace(organization_id, available_microusd, timezone.now())).microusd_per_day
        cache.set(name, daily, KEPT_SECONDS)
    return Pace(daily, available_microusd // daily if daily else None)
