"""What every inference handler does around its own shape: find the offer, submit, answer while the client listens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from django.conf import settings
from psycopg import OperationalError

from apps.catalog.models import Tier
from apps.core.asgi import Disconnected, Request
from apps.core.errors import PortalError
from apps.core.ids import public
from apps.core.logging import job_id
from apps.core.turns import Shared
from apps.dispatch import intake
from apps.dispatch import services as dispatch
from apps.dispatch.services import Submitted, Work
from apps.dispatch.situation import Situation, situation
from apps.gateway.headers import WINDOWS
from apps.jobs.models import FINAL
from apps.keys import rates
from apps.keys.rates import RateLimited
from apps.keys.services import Caller
from apps.wire.bodies import parse
from cango_portal import database

log = logging.getLogger(__name__)

TRIES = "x-stainless-retry-count"  # the official clients say it with every try
AGAIN_SECONDS = 0.8  # one that gave up waiting tries again within half a second; its work is not cancelled meanwhile
REPLAYED = {"idempotent_replayed": "true"}


async def sent(request: Request) -> dict[str, Any]:
    """The JSON object a request brings. Raises InvalidRequest, and UnsupportedMediaType for what says it is no JSON."""
    request.check_json()
    return parse(await request.body(limit=settings.MAX_BODY_BYTES))


async def situated(caller: Caller, name: str, tier: str = Tier.STANDARD.value) -> Situation:
    """The model's offer, and all that its admission asks; requests of one caller for it share the read. Raises NotFound."""
    return await situations((caller, name, tier))


async def _situation(asked: tuple[Caller, str, str]) -> Situation:
    return await database.run_async(situation(*asked))


situations = Shared(_situation)


async def submitted(request: Request, caller: Caller, work: Work, now: Situation) -> Submitted:
    """Admit what was not admitted before; from here on the answer names its job.

    The same request again, by its Idempotency-Key or as an official client's retry, gets the job that it made the first
    time. A refusal for money or limits is kept for the customer's list.
    """
    ticket = dispatch.ticket(caller, request.headers, request.digest)
    try:
        accepted = await dispatch.submit_async(caller=caller, work=work, now=now, ticket=ticket)
    except RateLimited as refused:
        request.scope[WINDOWS] = refused.windows
        raise
    except intake.NOTED as refused:
        with contextlib.suppress(OperationalError):
            await database.run_async(intake.noted(caller, work, refused))
        raise
    job_id.set(public("job", accepted.job_id))
    request.note(x_job_id=public("job", accepted.job_id), **REPLAYED if accepted.replayed else {})
    if not accepted.replayed:
        request.scope[WINDOWS] = accepted.windows
    return accepted


async def attended(
    request: Request,
    submitting: Coroutine[Any, Any, Submitted],
    answering: Callable[[Submitted], Awaitable[None]],
    *,
    background: bool = False,
) -> None:
    """Submit and answer while the client listens; the last client to hang up cancels its job within a second.

    An official client that got nothing yet may just have lost patience: its next try finds the job still at work.

    Work in the `background` goes on without its client.

    The submission itself is never cut off: a job that was written is known here, and then cancelled.
    """
    hanging_up = asyncio.create_task(request.hung_up(), name="gateway.hung_up")
    accepted, limits = None, []
    try:
        accepted = await submitting
        limits = [window.limit for window in accepted.windows if window.limit.concurrent is not None]
        answer = asyncio.ensure_future(answering(accepted))
        try:
            done: set[Any] = set()
            while not done:
                done, _ = await asyncio.wait(
                    {answer, hanging_up}, timeout=rates.RENEW_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if not done and limits:
                    await rates.renew_async(limits, accepted.job_id)
            if answer.done():
                error = answer.exception()
                if isinstance(error, PortalError) and accepted.replayed and accepted.state in FINAL:
                    error.retryable = False  # type: ignore[misc]  # it would get the same answer again
                elif not background and not isinstance(error, PortalError | None):  # ours: nobody gets what it makes
                    await left(accepted)
                return answer.result()
        finally:
            answer.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await answer
        if not background:
            if not request.began and TRIES in request.headers:
                await asyncio.sleep(AGAIN_SECONDS)
            await left(accepted)
        raise Disconnected
    finally:
        hanging_up.cancel()
        if limits and accepted:
            await rates.end_async(limits, accepted.job_id)


async def left(accepted: Submitted) -> None:
    """The client is gone, so nobody else asks again: a database that is away is asked a few times."""
    for pause in (0.5, 1, 2, 4, 8):
        try:
            return await dispatch.leave_async(job_id=accepted.job_id)
        except OperationalError:
            await asyncio.sleep(pause)
    log.warning("hang-up not noted", extra={"job": public("job", accepted.job_id)})
    return None
