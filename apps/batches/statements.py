"""A batch's writes, each one SQL statement. `move` is the only writer of its state: compare-and-set."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from apps.core.errors import NotFound
from apps.core.sql import Plan, Row, Statement
from apps.jobs import rollup

BY_MARKET = rollup.MARKET.format(f="")  # carbon of rows

WORK_SECONDS = 30  # a task that has not said for so long that it goes on has died

# The columns a move may set, with the type that a NULL needs.
COLUMNS = {
    "ending": "text",
    "model_id": "bigint",
    "price_id": "bigint",
    "discount_basis_points": "int",
    "errors": "jsonb",
    "total": "int",
    "hold_microusd": "bigint",
    "input_tokens_ceiling": "bigint",
}

CREATE = """
WITH clock AS (SELECT clock_timestamp() AS now)
INSERT INTO batches_batch (
    id, organization_id, api_key_id, user_id, endpoint, completion_window, metadata, input_file_id, output_seconds,
    max_power_usd_per_mwh, state, ending, version, created_at, expires_at, discount_basis_points, errors, total, completed,
    failed, prompt_tokens, cached_prompt_tokens, completion_tokens, hold_microusd, charge_microusd, mark, digest,
    residency, allowed_models
)
SELECT %(id)s::uuid, %(organization)s::uuid, %(api_key)s::uuid, %(user)s::bigint, %(endpoint)s, %(window)s, %(metadata)s::jsonb,
    %(file)s::uuid, %(output_seconds)s::int, %(max_power_usd_per_mwh)s::float8, 'validating', '', 1, clock.now,
    least(clock.now + make_interval(secs => %(seconds)s::float8), %(deadline)s::timestamptz), 0, '[]', 0, 0, 0, 0, 0, 0, 0, 0,
    %(mark)s::bytea, %(digest)s::bytea, %(residency)s::text[], %(allowed_models)s::text[]
FROM clock
ON CONFLICT (mark) WHERE mark IS NOT NULL DO NOTHING RETURNING id
"""

KEPT = "created_at > clock_timestamp() - make_interval(secs => %(seconds)s)"
BY_MARK = f"SELECT id, digest FROM batches_batch WHERE mark = %(mark)s AND {KEPT}"  # noqa: S608 - a constant goes in
BY_DIGEST = f"SELECT id, digest FROM batches_batch WHERE digest = %(digest)s AND mark IS NULL AND {KEPT} ORDER BY id DESC LIMIT 1"  # noqa: S608
FORGET_MARK = f"UPDATE batches_batch SET mark = NULL WHERE mark = %(mark)s AND NOT {KEPT}"  # noqa: S608 - a constant goes in

COLUMNS_READ = """
id, organization_id, api_key_id, user_id, endpoint, state, ending, version, input_file_id, output_file_id, error_file_id,
output_seconds, max_power_usd_per_mwh, allowed_models, model_id, price_id, discount_basis_points, total, completed, failed, hold_microusd,
charge_microusd, created_at, expires_at, expires_at <= clock_timestamp() AS past_window,
extract(epoch FROM expires_at - clock_timestamp())::float8 AS seconds_left
"""

LOCK = f"SELECT {COLUMNS_READ} FROM batches_batch WHERE id = %(id)s FOR UPDATE"  # noqa: S608 - a constant goes in

SHOWN = """
SELECT b.id, b.endpoint, b.state, b.completion_window, b.metadata, b.errors, b.input_file_id, b.output_file_id, b.error_file_id,
    b.created_at, b.in_progress_at, b.expires_at, b.finalizing_at, b.completed_at, b.failed_at, b.expired_at, b.cancelling_at,
    b.cancelled_at, b.total, b.completed, b.failed, b.prompt_tokens, b.cached_prompt_tokens, b.completion_tokens,
    b.hold_microusd, b.charge_microusd, b.energy_wh, b.carbon_gco2e, b.carbon_market_gco2e, b.max_power_usd_per_mwh, m.name AS model
FROM batches_batch b LEFT JOIN catalog_model m ON m.id = b.model_id WHERE b.organization_id = %(organization)s
"""

CLAIM = f"""
UPDATE batches_batch SET working_until = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE id = %(id)s AND state = ANY(%(states)s) AND (working_until IS NULL OR working_until < clock_timestamp())
RETURNING working_until, {COLUMNS_READ}
"""  # noqa: S608 - a constant goes in

GO_ON = """
UPDATE batches_batch SET working_until = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE id = %(id)s AND working_until = %(token)s RETURNING working_until
"""

NAME_FILES = """
UPDATE batches_batch SET output_file_id = %(output)s::uuid, error_file_id = %(error)s::uuid
WHERE id = %(id)s AND working_until = %(token)s RETURNING id
"""

CUT = """
INSERT INTO batches_shard (batch_id, number, first_line, lines, path, ceilings_microusd)
SELECT %(batch)s::uuid, number, first_line, lines, path, ceilings
FROM jsonb_to_recordset(%(shards)s) AS (number int, first_line int, lines int, path text, ceilings bigint[])
"""


def create(params: dict[str, Any]) -> Plan[bool]:
    """False where a batch was made with this Idempotency-Key at the same moment: nothing was written."""
    metadata = params["metadata"]
    return bool((yield Statement(CREATE, {**params, "metadata": None if metadata is None else Jsonb(metadata)})))


def made_before(mark: bytes | None, digest: bytes, *, mark_seconds: float, digest_seconds: float) -> Plan[Row | None]:
    """The batch that was made by the same key, or without one by the same bytes, lately; a key is free again after that."""
    if mark is None:
        rows = yield Statement(BY_DIGEST, {"digest": digest, "seconds": digest_seconds})
    else:
        yield Statement(FORGET_MARK, {"mark": mark, "seconds": mark_seconds})
        rows = yield Statement(BY_MARK, {"mark": mark, "seconds": mark_seconds})
    return rows[0] if rows else None


def lock(batch_id: UUID) -> Plan[Row | None]:
    """The batch's row for a decision, locked until the transaction ends."""
    rows = yield Statement(LOCK, {"id": batch_id})
    return rows[0] if rows else None


def claim(batch_id: UUID, *states: str) -> Plan[Row | None]:
    """The batch in one of `states`, for a task to work on; None where it is not, or another task is at it."""
    rows = yield Statement(CLAIM, {"id": batch_id, "states": list(states), "seconds": WORK_SECONDS})
    return rows[0] if rows else None


def go_on(batch_id: UUID, token: datetime) -> Plan[datetime | None]:
    """The task is alive: its new token. None: the batch was moved on, or is another task's."""
    rows = yield Statement(GO_ON, {"id": batch_id, "token": token, "seconds": WORK_SECONDS})
    return rows[0]["working_until"] if rows else None


def name_files(batch_id: UUID, token: datetime, *, output: UUID | None, error: UUID | None) -> Plan[bool]:
    """The files a task is about to write, so that whoever comes after it finds what it left. False: not its to write."""
    return bool((yield Statement(NAME_FILES, {"id": batch_id, "token": token, "output": output, "error": error})))


def move(
    batch_id: UUID, to: str, *, sources: tuple[str, ...], token: datetime | None = None, **changes: Any
) -> Plan[bool]:
    """From one of `sources` to `to`, with the time of that step; with `token` only for the task that has it.

    False where it was in none of them, or is not the task's: nothing was written. No task works on it after that.
    """
    sets = "".join(f", {column} = %({column})s::{COLUMNS[column]}" for column in changes)
    mine = "" if token is None else " AND working_until = %(token)s"
    rows = yield Statement(
        f"""
        UPDATE batches_batch SET state = %(to)s, version = version + 1, working_until = NULL, {to}_at = clock_timestamp(){sets}
        WHERE id = %(id)s AND state = ANY(%(sources)s){mine} RETURNING id
        """,  # noqa: S608 - only a state and column names of COLUMNS go in
        {
            "id": batch_id,
            "to": to,
            "sources": list(sources),
            "token": token,
            **{name: Jsonb(value) if name == "errors" else value for name, value in changes.items()},
        },
    )
    return bool(rows)


def cut(batch_id: UUID, shards: list[dict[str, Any]]) -> Plan[None]:
    yield Statement(CUT, {"batch": batch_id, "shards": Jsonb(shards)})


def found(organization_id: UUID, batch_id: UUID | None) -> Plan[Row]:
    """Raises NotFound, with one message for unknown and foreign batches."""
    rows = yield Statement(f"{SHOWN} AND b.id = %(id)s", {"organization": organization_id, "id": batch_id})
    if not rows:
        raise NotFound("There is no such batch.", code="batch_not_found")
    return rows[0]


def listed(organization_id: UUID, *, after: UUID | None, limit: int) -> Plan[list[Row]]:
    """Newest first. `limit` as it is: ask for one more to know whether there are more."""
    beyond = "" if after is None else "AND b.id < %(after)s"
    return (
        yield Statement(
            f"{SHOWN} {beyond} ORDER BY b.id DESC LIMIT {int(limit)}", {"organization": organization_id, "after": after}
        )
    )
