"""/v1/responses/{id}: what was kept of a response, told again, ended or let go. None of it costs anything."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from apps.catalog.models import Tier
from apps.core import ids, queries
from apps.core.asgi import Request
from apps.core.errors import InvalidRequest, NotFound, Unavailable
from apps.core.sql import Plan, Row
from apps.dispatch import services as dispatch
from apps.dispatch.services import Submitted
from apps.gateway import response_answers
from apps.gateway.attending import attended
from apps.jobs import statements as jobs
from apps.jobs.following import Ended, follow
from apps.keys.door import authenticated
from apps.keys.services import Caller
from apps.runner.protocol import stream
from apps.scheduling import slots
from apps.wire import items
from apps.wire.response_object import PREFIX, ResponseObject
from apps.wire.responses import ENCRYPTED, IMAGE_URLS, LOGPROBS
from cango_portal import database, valkey

CANCEL_SECONDS = 2.0  # so long for a site to stop; then the answer says how far it is
LARGEST_PAGE = 100


@dataclass(frozen=True, slots=True)
class Kept:
    """A response of the caller's organization: its job's row, and the request it was."""

    job: Row
    asked: dict[str, Any]

    @property
    def job_id(self) -> UUID:
        return UUID(str(self.job["id"]))

    @property
    def response(self) -> ResponseObject:
        return ResponseObject(
            job_id=self.job_id,
            model=self.job["model"],
            asked=self.asked,
            service_tier="flex" if self.job["tier"] == Tier.FLEXIBLE else "default",
        )


def kept_plan(job_id: UUID, caller: Caller) -> Plan[Kept | None]:
    content = yield from jobs.asked(job_id, caller.organization_id, key=caller.sees_key)
    job = (yield from jobs.snapshot(job_id)) if content else None
    return Kept(job, content["asked"]) if job and content else None


async def kept(request: Request, caller: Caller) -> Kept:
    """Raises NotFound, for another's and what was not kept as for what never was."""
    response_id = request.scope["path_params"]["response"]
    job_id = ids.parse(PREFIX, response_id)
    found = await database.run_async(kept_plan(job_id, caller)) if job_id else None
    if found is None:
        raise NotFound(f"Response with id '{response_id[:100]}' not found.", code="response_not_found")
    return found


def check_query(request: Request, known: Collection[str]) -> None:
    """Names of lists may end in [], as the official clients write them."""
    for name in request.query:
        if name.removesuffix("[]") not in known:
            shown = name[:100]
            raise InvalidRequest(
                f"Unrecognized request argument supplied: {shown}.", param=shown, code="unknown_parameter"
            )


INCLUDED = {LOGPROBS, IMAGE_URLS, ENCRYPTED}


def included(request: Request) -> set[str]:
    """What `include` names, once or several times. Raises InvalidRequest."""
    query = request.query_lists
    asked = {*query.get("include", ()), *query.get("include[]", ())}
    if asked - INCLUDED:
        raise InvalidRequest(
            f"'include' of what was kept has only {', '.join(sorted(INCLUDED))}.",
            param="include",
            code="unsupported_parameter",
        )
    return asked


async def retrieve_response(request: Request) -> None:
    """GET /v1/responses/{id}; with `stream=true` its events again, those after `starting_after`."""
    caller = await authenticated(request)
    check_query(request, ("stream", "starting_after", "include", "include_obfuscation"))
    logprobs = LOGPROBS in included(request)
    streaming = queries.word(request.query, "stream", ("false", "true")) == "true"
    after = queries.number(request.query, "starting_after", least=0, most=999_999_999)
    found = await kept(request, caller)
    response = found.response
    if not streaming:
        if after is not None:
            raise InvalidRequest(
                "'starting_after' needs 'stream' to be true.", param="starting_after", code="invalid_value"
            )
        return await request.json(response_answers.rebuilt(response, found.job, logprobs=logprobs))
    if not response.background:
        raise InvalidRequest(
            "Only a response that was made with 'background' can be streamed again.",
            param="stream",
            code="invalid_value",
        )

    async def answer(submitted: Submitted) -> None:
        start = -1 if after is None else after
        await response_answers.stream(request, submitted, response, logprobs=logprobs, after=start)

    return await attended(request, going_on(found), answer, background=True)


async def going_on(found: Kept) -> Submitted:
    """What admission said of it, said again."""
    job = found.job
    return Submitted(found.job_id, job["state"], job["attempt"], job["pool"], job["deadline_at"])


async def cancel_response(request: Request) -> None:
    """POST /v1/responses/{id}/cancel. Safe to repeat; what has ended stays as it ended."""
    caller = await authenticated(request)
    found = await kept(request, caller)
    if not found.response.background:
        raise InvalidRequest("Cannot cancel a synchronous response: hang up instead.", code="not_in_background")
    await dispatch.cancel_async(job_id=found.job_id)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CANCEL_SECONDS), contextlib.aclosing(follow(found.job_id)) as following:
            async for step in following:
                if isinstance(step, Ended):
                    break
    found = await kept(request, caller)
    await request.json(response_answers.rebuilt(found.response, found.job))


async def delete_response(request: Request) -> None:
    """DELETE /v1/responses/{id}: its texts go; the job stays, with its times, charge and energy. What runs is cancelled."""
    caller = await authenticated(request)
    found = await kept(request, caller)
    await dispatch.cancel_async(job_id=found.job_id)
    if not await database.run_async(jobs.forget_content(found.job_id)):
        raise Unavailable("The response could not be ended just now. Try again in a moment.", retry_after_seconds=1)
    if found.job["pool"]:
        key = stream(found.job["pool"], str(found.job_id), found.job["attempt"])
        with contextlib.suppress(*slots.UNUSABLE):  # then it goes by itself, an hour after its last entry
            await valkey.client_async().delete(key)
    await request.json({"id": found.response.head["id"], "object": "response", "deleted": True})


async def list_input_items(request: Request) -> None:
    """GET /v1/responses/{id}/input_items: what this response was sent, the newest first unless `order` says asc."""
    caller = await authenticated(request)
    check_query(request, ("after", "limit", "order", "include"))
    included(request)
    part = queries.part(request.query, most=LARGEST_PAGE)
    found = await kept(request, caller)
    listed = items.given(found.job_id, found.asked["input"])
    if part.newest_first:
        listed.reverse()
    if part.after is not None:
        place = next((n for n, item in enumerate(listed) if item["id"] == part.after), None)
        if place is None:
            raise queries.wrong("after", "it should be the id of one of its items")
        listed = listed[place + 1 :]
    await request.json(queries.page(listed[: part.limit], more=len(listed) > part.limit))
