"""The job's writes and the one read the doors need, each one SQL statement.

`transition` is the only writer of a job's state: compare-and-set, with the event of the step in the same statement.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from apps.billing import entitlements
from apps.core.sql import Plan, Row, Statement, array
from apps.files.sealing import Unreadable
from apps.jobs import sealed

# The columns a transition may set, with the type that a NULL needs.
COLUMNS = {
    "attempt": "int",
    "fence": "uuid",
    "claimant": "text",
    "pool_id": "bigint",
    "placement": "jsonb",
    "deadline_at": "timestamptz",
    "dispatched_at": "timestamptz",
    "started_at": "timestamptz",
    "first_token_at": "timestamptz",
    "lease_expires_at": "timestamptz",
    "cancel_requested_at": "timestamptz",
    "finished_at": "timestamptz",
    "charge_microusd": "bigint",
    "prompt_tokens": "int",
    "cached_prompt_tokens": "int",
    "completion_tokens": "int",
    "pages": "int",
    "rows": "int",
    "failed_rows": "int",
    "energy_factor": "float8",
    "grid_gco2e_per_kwh": "float8",
    "gpu_energy_wh": "float8",
    "energy_wh": "float8",
    "energy_quality": "text",
    "carbon_gco2e": "float8",
    "market_gco2e_per_kwh": "float8",
    "carbon_market_gco2e": "float8",
    "finish_reason": "text",
    "error_code": "text",
    "error_message": "text",
    "error_status": "int",
}


def storable(value: Any) -> Any:
    """`value` as PostgreSQL's text and jsonb take it: an engine may say NUL, and they may not hold it."""
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd")
    if isinstance(value, dict):
        return {storable(name): storable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [storable(item) for item in value]
    return value


class StaleState(Exception):
    """The job was not in the state, attempt or fence the writer believed: somebody else was first. Nothing was written."""


CREATE = """
WITH clock AS (
    SELECT clock_timestamp() AS now
), {first} job AS (
    INSERT INTO jobs_job (
        id, organization_id, api_key_id, user_id, model_id, price_id, file_id, kind, interactive, streaming,
        tier, discount_basis_points, state, reason, version, attempt, fence, claimant, pool_id, placement, residency, created_at, deadline_at, dispatched_at,
        lease_expires_at, hold_microusd, prompt_tokens, completion_tokens, max_completion_tokens, pages, total_pages,
        energy_factor, grid_gco2e_per_kwh, market_gco2e_per_kwh, energy_quality, finish_reason, error_code, error_message, metadata, stored,
        batch_id, max_usd_per_mwh
    )
    SELECT
        %(id)s::uuid, %(organization)s, %(api_key)s::uuid, %(user)s::bigint, %(model)s, %(price)s, %(file)s::uuid, %(kind)s, %(interactive)s, %(streaming)s,
        %(tier)s, %(discount)s, %(state)s::text, %(reason)s, 1, %(attempt)s, %(fence)s::uuid, '', %(pool)s::bigint, %(placement)s, %(residency)s::text[], clock.now,
        clock.now + make_interval(secs => %(wait_seconds)s::float8),
        CASE WHEN %(state)s::text = 'dispatched' THEN clock.now END,
        CASE WHEN %(state)s::text = 'dispatched' THEN clock.now + make_interval(secs => %(lease_seconds)s::float8) END,
        %(hold)s, 0, 0, %(max_completion_tokens)s, 0, %(pages)s,
        %(energy_factor)s::float8, %(grid)s::float8, %(market)s::float8, '', '', '', '', %(metadata)s, %(stored)s, %(batch)s::uuid, %(max_usd_per_mwh)s::float8
    FROM clock {where}
    RETURNING id, attempt, state, reason, created_at, deadline_at
), content AS (
    INSERT INTO jobs_content (job_id, sealed_request, text) SELECT id, %(request)s, '' FROM job RETURNING 1
), event AS (
    INSERT INTO jobs_event (job_id, number, state, attempt, reason, data, at)
    SELECT id, 1, state, attempt, reason, %(data)s, created_at FROM job RETURNING 1
){beside}
SELECT job.deadline_at{last} FROM job, (SELECT count(*) FROM content) c, (SELECT count(*) FROM event) e{after}
"""

ROW = """
SELECT j.id, j.organization_id, j.model_id, j.price_id, j.tier, j.discount_basis_points, j.kind, j.interactive, j.streaming, j.state, j.version, j.attempt,
    j.fence::text AS fence, j.claimant, j.pool_id, p.code AS pool, j.cancel_requested_at, j.energy_factor, j.grid_gco2e_per_kwh, j.market_gco2e_per_kwh,
    j.batch_id, j.residency, j.hold_microusd, j.deadline_at, j.deadline_at <= clock_timestamp() AS past_deadline, j.max_completion_tokens, j.total_pages, j.file_id,
    coalesce(j.lease_expires_at < clock_timestamp(), false) AS lease_lost, s.name AS site, n.id AS node_id,
    (SELECT to_jsonb(v) FROM catalog_priceversion v WHERE v.id = j.price_id) AS price
FROM jobs_job j
LEFT JOIN sites_pool p ON p.id = j.pool_id LEFT JOIN sites_node n ON n.id = p.node_id LEFT JOIN sites_site s ON s.id = n.site_id
"""

RANK = "array_position(ARRAY['standard', 'flexible', 'batch'], {}.tier::text)"  # who waits behind whom

POSITION = f"""CASE WHEN j.state = 'queued' THEN (
        SELECT count(*) FROM jobs_job q WHERE q.state = 'queued' AND q.model_id = j.model_id AND q.batch_id IS NULL
            AND ({RANK.format("q")}, q.deadline_at, q.id) <= ({RANK.format("j")}, j.deadline_at, j.id)
    ) END"""  # noqa: S608 - a constant goes in
POSITIONS = (
    f"SELECT j.id, {POSITION} AS position FROM jobs_job j WHERE j.id = ANY (%(ids)s::uuid[]) AND j.state = 'queued'"  # noqa: S608 - a constant goes in
)

# Who goes before the jobs asked about, in the order in which they run: within a lane each organization's first before
# anyone's second. Nothing of a model where more wait than are looked at. `lane` is the tier. `passed`: another organization
# whose plan reserves slots waits too, and goes first as often as it has one free, which nobody can foretell.
QUEUE = 2_000  # read again every few seconds for each page that shows one who waits: 30 ms
AHEAD = f"""
WITH asked AS (
    SELECT id, model_id, batch_id IS NOT NULL AS shard FROM jobs_job WHERE id = ANY (%(ids)s::uuid[]) AND state = 'queued'
), line AS (
    SELECT l.*, {RANK.format("l")} AS rank, row_number() OVER (
        PARTITION BY l.model_id, l.shard, l.organization_id, l.tier ORDER BY l.deadline_at, l.id
    ) AS turn
    FROM (SELECT DISTINCT model_id, shard FROM asked) a CROSS JOIN LATERAL (
        SELECT q.id, q.model_id, a.shard, q.organization_id, q.tier, q.residency, q.deadline_at FROM jobs_job q
        WHERE q.state = 'queued' AND q.model_id = a.model_id AND (q.batch_id IS NOT NULL) = a.shard
            AND q.cancel_requested_at IS NULL AND q.max_usd_per_mwh IS NULL
        LIMIT %(most)s + 1
    ) l
), known AS (
    SELECT model_id, shard FROM line GROUP BY model_id, shard HAVING count(*) <= %(most)s
), reserved AS (
    SELECT DISTINCT l.model_id, l.organization_id FROM line l JOIN ({entitlements.IN_FORCE}) p USING (organization_id)
    WHERE NOT l.shard AND p.reserved_slots > 0
)
SELECT mine.id, mine.model_id, mine.shard, mine.tier, mine.residency, mine.deadline_at, o.tier AS lane, o.residency AS rule, count(o.id) AS count,
    NOT mine.shard AND EXISTS (
        SELECT FROM reserved r WHERE r.model_id = mine.model_id AND r.organization_id <> mine.organization_id
    ) AS passed,
    (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS at
FROM asked JOIN known USING (model_id, shard) JOIN line mine USING (id)
LEFT JOIN line o ON o.model_id = mine.model_id AND o.shard = mine.shard
    AND (o.rank, o.turn, o.deadline_at, o.id) < (mine.rank, mine.turn, mine.deadline_at, mine.id)
GROUP BY mine.id, mine.model_id, mine.organization_id, mine.shard, mine.tier, mine.residency, mine.deadline_at, o.tier, o.residency
"""  # noqa: S608 - constants go in

SNAPSHOT = f"""
SELECT j.id, j.organization_id, j.state, j.reason, j.version, j.attempt, j.kind, j.streaming, j.interactive, j.tier, m.name AS model, p.code AS pool,
    s.name AS site, s.code AS site_code, s.region, s.country, j.created_at, j.deadline_at, j.dispatched_at, j.started_at, j.first_token_at,
    j.finished_at, j.cancel_requested_at, j.hold_microusd, j.charge_microusd, j.prompt_tokens, j.cached_prompt_tokens, j.completion_tokens,
    j.max_completion_tokens, j.pages, j.total_pages, j.energy_wh, j.gpu_energy_wh, j.energy_quality, j.carbon_gco2e, j.carbon_market_gco2e,
    j.finish_reason, j.error_code, j.error_message, j.error_status,
    {sealed.ANSWER},
    {POSITION} AS position
FROM jobs_job j
JOIN catalog_model m ON m.id = j.model_id
LEFT JOIN jobs_content c ON c.job_id = j.id
LEFT JOIN sites_pool p ON p.id = j.pool_id LEFT JOIN sites_node n ON n.id = p.node_id LEFT JOIN sites_site s ON s.id = n.site_id
WHERE j.id = ANY (%(ids)s::uuid[])
"""  # noqa: S608 - a constant goes in

# `model`: an expression
ANYBODY_WAITS = f"""
SELECT EXISTS (
    SELECT FROM jobs_job j, (SELECT %(tier)s::text AS tier) mine
    WHERE j.state = 'queued' AND j.model_id = {{model}} AND j.batch_id IS NULL AND {RANK.format("j")} <= {RANK.format("mine")}
)
"""  # noqa: S608 - a constant goes in
# A job that waits for other places than these is in nobody's way.
WAITING = f"""
SELECT EXISTS (
    SELECT FROM jobs_job j, (SELECT %(tier)s::text AS tier) mine
    WHERE j.state = 'queued' AND j.model_id = %(model)s AND j.batch_id IS NULL AND {RANK.format("j")} <= {RANK.format("mine")}
      AND (j.residency IS NULL OR EXISTS (
          SELECT FROM unnest(%(places)s::text[]) place, unnest(j.residency) allowed
          WHERE place = allowed OR starts_with(place, allowed || '/')
      ))
) AS waiting
"""  # noqa: S608 - a constant goes in

ASKED = f"""
SELECT {sealed.REQUEST}, j.residency FROM jobs_content c JOIN jobs_job j ON j.id = c.job_id
WHERE j.id = %(id)s AND j.organization_id = %(organization)s AND {sealed.IS_KEPT}
    AND (%(key)s::uuid IS NULL OR j.api_key_id = %(key)s::uuid)
"""  # noqa: S608 - constants go in

FORGET = """
DELETE FROM jobs_content c USING jobs_job j
WHERE c.job_id = %(id)s AND j.id = c.job_id AND (j.finished_at IS NOT NULL OR j.cancel_requested_at IS NOT NULL)
RETURNING c.job_id
"""

KEPT = """, content AS (
        UPDATE jobs_content SET sealed_answer = %(answer)s WHERE job_id = (SELECT id FROM moved) RETURNING 1
    )"""


@dataclass(frozen=True, slots=True)
class Content:
    """What is kept of an answer."""

    text: str
    result: Any

    def params(self, job_id: UUID) -> dict[str, Any]:
        return {"answer": sealed.answer(job_id, storable(self.text), storable(self.result))}


@dataclass(frozen=True, slots=True)
class Beside:
    """What else one statement writes with a job's row or step: one commit, and no turn to the database between.

    `parts` are `name AS (…)`; they select from `job` (of `create`) or `moved` (of `transition`) and return a row. `last` is
    an expression, evaluated when all else is written: what others wait for. `params` are theirs.
    """

    parts: tuple[str, ...] = ()
    last: str = "NULL"
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sql(self) -> str:
        return "".join(f", {part}" for part in self.parts)

    @property
    def after(self) -> str:
        """In FROM: it makes the last expression wait for the parts."""
        names = [part.split(maxsplit=1)[0] for part in self.parts]
        return "".join(f", (SELECT count(*) FROM {name}) {name}_" for name in names)  # noqa: S608 - names of parts


def create(
    params: dict[str, Any],
    *,
    first: str = "",
    beside: Beside = Beside(),
    alone: bool = False,
) -> Plan[Row | None]:
    """Write job, content and first event. Returns `deadline_at` by the database clock, and `last`.

    `first` is a part that decides whether the job is written: None, and nothing written, where it gives no row.
    """
    name = first.split(maxsplit=1)[0] if first else ""
    rows = yield Statement(
        CREATE.format(
            first=f"{first}," if first else "",
            where=f"WHERE EXISTS (SELECT FROM {name})" if first else "",
            beside=beside.sql,
            last=f", {beside.last} AS last",
            after=beside.after,
        ),
        {
            "batch": None,
            "max_usd_per_mwh": None,
            **params,
            "placement": Jsonb(params["placement"]),
            "request": sealed.request(params["id"], params["request"], params["asked"]),
            "metadata": Jsonb(params["metadata"]),
            "data": Jsonb(params["data"]),
            **beside.params,
        },
        alone,
    )
    return rows[0] if rows else None


def lock(job_id: UUID) -> Plan[Row | None]:
    """The job's row for a decision, locked until the transaction ends."""
    rows = yield Statement(f"{ROW} WHERE j.id = %(id)s FOR UPDATE OF j", {"id": job_id})
    return rows[0] if rows else None


def read(job_id: UUID) -> Plan[Row | None]:
    """As `lock`, without the lock: for a decision that ends in one transition, which finds out whether it is still true."""
    return (yield from reads((job_id,))).get(job_id)


def reads(job_ids: Iterable[UUID]) -> Plan[dict[UUID, Row]]:
    """`read` of several, by their ids."""
    rows = yield Statement(f"{ROW} WHERE j.id = ANY (%(ids)s::uuid[])", {"ids": array(job_ids)}, alone=True)
    return {row["id"]: row for row in rows}


def snapshot(job_id: UUID) -> Plan[Row | None]:
    """Everything a reader of one job is shown. `position` is its place in line (1 is next) while queued."""
    return (yield from snapshots((job_id,))).get(job_id)


def snapshots(job_ids: Iterable[UUID]) -> Plan[dict[UUID, Row]]:
    """`snapshot` of several, by their ids."""
    rows = yield Statement(SNAPSHOT, {"ids": array(job_ids)}, alone=True)
    return {row["id"]: answered(row) for row in rows}


def ahead(job_ids: Iterable[UUID]) -> Plan[list[Row]]:
    now = entitlements.params(datetime.now(UTC))
    return (yield Statement(AHEAD, {"ids": array(job_ids), "most": QUEUE, **now}, alone=True))


def positions(job_ids: Iterable[UUID]) -> Plan[dict[UUID, int]]:
    """The place in line of those that are queued."""
    rows = yield Statement(POSITIONS, {"ids": array(job_ids)}, alone=True)
    return {row["id"]: row["position"] for row in rows}


def answered(row: Row) -> Row:
    """The row with `text` and `result` out of `sealed.ANSWER`. Where they cannot be read, `unreadable` says why."""
    answer, row["unreadable"] = sealed.Answer(), None
    try:
        answer = sealed.answer_of(row)
    except Unreadable as error:
        row["unreadable"] = error
    row["text"], row["result"] = answer
    return row


def transition(
    job_id: UUID,
    to: str,
    *,
    sources: tuple[str, ...],
    version: int,
    claimants: tuple[str, ...] | None = None,
    reason: str = "",
    data: dict[str, Any] | None = None,
    now: tuple[str, ...] = (),
    later: dict[str, float] | None = None,
    content: Content | None = None,
    beside: Beside = Beside(),
    alone: bool = False,
    **changes: Any,
) -> Plan[Row]:
    """Move a job from one of `sources` at `version` to `to`, and write the event. Returns the new `version`, and `last`.

    `claimants`: one of these must hold it, where that matters; "" is nobody. `now` names columns set to the database clock, `later` columns set so many seconds after it. `content` is
    what is kept of the answer. Raises StaleState.
    """
    assignments = [f"{column} = clock_timestamp()" for column in now]
    assignments += [
        f"{column} = clock_timestamp() + make_interval(secs => %(later_{column})s::float8)" for column in later or {}
    ]
    assignments += [f"{column} = %({column})s::{COLUMNS[column]}" for column in changes]
    unknown = [column for column in (*now, *(later or {})) if column not in COLUMNS]
    if unknown:
        raise ValueError(f"a transition does not set {unknown}")
    sets = "".join(f", {each}" for each in assignments)
    kept = ", (SELECT count(*) FROM content) content_" if content else ""
    sql = f"""
    WITH moved AS (
        UPDATE jobs_job SET state = %(to)s::text, reason = %(reason)s::text, version = version + 1{sets}
        WHERE id = %(id)s AND state = ANY(%(sources)s) AND version = %(version)s
          AND (%(claimants)s::text[] IS NULL OR claimant = ANY(%(claimants)s::text[]))
        RETURNING id, version, attempt
    ), event AS (
        INSERT INTO jobs_event (job_id, number, state, attempt, reason, data, at)
        SELECT id, version, %(to)s::text, attempt, %(reason)s::text, %(data)s, clock_timestamp() FROM moved RETURNING 1
    ){KEPT if content else ""}{beside.sql}
    SELECT version, {beside.last} AS last FROM moved, (SELECT count(*) FROM event) event_{kept}{beside.after}
    """  # noqa: S608 - only column names of COLUMNS go in
    rows = yield Statement(
        sql,
        {
            "id": job_id,
            "to": to,
            "sources": list(sources),
            "version": version,
            "claimants": list(claimants) if claimants else None,
            "reason": storable(reason)[:200],
            "data": Jsonb(storable(data or {})),
            **(content.params(job_id) if content else {}),
            **{f"later_{column}": seconds for column, seconds in (later or {}).items()},
            **{column: Jsonb(value) if column == "placement" else storable(value) for column, value in changes.items()},
            **beside.params,
        },
        alone,
    )
    if not rows:
        raise StaleState(f"{job_id} to {to}")
    return rows[0]


def asked(job_id: UUID, organization_id: UUID, *, key: UUID | None) -> Plan[Row | None]:
    """`asked`, `request` and `residency` of the organization's own job that came as a response and whose content is still kept.

    `key`: only of what that key sent; None is the whole organization's. Raises Unreadable.
    """
    rows = yield Statement(ASKED, {"id": job_id, "organization": organization_id, "key": key})
    if not rows:
        return None
    kept = sealed.request_of(rows[0])
    return None if kept.asked is None else {**rows[0], "asked": kept.asked, "request": kept.request}


def forget_content(job_id: UUID) -> Plan[bool]:
    """Let go of what was sent and got, once the job has ended or was asked to: it never runs again.

    What a runner still reports of it finds no place and is not kept.
    """
    rows = yield Statement(FORGET, {"id": job_id})
    return bool(rows)


def waiting(model_id: int, tier: str, places: list[str]) -> Plan[bool]:
    """Does any job of this tier, or of one that goes before it, wait for this model at one of these places?"""
    rows = yield Statement(WAITING, {"model": model_id, "tier": tier, "places": places}, alone=True)
    return bool(rows[0]["waiting"])
