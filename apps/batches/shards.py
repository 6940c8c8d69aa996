"""Shards: lines of a batch that are ready for an engine, as jobs that are leased like any other and not shown."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import UUID

from django.core.files.storage import default_storage

from apps.batches.endpoints import ENDPOINTS
from apps.catalog.models import Tier
from apps.core.ids import uuid7
from apps.core.sql import Plan, Row, Statement
from apps.dispatch.work import Work
from apps.jobs import statements as jobs
from apps.runner.protocol import Task

OPEN = 32  # shards of one batch that may be queued or run at once; the others wait in their own table

NEXT = """
WITH busy AS (
    SELECT count(*) AS count FROM batches_shard s JOIN jobs_job j ON j.id = s.job_id
    WHERE s.batch_id = %(batch)s AND j.finished_at IS NULL
)
SELECT s.id, s.lines, (SELECT sum(ceiling) FROM unnest(s.ceilings_microusd) AS ceiling)::bigint AS hold
FROM batches_shard s, busy
WHERE s.batch_id = %(batch)s AND s.job_id IS NULL
ORDER BY s.number LIMIT greatest(%(open)s - (SELECT count FROM busy), 0)
"""
TERMS = """
SELECT b.organization_id, b.api_key_id, b.user_id, b.model_id, b.price_id, b.discount_basis_points, b.max_power_usd_per_mwh, b.residency,
    b.endpoint, extract(epoch FROM b.expires_at - clock_timestamp())::float8 AS seconds_left
FROM batches_batch b WHERE b.id = %(batch)s AND b.state = 'in_progress'
"""
BODY = """
SELECT s.path, s.first_line, s.lines, array(
    SELECT r.line FROM batches_row r WHERE r.batch_id = s.batch_id AND r.line >= s.first_line AND r.line < s.first_line + s.lines
) AS done
FROM batches_shard s WHERE s.job_id = %(job)s
"""


def hold_key(batch_id: object) -> str:
    return f"batch:{batch_id}"


def folder_of(organization_id: UUID, batch_id: UUID) -> str:
    """All that is stored of a batch's shards, whichever check wrote it."""
    return f"{organization_id}/batches/{batch_id}"


def path_of(organization_id: UUID, batch_id: UUID, check: str, number: int) -> str:
    """Each check has a folder of its own: one that comes too late takes away only what it wrote."""
    return f"{folder_of(organization_id, batch_id)}/{check}/{number}"


def remove(organization_id: UUID, batch_id: UUID, *, before: str = "") -> None:
    """Remove all that is stored of its shards, whether a row names it or not; with `before` what earlier checks left."""
    folder = folder_of(organization_id, batch_id)
    for check in listed(folder)[0]:
        if before and check >= before:
            continue
        for number in listed(f"{folder}/{check}")[1]:
            default_storage.delete(f"{folder}/{check}/{number}")
        with contextlib.suppress(OSError):  # a check that comes too late writes into it
            default_storage.delete(f"{folder}/{check}")  # on a disk it is a directory
    if not before:
        with contextlib.suppress(OSError):
            default_storage.delete(folder)


def listed(folder: str) -> tuple[list[str], list[str]]:
    """Folders and files in it. A store that has no such folder has nothing in it."""
    try:
        return default_storage.listdir(folder)
    except FileNotFoundError:
        return [], []


def line_of(number: int, custom_id: str, work: Work, kept: Any = None) -> bytes:
    """A line of a shard's file: number, custom_id, the runner's task, and what of the request its answer will say.

    Between them are tabs, which JSON never holds.
    """
    task = Task(line=number, body=work.body, max_completion_tokens=work.max_completion_tokens)
    return f"{number}\t{json.dumps(custom_id)}\t{task.model_dump_json()}\t{json.dumps(kept)}\n".encode()


class Line(NamedTuple):
    number: int
    custom_id: str
    task: bytes
    kept: bytes


def lines(path: str) -> Iterator[Line]:
    """The rows of a shard's file. Raises FileNotFoundError, and Unreadable or ValueError for one that is damaged."""
    with default_storage.open(path, "rb") as opened:
        for raw in opened:
            number, custom_id, task, *kept = raw.rstrip(b"\n").split(b"\t")
            yield Line(int(number), json.loads(custom_id), task, kept[0] if kept else b"null")


def open_next(batch_id: UUID) -> Plan[int]:
    """Queue the next shards of a batch, up to OPEN of them. The caller has locked the batch. How many it was."""
    terms = yield Statement(TERMS, {"batch": batch_id})
    if not terms or terms[0]["seconds_left"] <= 0:
        return 0
    found = yield Statement(NEXT, {"batch": batch_id, "open": OPEN})
    for shard in found:
        yield from open_one(batch_id, shard, terms[0])
    if found:
        yield Statement("SELECT pg_notify('dispatch', '')")
    return len(found)


def open_one(batch_id: UUID, shard: Row, terms: Row) -> Plan[None]:
    job_id = uuid7()
    params: dict[str, Any] = {
        "id": job_id,
        "organization": terms["organization_id"],
        "api_key": terms["api_key_id"],
        "user": terms["user_id"],
        "model": terms["model_id"],
        "price": terms["price_id"],
        "file": None,
        "kind": ENDPOINTS[terms["endpoint"]].kind,
        "interactive": False,
        "streaming": False,
        "tier": Tier.BATCH.value,
        "discount": terms["discount_basis_points"],
        "state": "queued",
        "reason": "Waiting for a free GPU",
        "attempt": 0,
        "fence": None,
        "pool": None,
        "placement": {},
        "residency": terms["residency"],
        "wait_seconds": terms["seconds_left"],
        "lease_seconds": 0,
        "hold": shard["hold"],
        "max_completion_tokens": 0,
        "pages": 0,
        "energy_factor": None,
        "grid": None,
        "market": None,
        "request": {},
        "metadata": {},
        "asked": None,
        "stored": False,
        "data": {},
        "batch": batch_id,
        "max_usd_per_mwh": terms["max_power_usd_per_mwh"],
    }
    yield from jobs.create(params)
    yield Statement(
        "UPDATE batches_shard SET job_id = %(job)s WHERE id = %(shard)s", {"job": job_id, "shard": shard["id"]}
    )


def place_of(job_id: UUID) -> Plan[Row | None]:
    """Where a shard's file is, and which of its lines have ended."""
    rows = yield Statement(BODY, {"job": job_id})
    return rows[0] if rows else None


def tasks(place: Row) -> bytes:
    """What its runner is to do: a task a line, without the rows that have ended. Nothing after the batch's end."""
    done = set(place["done"])
    try:
        wanted = [line.task for line in lines(place["path"]) if line.number not in done] if place["path"] else []
        return b"".join(task + b"\n" for task in wanted)
    except FileNotFoundError:
        return b""
