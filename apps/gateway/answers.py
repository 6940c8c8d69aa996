"""From a followed job to what the client gets: one JSON answer, or server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

from apps.core import jsons
from apps.core.asgi import Request, ServerError
from apps.core.errors import PortalError
from apps.core.sql import Row
from apps.dispatch import services as dispatch
from apps.dispatch.services import Submitted
from apps.gateway import refusals
from apps.jobs.following import Ended, Known, Piece, Waiting, follow
from apps.runner.protocol import End, Usage
from apps.wire import completions, embeddings, rerank
from apps.wire.completions import Completion
from apps.wire.text import TextCompletion

log = logging.getLogger(__name__)

HIDDEN_SECONDS = 2.0  # a stream that has nothing to say yet keeps its HTTP status for so long
KEEPALIVE_SECONDS = 5.0
SETTLE_SECONDS = 1.0  # after the runner's last word: so long for cost and energy, else the answer goes without

Step = Waiting | Piece | Ended


async def steps(submitted: Submitted, *, refusing: bool = True) -> AsyncGenerator[Step]:
    """`follow`, and the end of a wait: past its deadline the job expires here, whoever else looks after it.

    Where it is `refusing`, raises the refusal a job that did not succeed stands for. A success that is not settled within SETTLE_SECONDS ends
    without `Ended`.
    """
    said: End | None = None
    async with contextlib.aclosing(follow(submitted.job_id, known=known_of(submitted))) as following:
        while True:
            if said is not None and said.state == "succeeded":
                try:
                    async with asyncio.timeout(SETTLE_SECONDS):
                        step = await anext(following)
                except TimeoutError:
                    return
            else:
                step = await anext(following)
            if isinstance(step, Waiting) and step.deadline_at <= datetime.now(UTC):
                await dispatch.expire_async(job_id=submitted.job_id)
            elif isinstance(step, Piece) and step.entry.end is not None:
                said = step.entry.end
            elif isinstance(step, Ended) and step.job["state"] != "succeeded" and refusing:
                raise refusals.of(step.job, said.failure if said else None)
            yield step
            if isinstance(step, Ended):
                return


def known_of(submitted: Submitted) -> Known | None:
    """A job that another request made may have come to its end since."""
    return Known(submitted.attempt, submitted.pool) if submitted.pool and not submitted.replayed else None


def usage_of(counted: Usage, job: Row | None) -> dict[str, Any]:
    """The settled counts where they are known, else the last the runner gave."""
    if job is None:
        return completions.usage(**counted.model_dump(exclude={"pages"}))
    return completions.usage(
        prompt_tokens=job["prompt_tokens"],
        completion_tokens=job["completion_tokens"],
        cached_prompt_tokens=job["cached_prompt_tokens"],
        settled={
            "cost_microusd": job["charge_microusd"],
            "energy_wh": job["energy_wh"],
            "energy_quality": job["energy_quality"],
            "carbon_gco2e": job["carbon_gco2e"],
            "carbon_market_gco2e": job["carbon_market_gco2e"],
        },
    )


def site_of(job: Row | None) -> str | None:
    return job["site"] if job else None


async def whole(submitted: Submitted, completion: Completion | TextCompletion) -> dict[str, Any]:
    """The one answer of a chat or completion that is not streamed."""
    counted, job, attempt = Usage(), None, 0
    async with contextlib.aclosing(steps(submitted)) as following:
        async for step in following:
            if isinstance(step, Piece):
                if step.attempt != attempt:
                    completion.parts.clear()
                    attempt = step.attempt
                completion.gather(step.entry.chunks)
                counted = step.entry.usage
            elif isinstance(step, Ended):
                job = step.job
    return completion.whole(usage_of(counted, job), site_of(job))


async def vectors(submitted: Submitted, *, model: str, encoding_format: str | None) -> dict[str, Any]:
    """The answer of an embeddings request."""
    result, usage, site = await outcome(submitted)
    answer = embeddings.answer(model=model, data=result["data"], usage=usage, encoding_format=encoding_format)
    return answer | ({"site": site} if site else {})


async def ranking(
    submitted: Submitted, *, model: str, documents: list[str] | None, top_n: int | None
) -> dict[str, Any]:
    """The answer of a rerank request."""
    result, usage, site = await outcome(submitted)
    answer = rerank.answer(
        job_id=submitted.job_id,
        model=model,
        results=result["results"],
        documents=documents,
        top_n=top_n,
        usage=usage,
    )
    return answer | ({"site": site} if site else {})


async def outcome(submitted: Submitted) -> tuple[dict[str, Any], dict[str, Any], str | None]:
    """Result, usage (of input only) and site of work that writes no text."""
    counted, job, result = Usage(), None, None
    async with contextlib.aclosing(steps(submitted)) as following:
        async for step in following:
            if isinstance(step, Piece):
                counted = step.entry.usage
                if step.entry.end is not None and step.entry.end.result is not None:
                    result = step.entry.end.result
            elif isinstance(step, Ended):
                job = step.job
                result = job["result"] or result
    if result is None:
        raise ServerError("The site gave no result.")
    usage = usage_of(counted, job)
    usage.pop("completion_tokens_details")
    usage["total_tokens"] = usage["prompt_tokens"]
    del usage["completion_tokens"]
    return result, usage, site_of(job)


class EventStream:
    """Server-sent events that begin late: until the first chunk, the end or HIDDEN_SECONDS a refusal keeps its status.

    Comments keep the line open and say the place in the queue; OpenAI clients skip them.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.sent_at = time.monotonic()
        self.waiting: Waiting | None = None
        self.writing = asyncio.Lock()

    async def write(self, content: bytes) -> None:
        async with self.writing:
            await self._write(content)

    async def _write(self, content: bytes) -> None:
        if not self.request.began:
            await self.request.start(
                200,
                {
                    "content-type": "text/event-stream; charset=utf-8",
                    "cache-control": "no-cache",
                    "x-accel-buffering": "no",
                },
            )
        self.sent_at = time.monotonic()
        await self.request.send({"type": "http.response.body", "body": content, "more_body": True})

    async def data(self, *values: Any) -> None:
        await self.write(b"".join(b"data: %b\n\n" % jsons.encoded(value) for value in values))

    async def comment(self) -> None:
        waiting = self.waiting
        text = "running" if waiting is None else "queued"
        if waiting is not None and waiting.position is not None:
            text += f" position={waiting.position}"
        await self.write(f": {text}\n\n".encode())

    async def keep_open(self) -> None:
        """Break the silence: first after HIDDEN_SECONDS, then every KEEPALIVE_SECONDS."""
        while True:
            patience = KEEPALIVE_SECONDS if self.request.began else HIDDEN_SECONDS
            silence = time.monotonic() - self.sent_at
            if silence >= patience:
                await self.comment()
            else:
                await asyncio.sleep(patience - silence)

    async def end(self) -> None:
        await self.write(b"data: [DONE]\n\n")
        await self.request.send({"type": "http.response.body", "body": b""})


async def stream(request: Request, submitted: Submitted, completion: Completion | TextCompletion) -> None:
    """A chat or completion as events. A failure before the first byte is raised; a later one is an event, then the end."""
    events = EventStream(request)
    keeping = asyncio.create_task(events.keep_open(), name="gateway.keep_open")
    try:
        await chunks(events, submitted, completion)
    except PortalError as error:
        if not request.began:
            raise
        await events.data(error.body())
    except Exception:
        log.exception("stream failed")
        if not request.began:
            raise
        await events.data(ServerError(f"The portal made a mistake. Quote {request.id} when you ask about it.").body())
        await events.end()
        raise
    finally:
        keeping.cancel()
    await events.end()


async def chunks(events: EventStream, submitted: Submitted, completion: Completion | TextCompletion) -> None:
    counted, job, sent = Usage(), None, 0  # `sent`: the attempt the client has something of
    async with contextlib.aclosing(steps(submitted)) as following:
        async for step in following:
            if isinstance(step, Waiting):
                if events.waiting is not None and events.request.began and step.position != events.waiting.position:
                    events.waiting = step
                    await events.comment()
                events.waiting = step
            elif isinstance(step, Piece):
                events.waiting = None
                counted = step.entry.usage
                if step.entry.chunks and sent not in (0, step.attempt):
                    await dispatch.leave_async(job_id=submitted.job_id)
                    raise refusals.site_lost()
                if step.entry.chunks:
                    sent = step.attempt
                    await events.data(*(completion.chunk(choices) for choices in step.entry.chunks))
            else:
                job = step.job
    if completion.include_usage:
        await events.data(completion.last(usage_of(counted, job), site_of(job)))
