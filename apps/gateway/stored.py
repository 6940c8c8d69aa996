"""/v1/chat/completions after the answer: chats sent with `store` true. OpenAI API reference, "Chat completions"."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from apps.core import ids, queries
from apps.core.asgi import Request
from apps.core.errors import NotFound
from apps.core.sql import Row
from apps.gateway.attending import sent
from apps.jobs import stored
from apps.jobs.following import Answer
from apps.keys.door import authenticated
from apps.wire.bodies import fit
from apps.wire.chat import StoredChanges
from apps.wire.completions import Completion, completion_id, usage
from cango_portal import database

MOST_LISTED = 100
METADATA = re.compile(r"metadata\[(.{1,64})\]", re.DOTALL)


async def list_chats(request: Request) -> None:
    """GET /v1/chat/completions: oldest first unless `order` says otherwise."""
    caller = await authenticated(request)
    query = request.query
    part = queries.part(query, most=MOST_LISTED, newest_first=False)
    rows = await database.run_async(
        stored.page(
            caller.organization_id,
            key=caller.sees_key,
            after=known(part.after, "after") if part.after else None,
            limit=part.limit + 1,
            newest_first=part.newest_first,
            model=query.get("model", "").replace("\0", "") or None,
            metadata={found[1]: value for name, value in query.items() if (found := METADATA.fullmatch(name))},
        )
    )
    shown = [described(row) for row in rows[: part.limit]]
    await request.json(queries.page(shown, more=len(rows) > part.limit))


async def retrieve_chat(request: Request) -> None:
    await request.json(described(await found(request)))


async def list_messages(request: Request) -> None:
    """GET /v1/chat/completions/{id}/messages: what was sent, in its order."""
    row = await found(request)
    part = queries.part(request.query, most=MOST_LISTED, newest_first=False)
    messages = [
        {"id": f"{completion_id(row['id'])}-{number}", "name": None, "content_parts": None, **message}
        | ({"content": None, "content_parts": message["content"]} if isinstance(message.get("content"), list) else {})
        for number, message in enumerate((row["request"] or {}).get("messages", ()))
    ]
    if part.newest_first:
        messages.reverse()
    start = next((place for place, message in enumerate(messages, start=1) if message["id"] == part.after), 0)
    end = start + part.limit
    await request.json(queries.page(messages[start:end], more=len(messages) > end))


async def update_chat(request: Request) -> None:
    """POST /v1/chat/completions/{id}: its metadata, nothing else."""
    caller = await authenticated(request)
    body = await sent(request)
    changes = fit(StoredChanges, body)
    job_id = known(request.scope["path_params"]["completion"])
    if not await database.run_async(
        stored.describe(caller.organization_id, job_id, changes.metadata or {}, key=caller.sees_key)
    ):
        raise unknown()
    row = await database.run_async(stored.one(caller.organization_id, job_id, key=caller.sees_key))
    if row is None:
        raise unknown()
    await request.json(described(row))


async def delete_chat(request: Request) -> None:
    """DELETE /v1/chat/completions/{id}: question and answer are gone at once; the job's record stays."""
    caller = await authenticated(request)
    job_id = known(request.scope["path_params"]["completion"])
    if not await database.run_async(stored.forget(caller.organization_id, job_id, key=caller.sees_key)):
        raise unknown()
    await request.json({"object": "chat.completion.deleted", "id": completion_id(job_id), "deleted": True})


async def found(request: Request) -> Row:
    caller = await authenticated(request)
    row = await database.run_async(
        stored.one(caller.organization_id, known(request.scope["path_params"]["completion"]), key=caller.sees_key)
    )
    if row is None:
        raise unknown()
    return row


def known(text: str, param: str = "completion_id") -> UUID:
    """The job behind `chatcmpl-…`."""
    job_id = ids.parse("chatcmpl", text.replace("-", "_", 1))
    if job_id is None:
        raise unknown(param)
    return job_id


def unknown(param: str = "completion_id") -> NotFound:
    return NotFound(
        "There is no such stored chat completion. Only those sent with 'store' true are kept for this.",
        param=param,
        code="completion_not_found",
    )


def described(row: Row) -> dict[str, Any]:
    """As it was answered."""
    completion = Completion(
        job_id=row["id"], model=row["model"], service_tier="flex" if row["tier"] == "flexible" else "default"
    )
    for piece in Answer(0).stored(row):
        completion.gather(piece.entry.chunks)
    counted = usage(
        prompt_tokens=row["prompt_tokens"],
        completion_tokens=row["completion_tokens"],
        cached_prompt_tokens=row["cached_prompt_tokens"],
        settled={
            "cost_microusd": row["charge_microusd"],
            "energy_wh": row["energy_wh"],
            "energy_quality": row["energy_quality"],
            "carbon_gco2e": row["carbon_gco2e"],
            "carbon_market_gco2e": row["carbon_market_gco2e"],
        },
    )
    return completion.whole(counted, row["site"]) | {"metadata": row["metadata"]}
