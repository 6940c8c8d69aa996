"""/v1: inference as OpenAI's clients know it. Wire shapes: OpenAI API reference (openapi.json f85dbe2)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any

from django.conf import settings
from psycopg import OperationalError

from apps.catalog import offers
from apps.catalog.api import described
from apps.catalog.models import Tier
from apps.catalog.offers import Offer
from apps.core.asgi import Disconnected, Handler, Request, door
from apps.core.errors import PortalError, Unavailable
from apps.core.ids import public
from apps.core.logging import job_id
from apps.dispatch import intake
from apps.dispatch import services as dispatch
from apps.dispatch.services import Submitted, Work
from apps.gateway import answers
from apps.gateway.headers import note, with_headers
from apps.keys import services as keys
from apps.keys.services import Caller
from apps.wire.bodies import parse
from apps.wire.chat import chat_request
from apps.wire.completions import Completion
from apps.wire.embeddings import embeddings_request
from cango_portal import database

log = logging.getLogger(__name__)


def reachable(handler: Handler) -> Handler:
    """Without the database: 503, and nothing was accepted."""

    @wraps(handler)
    async def guarded(request: Request) -> None:
        try:
            await handler(request)
        except OperationalError as error:
            log.warning("database away", extra={"error": type(error).__name__})
            raise Unavailable(
                "The portal cannot reach its database. Nothing was accepted or charged; try again in a moment.",
                retry_after_seconds=5,
            ) from error

    return guarded


async def authenticated(request: Request) -> Caller:
    caller = await keys.authenticate_async(request.bearer)
    note(request.scope, openai_organization=public("org", caller.organization_id))
    return caller


async def offered(name: str) -> Offer:
    return intake.found(await database.run_async(offers.offer(name)), name)


async def submitted(request: Request, caller: Caller, work: Work) -> Submitted:
    """Admit; from here on the answer names its job. A refusal for money or limits is kept for the customer's list."""
    try:
        accepted = await dispatch.submit_async(caller=caller, work=work)
    except intake.NOTED as refused:
        with contextlib.suppress(OperationalError):
            await database.run_async(intake.noted(caller, work, refused))
        raise
    job_id.set(public("job", accepted.job_id))
    note(request.scope, x_job_id=public("job", accepted.job_id))
    return accepted


async def attended(
    request: Request, submitting: Coroutine[Any, Any, Submitted], answering: Callable[[Submitted], Awaitable[None]]
) -> None:
    """Submit and answer while the client listens; a client that hangs up cancels its job within a second.

    The submission itself is never cut off: a job that was written is known here, and then cancelled.
    """
    hanging_up = asyncio.create_task(request.hung_up(), name="gateway.hung_up")
    accepted = None
    try:
        accepted = await submitting
        answer = asyncio.ensure_future(answering(accepted))
        try:
            await asyncio.wait({answer, hanging_up}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                if not isinstance(answer.exception(), PortalError | None):  # ours: nobody gets what it would still make
                    await cancelled(accepted)
                return answer.result()
        finally:
            answer.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await answer
        await cancelled(accepted)
        raise Disconnected
    finally:
        hanging_up.cancel()


async def cancelled(accepted: Submitted) -> None:
    """The client is gone, so nobody else asks again: a database that is away is asked a few times."""
    for pause in (0.5, 1, 2, 4, 8):
        try:
            return await dispatch.cancel_async(job_id=accepted.job_id)
        except OperationalError:
            await asyncio.sleep(pause)
    log.warning("hang-up not noted", extra={"job": public("job", accepted.job_id)})
    return None


@reachable
async def list_models(request: Request) -> None:
    await authenticated(request)
    found = await database.run_async(offers.offers())
    await request.json({"object": "list", "data": [described(offer) for offer in found]})


@reachable
async def retrieve_model(request: Request) -> None:
    await authenticated(request)
    await request.json(described(await offered(request.scope["path_params"]["model"])))


@reachable
async def chat_completions(request: Request) -> None:
    caller = await authenticated(request)
    body = parse(await request.body(limit=settings.MAX_BODY_BYTES))
    chat = chat_request(body)
    offer = await offered(chat.model)
    streaming = bool(chat.stream)
    work = intake.chat_work(offer, body, interactive=True, streaming=streaming)
    include_usage = bool(chat.stream_options and chat.stream_options.include_usage)

    async def answer(accepted: Submitted) -> None:
        completion = Completion(
            job_id=accepted.job_id,
            model=offer.name,
            include_usage=include_usage,
            service_tier="flex" if work.tier == Tier.FLEXIBLE else "default",
        )
        if streaming:
            await answers.stream(request, accepted, completion)
        else:
            await request.json(await answers.whole(accepted, completion))

    await attended(request, submitted(request, caller, work), answer)


@reachable
async def create_embeddings(request: Request) -> None:
    caller = await authenticated(request)
    body = parse(await request.body(limit=settings.MAX_BODY_BYTES))
    asked = embeddings_request(body)
    offer = await offered(asked.model)
    work = intake.embeddings_work(offer, body, interactive=True)

    async def answer(accepted: Submitted) -> None:
        await request.json(await answers.vectors(accepted, model=offer.name, encoding_format=asked.encoding_format))

    await attended(request, submitted(request, caller, work), answer)


MODEL = "/v1/models/{model}"


def template(path: str) -> tuple[str, dict[str, str]]:
    """Names of models have a slash in them."""
    name = path.removeprefix("/v1/models/")
    return (MODEL, {"model": name}) if name != path and name else (path, {})


application = with_headers(
    door(
        {
            ("GET", "/v1/models"): list_models,
            ("GET", MODEL): retrieve_model,
            ("POST", "/v1/chat/completions"): chat_completions,
            ("POST", "/v1/embeddings"): create_embeddings,
        },
        parametric=template,
        hint=f"The base URL is {settings.BASE_URL}/v1; clients put /models, /chat/completions or /embeddings after it.",
    )
)
