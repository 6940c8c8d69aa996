"""What an organization used: its jobs that ended in a span of time, in groups.

A job counts when it ends, in the transaction that charges it, so the sums of `charge_microusd` are those of the ledger's
charges to the micro-dollar. A batch counts by its shards, each of its rows as a request, when a shard ends: its rows were
charged in the minute or so before. Days are of UTC.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal, get_args

from apps.core.sql import Plan, Row, Statement

Group = Literal["model", "key", "member", "site", "day", "hour"]
GROUPS: tuple[Group, ...] = get_args(Group)
LONGEST_JOB = timedelta(days=2)  # deadline and run time of any job that can end in the span
SKEW = timedelta(minutes=5)  # between the clock that makes ids and the database's
LONGEST_SPAN = timedelta(days=366)

# The id that groups, what is shown of it, and the tables both are of. A key's member is the one who made it.
PARTS: dict[Group, tuple[str, str]] = {
    "model": ("m.name", "m.title"),
    "key": ("j.api_key_id::text", "k.name"),
    "member": ("coalesce(j.user_id, k.created_by_id)::text", "u.email"),
    "site": ("s.code", "s.name"),
    "day": ("to_char(j.finished_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')", "NULL::text"),
    "hour": ("to_char(j.finished_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:00')", "NULL::text"),
}
SUMS = """
coalesce(sum(CASE WHEN j.batch_id IS NULL THEN 1 ELSE j.rows END), 0)::bigint AS requests,
coalesce(sum(CASE WHEN j.batch_id IS NOT NULL THEN j.failed_rows WHEN j.state IN ('failed', 'expired') THEN 1 ELSE 0 END), 0)::bigint AS failed,
coalesce(sum(j.prompt_tokens), 0)::bigint AS prompt_tokens,
coalesce(sum(j.cached_prompt_tokens), 0)::bigint AS cached_prompt_tokens,
coalesce(sum(j.completion_tokens), 0)::bigint AS completion_tokens,
coalesce(sum(j.pages), 0)::bigint AS pages,
coalesce(sum(j.charge_microusd), 0)::bigint AS charge_microusd,
sum(j.energy_wh) AS energy_wh,
sum(j.carbon_gco2e) AS carbon_gco2e,
coalesce(bool_or(j.energy_quality IN ('modelled', 'nameplate')), false) AS estimated
"""
FROM = """
FROM jobs_job j
JOIN catalog_model m ON m.id = j.model_id
LEFT JOIN keys_apikey k ON k.id = j.api_key_id
LEFT JOIN accounts_user u ON u.id = coalesce(j.user_id, k.created_by_id)
LEFT JOIN sites_pool p ON p.id = j.pool_id
LEFT JOIN sites_node n ON n.id = p.node_id
LEFT JOIN sites_site s ON s.id = n.site_id
WHERE j.organization_id = %(organization)s::uuid
  AND j.finished_at >= %(start)s::timestamptz AND j.finished_at < %(end)s::timestamptz
  AND j.id >= %(first)s::uuid AND j.id < %(last)s::uuid
"""


@dataclass(frozen=True, slots=True)
class Used:
    """The sums of one group. `groups` has its id and its name for each thing grouped by; the id is None where there is
    none: no key (sent from a page), no member (a key the portal made), no site (never placed)."""

    groups: dict[Group, tuple[str | None, str]]
    requests: int
    failed: int
    prompt_tokens: int
    cached_prompt_tokens: int
    completion_tokens: int
    pages: int
    charge_microusd: int
    energy_wh: float | None
    carbon_gco2e: float | None
    estimated: bool

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


SUMMED = (
    "requests",
    "failed",
    "prompt_tokens",
    "cached_prompt_tokens",
    "completion_tokens",
    "pages",
    "charge_microusd",
    "energy_wh",
    "carbon_gco2e",
    "estimated",
)
NAMELESS = {"key": "sent from a page", "member": "the portal", "site": "not placed"}


def first_id(at: datetime, shift: timedelta) -> uuid.UUID:
    """No job created at that time, shifted so, or later has a smaller id: ids begin with their milliseconds."""
    milliseconds = int((at.timestamp() + shift.total_seconds()) * 1000)
    return uuid.UUID(int=max(milliseconds, 0) << 80)


def statement(organization_id: uuid.UUID, start: datetime, end: datetime, groups: Sequence[Group]) -> Statement:
    columns = "".join(f"{PARTS[group][0]} AS {group}_id, max({PARTS[group][1]}) AS {group}_name, " for group in groups)
    by = f"GROUP BY {', '.join(PARTS[group][0] for group in groups)}" if groups else ""
    order = f"ORDER BY {', '.join(f'{group}_id NULLS LAST' for group in groups)}" if groups else ""
    return Statement(
        f"SELECT {columns}{SUMS}{FROM}{by} {order}",
        {
            "organization": organization_id,
            "start": start,
            "end": end,
            "first": first_id(start, -LONGEST_JOB),
            "last": first_id(end, SKEW),
        },
    )


def used(
    organization_id: uuid.UUID, *, start: datetime, end: datetime, groups: Sequence[Group] = ()
) -> Plan[list[Used]]:
    """Sums from `start` to before `end`; without groups one row of all, also where nothing was used."""
    rows = yield statement(organization_id, start, end, groups)
    return [
        Used(groups={group: named(row, group) for group in groups}, **{name: row[name] for name in SUMMED})
        for row in rows
    ]


def named(row: Row, group: Group) -> tuple[str | None, str]:
    """Ids as the API names things: a key by its UUID, a member by their number."""
    found: str | None = row[f"{group}_id"]
    if found is None:
        return None, NAMELESS.get(group, "")
    return found, row[f"{group}_name"] or found


def total(rows: Iterable[Used]) -> Used:
    """Of all rows. Energy is None where none has any."""
    rows = list(rows)

    def sum_of(name: str) -> float | None:
        known = [getattr(row, name) for row in rows if getattr(row, name) is not None]
        return sum(known) if known else None

    return Used(
        groups={},
        requests=sum(row.requests for row in rows),
        failed=sum(row.failed for row in rows),
        prompt_tokens=sum(row.prompt_tokens for row in rows),
        cached_prompt_tokens=sum(row.cached_prompt_tokens for row in rows),
        completion_tokens=sum(row.completion_tokens for row in rows),
        pages=sum(row.pages for row in rows),
        charge_microusd=sum(row.charge_microusd for row in rows),
        energy_wh=sum_of("energy_wh"),
        carbon_gco2e=sum_of("carbon_gco2e"),
        estimated=any(row.estimated for row in rows),
    )


def columns(groups: Sequence[Group]) -> list[str]:
    return (
        [
            name
            for group in groups
            for name in ((group,) if group in ("day", "hour", "model") else (group, f"{group}_name"))
        ]
        + [name for name in SUMMED if name != "estimated"]
        + ["energy_estimated"]
    )


def record(row: Used, groups: Sequence[Group]) -> list[Any]:
    """A line of the CSV: exact figures, micro-USD."""
    named: list[Any] = []
    for group in groups:
        found, name = row.groups[group]
        named += [found or ""] if group in ("day", "hour", "model") else [found or "", name]
    figures = [getattr(row, name) for name in SUMMED if name != "estimated"]
    return [*named, *("" if figure is None else figure for figure in figures), "yes" if row.estimated else "no"]


def days(start: datetime, end: datetime) -> list[date]:
    """Every UTC day that the span touches."""
    last = (end - timedelta(microseconds=1)).date()
    return [start.date() + timedelta(days=n) for n in range((last - start.date()).days + 1)]
