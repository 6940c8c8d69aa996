"""POST /v1/responses: a chat by another name, whole, streamed or in the background."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from apps.catalog.offers import Offer
from apps.core import ids
from apps.core.asgi import Request
from apps.core.errors import InvalidRequest
from apps.core.places import Rule
from apps.core.sql import Plan
from apps.dispatch import intake
from apps.dispatch.services import Submitted, Work
from apps.gateway import response_answers
from apps.gateway.attending import attended, sent, situated, submitted
from apps.jobs import statements as jobs
from apps.keys.door import authenticated
from apps.keys.services import Caller
from apps.wire import items
from apps.wire.conversation import Conversation, Message
from apps.wire.response_object import PREFIX, ResponseObject
from apps.wire.responses import LOGPROBS, custom_names, responses_request
from cango_portal import database


async def create_response(request: Request) -> None:
    caller = await authenticated(request)
    body = await sent(request)
    asked = responses_request(body)
    now = await situated(caller, asked.model, intake.tier_of(body))
    earlier: list[Message] = []
    residency: Rule = None
    if asked.previous_response_id is not None:
        earlier, residency = await database.run_async(said_before(caller, asked.previous_response_id))
    work = replace(work_of(now.offer, body, earlier), residency=residency)
    background = bool(asked.background)
    logprobs = LOGPROBS in (asked.include or ())

    async def answer(accepted: Submitted) -> None:
        response = ResponseObject(
            job_id=accepted.job_id,
            model=now.offer.name,
            asked=body,
            service_tier=intake.service_tier(work),
        )
        if asked.stream:
            await response_answers.stream(request, accepted, response, logprobs=logprobs)
        elif background:
            await request.json(response.open("queued"))
        else:
            await request.json(await response_answers.whole(accepted, response, logprobs=logprobs))

    await attended(request, submitted(request, caller, work, now), answer, background=background)


def work_of(offer: Offer, body: Mapping[str, Any], earlier: list[Message]) -> Work:
    """The response as a chat. `body` has passed `responses.responses_request`; what is kept is told apart by `asked`."""
    interactive, streaming = not body.get("background"), bool(body.get("stream"))
    work = intake.response_work(offer, body, interactive=interactive, streaming=streaming, earlier=earlier)
    kept = body.get("store") is not False
    return replace(
        work, asked={n: v for n, v in body.items() if v is not None and n != "client_metadata"} if kept else None
    )


def said_before(caller: Caller, response_id: str) -> Plan[tuple[list[Message], Rule]]:
    """What the organization's earlier response was asked and answered, and all before it; without its instructions.

    And the places it had to stay in: what was said there stays there.
    """
    job_id = ids.parse(PREFIX, response_id)
    content = (yield from jobs.asked(job_id, caller.organization_id, key=caller.sees_key)) if job_id else None
    job = (yield from jobs.snapshot(job_id)) if job_id and content else None
    if job is None or content is None or not content["request"]:
        raise InvalidRequest(
            f"Previous response with id '{response_id}' not found.",
            param="previous_response_id",
            code="previous_response_not_found",
        )
    if job["finished_at"] is None:
        raise InvalidRequest(
            f"Previous response with id '{response_id}' has not ended. Wait for it, or cancel it.",
            param="previous_response_id",
            code="previous_response_not_ended",
        )
    instructed = content["asked"].get("instructions") is not None
    messages = content["request"]["messages"][1 if instructed else 0 :]
    talk = Conversation(messages, ["previous_response_id"] * len(messages))
    answered = items.stored(job, custom=custom_names(content["asked"])).items
    talk.read(answered, ["previous_response_id"] * len(answered))
    rule = content["residency"]
    return talk.messages, None if rule is None else tuple(rule)
