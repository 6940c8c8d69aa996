"""/v1/batches: OpenAI API reference, "Batch"."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.conf import settings

from apps.accounts.scopes import Scope
from apps.batches import services
from apps.batches.models import Batch
from apps.batches.statements import found, listed
from apps.core import ids, queries
from apps.core.asgi import Request, Routes
from apps.core.errors import NotFound
from apps.core.sql import Row
from apps.dispatch import receipts
from apps.keys.door import authenticated
from apps.wire.batches import batch_request
from apps.wire.bodies import parse
from cango_portal import database

MOST = 100  # on a page


async def create_batch(request: Request) -> None:
    """POST /v1/batches. The file is checked after the answer."""
    caller = await authenticated(request, Scope.BATCHES.value)
    request.check_json()
    asked = batch_request(parse(await request.body(limit=settings.MAX_BODY_BYTES)))
    ticket = receipts.ticket(caller, request.headers, request.digest)
    batch_id, new = await database.run_async(services.create(caller, asked, ticket=ticket))
    if new:
        await services.hurry_async(batch_id)
    else:
        request.note(idempotent_replayed="true")
    await answer(request, caller.organization_id, batch_id)


async def retrieve_batch(request: Request) -> None:
    """GET /v1/batches/{batch}."""
    caller = await authenticated(request, Scope.BATCHES.value)
    await answer(request, caller.organization_id, named(request))


async def cancel_batch(request: Request) -> None:
    """POST /v1/batches/{batch}/cancel."""
    caller = await authenticated(request, Scope.BATCHES.value)
    row = await database.run_async(found(caller.organization_id, named(request)))
    await sync_to_async(services.cancel)(
        batch=Batch(id=row["id"], organization_id=caller.organization_id, state=row["state"])
    )
    await answer(request, caller.organization_id, row["id"])


async def list_batches(request: Request) -> None:
    """GET /v1/batches, newest first."""
    caller = await authenticated(request, Scope.BATCHES.value)
    part = queries.part(request.query, most=MOST)
    after = ids.parse("batch", part.after) if part.after else None
    if part.after and after is None:
        raise queries.wrong("after", "it should be the id of a batch")
    rows = await database.run_async(listed(caller.organization_id, after=after, limit=part.limit + 1))
    await request.json(queries.page([described(row) for row in rows[: part.limit]], more=len(rows) > part.limit))


def named(request: Request) -> UUID:
    batch_id = ids.parse("batch", request.scope["path_params"]["batch"])
    if batch_id is None:
        raise NotFound("There is no such batch.", code="batch_not_found")
    return batch_id


async def answer(request: Request, organization_id: UUID, batch_id: UUID) -> None:
    await request.json(described(await database.run_async(found(organization_id, batch_id))))


def seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())


TIMES = (
    "in_progress_at",
    "expires_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
)


def described(row: Row) -> dict[str, Any]:
    """The official object. Beyond it: what it holds and cost, its energy, and the terms of a flexible batch."""
    ended = row["state"] in ("completed", "expired", "cancelled")
    return {
        "id": ids.public("batch", row["id"]),
        "object": "batch",
        "endpoint": row["endpoint"],
        "model": row["model"],
        "errors": {"object": "list", "data": row["errors"]} if row["errors"] else None,
        "input_file_id": ids.public("file", row["input_file_id"]),
        "completion_window": row["completion_window"],
        "status": row["state"],
        "output_file_id": ids.public("file", row["output_file_id"]) if ended and row["output_file_id"] else None,
        "error_file_id": ids.public("file", row["error_file_id"]) if ended and row["error_file_id"] else None,
        "created_at": seconds(row["created_at"]),
        **{name: seconds(row[name]) for name in TIMES},
        "request_counts": {"total": row["total"], "completed": row["completed"], "failed": row["failed"]},
        "usage": {
            "input_tokens": row["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": row["cached_prompt_tokens"]},
            "output_tokens": row["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": row["prompt_tokens"] + row["completion_tokens"],
            "cost_microusd": row["charge_microusd"],
            "energy_wh": row["energy_wh"],
            "carbon_gco2e": row["carbon_gco2e"],
            "carbon_market_gco2e": row["carbon_market_gco2e"],
        },
        "metadata": row["metadata"],
        "hold_microusd": row["hold_microusd"],
        "max_power_usd_per_mwh": row["max_power_usd_per_mwh"],
    }


ROUTES: Routes = {
    ("POST", "/v1/batches"): create_batch,
    ("GET", "/v1/batches"): list_batches,
    ("GET", "/v1/batches/{batch}"): retrieve_batch,
    ("POST", "/v1/batches/{batch}/cancel"): cancel_batch,
}
