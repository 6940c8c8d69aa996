"""What an organization used: its jobs that ended in a span of time, in groups.

A job counts when it ends, in the transaction that charges it, so the sums of `charge_microusd` are those of the ledger's
charges to the micro-dollar. A batch counts by its shards, each of its rows as a request, when a shard ends: its rows were
charged in the minute or so before. Days are of UTC, and weeks of such days, from Monday. Hours that were summed (`rollup`) are not read again job by job.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal

from django.utils.translation import gettext_lazy

from apps.core.sql import Plan, Row, Statement
from apps.jobs import rollup

Group = Literal["model", "key", "member", "site", "week", "day", "hour"]
LONGEST_SPAN = timedelta(days=366)

# The id that groups, what is shown of it, and the tables both are of. A key's member is the one who made it.
PARTS: dict[Group, tuple[str, str]] = {
    "model": ("m.name", "m.title"),
    "key": ("f.api_key_id::text", "k.name"),
    "member": ("coalesce(f.user_id, k.created_by_id)::text", "u.email"),
    "site": ("s.code", "s.name"),
    "week": ("to_char(date_trunc('week', f.at AT TIME ZONE 'UTC'), 'YYYY-MM-DD')", "NULL::text"),  # its Monday
    "day": ("to_char(f.at AT TIME ZONE 'UTC', 'YYYY-MM-DD')", "NULL::text"),
    "hour": ("to_char(f.at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:00')", "NULL::text"),
}
SUMS = f"""
{", ".join(f"coalesce(sum(f.{name}), 0)::bigint AS {name}" for name in rollup.SUMMED)},
sum(f.energy_wh) AS energy_wh, sum(f.carbon_gco2e) AS carbon_gco2e,
{rollup.MARKET.format(f="f.")} AS carbon_market_gco2e, coalesce(bool_or(f.estimated), false) AS estimated
"""
NAMES = """
JOIN catalog_model m ON m.id = f.model_id
LEFT JOIN keys_apikey k ON k.id = f.api_key_id
LEFT JOIN accounts_user u ON u.id = coalesce(f.user_id, k.created_by_id)
LEFT JOIN sites_site s ON s.id = f.site_id
"""
# `{n}`: which of the parts of the span
ENDED = f"""
SELECT j.finished_at AS at, {rollup.OF_JOB} {rollup.JOBS}
WHERE j.organization_id = %(organization)s::uuid
  AND j.finished_at >= %(start{{n}})s::timestamptz AND j.finished_at < %(end{{n}})s::timestamptz
  AND j.id >= %(first{{n}})s::uuid AND j.id < %(last{{n}})s::uuid
"""
HOURS = f"""
SELECT hour AS at, model_id, api_key_id, user_id, site_id, {", ".join(rollup.SUMMED)}, energy_wh, carbon_gco2e, carbon_market_gco2e, estimated
FROM jobs_usagehour
WHERE organization_id = %(organization)s::uuid AND hour >= %(start{{n}})s::timestamptz AND hour < %(end{{n}})s::timestamptz
"""  # noqa: S608 - constants go in


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
    carbon_market_gco2e: float | None
    estimated: bool

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


REST = "*"  # no id is this
NAMED_BY_ID: tuple[Group, ...] = ("week", "day", "hour", "model")
SUMMED = (*rollup.SUMMED, "energy_wh", "carbon_gco2e", "carbon_market_gco2e", "estimated")
NAMELESS = {
    "key": gettext_lazy("sent from a page"),
    "member": gettext_lazy("the portal"),
    "site": gettext_lazy("not placed"),
}


def parts(start: datetime, end: datetime, until: datetime | None) -> list[tuple[str, datetime, datetime]]:
    """The span in parts, each with what it is read from: whole hours up to `until` from their sums, the rest from jobs."""
    whole = rollup.hour_of(start)
    first = whole if whole == start else whole + rollup.HOUR
    last = rollup.hour_of(min(end, until)) if until else first
    if last <= first:
        return [(ENDED, start, end)]
    found = [(ENDED, start, first), (HOURS, first, last), (ENDED, last, end)]
    return [each for each in found if each[1] < each[2]]


def statement(
    organization_id: uuid.UUID,
    start: datetime,
    end: datetime,
    groups: Sequence[Group],
    until: datetime | None,
    *,
    leading: Sequence[str | None] | None,
) -> Statement:
    ids = [PARTS[group][0] for group in groups]
    params: dict[str, Any] = {"organization": organization_id}
    if leading is not None:
        ids[-1] = f"CASE WHEN coalesce({ids[-1]}, '') = ANY(%(leading)s::text[]) THEN {ids[-1]} ELSE '{REST}' END"
        params["leading"] = [each or "" for each in leading]
    columns = "".join(
        f"{id_} AS {group}_id, max({PARTS[group][1]}) AS {group}_name, " for group, id_ in zip(groups, ids, strict=True)
    )
    by = f"GROUP BY {', '.join(ids)}" if groups else ""
    order = f"ORDER BY {', '.join(f'{group}_id NULLS LAST' for group in groups)}" if groups else ""
    sources = []
    for n, (source, first, last) in enumerate(parts(start, end, until)):
        sources.append(source.format(n=n))
        params |= {f"{name}{n}": value for name, value in rollup.bounds(first, last).items()}
    return Statement(f"SELECT {columns}{SUMS}FROM ({' UNION ALL '.join(sources)}) f {NAMES}{by} {order}", params)


def used(
    organization_id: uuid.UUID,
    *,
    start: datetime,
    end: datetime,
    groups: Sequence[Group] = (),
    leading: Sequence[str | None] | None = None,
) -> Plan[list[Used]]:
    """Sums from `start` to before `end`; without groups one row of all, also where nothing was used. Of the last group only
    the ids in `leading` stand apart, if that is given; the others are `REST` together."""
    until = yield from rollup.until()
    rows = yield statement(organization_id, start, end, groups, until, leading=leading)
    return [
        Used(groups={group: named(row, group) for group in groups}, **{name: row[name] for name in SUMMED})
        for row in rows
    ]


def named(row: Row, group: Group) -> tuple[str | None, str]:
    """Ids as the API names things: a key by its UUID, a member by their number."""
    found: str | None = row[f"{group}_id"]
    if found is None:
        return None, str(NAMELESS.get(group, ""))
    return found, row[f"{group}_name"] or found


def total(rows: Iterable[Used]) -> Used:
    """Of all rows. Energy is None where none has any."""
    rows = list(rows)

    def sum_of(name: str) -> float | None:
        known = [getattr(row, name) for row in rows if getattr(row, name) is not None]
        return sum(known) if known else None

    by_market = [row.carbon_gco2e if row.carbon_market_gco2e is None else row.carbon_market_gco2e for row in rows]
    has_market = any(row.carbon_market_gco2e is not None for row in rows)

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
        carbon_market_gco2e=sum(each for each in by_market if each is not None) if has_market else None,
        estimated=any(row.estimated for row in rows),
    )


def columns(groups: Sequence[Group]) -> list[str]:
    return (
        [name for group in groups for name in ((group,) if group in NAMED_BY_ID else (group, f"{group}_name"))]
        + [name for name in SUMMED if name != "estimated"]
        + ["energy_estimated"]
    )


def record(row: Used, groups: Sequence[Group]) -> list[Any]:
    """A line of the CSV: exact figures, micro-USD."""
    named: list[Any] = []
    for group in groups:
        found, name = row.groups[group]
        named += [found or ""] if group in NAMED_BY_ID else [found or "", name]
    figures = [getattr(row, name) for name in SUMMED if name != "estimated"]
    return [*named, *("" if figure is None else figure for figure in figures), "yes" if row.estimated else "no"]


def days(start: datetime, end: datetime) -> list[date]:
    """Every UTC day that the span touches."""
    last = (end - timedelta(microseconds=1)).date()
    return [start.date() + timedelta(days=n) for n in range((last - start.date()).days + 1)]


def weeks(start: datetime, end: datetime) -> list[date]:
    """The Monday of every UTC week that the span touches; the first may be before it."""
    touched = days(start, end)
    first = touched[0] - timedelta(days=touched[0].weekday())
    return [first + timedelta(weeks=n) for n in range((touched[-1] - first).days // 7 + 1)]
