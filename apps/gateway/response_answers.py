"""From a followed job to a response: whole, or as the typed events of the official stream."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Any

from apps.core import jsons
from apps.core.asgi import Request, ServerError
from apps.core.errors import PortalError
from apps.core.sql import Row
from apps.dispatch import services as dispatch
from apps.dispatch.services import Submitted
from apps.gateway import refusals
from apps.gateway.answers import EventStream, site_of, steps, usage_of
from apps.jobs.following import Ended, Piece, Waiting
from apps.runner.protocol import Failure, Usage
from apps.wire import items
from apps.wire.items import Event, Output
from apps.wire.response_object import ResponseObject

log = logging.getLogger(__name__)


def ended_at(job: Row | None) -> int | None:
    return int(job["finished_at"].timestamp()) if job else None


def error_of(error: PortalError) -> dict[str, Any]:
    """The official `code` is of a closed list; ours is in `reason`."""
    code = "server_error" if error.status >= 500 else "rate_limit_exceeded" if error.status == 429 else "invalid_prompt"
    return {"code": code, "message": error.message, "param": error.param, "reason": error.reason}


def rebuilt(response: ResponseObject, job: Row, *, logprobs: bool = False) -> dict[str, Any]:
    """The response as far as its job's row tells. What was dispatched has not begun."""
    if job["finished_at"] is None:
        return response.open("in_progress" if job["state"] == "running" else "queued")
    return final(response, items.stored(job, logprobs=logprobs, custom=response.custom), job=job, counted=Usage())


def final(
    response: ResponseObject, output: Output, *, job: Row | None, counted: Usage, error: PortalError | None = None
) -> dict[str, Any]:
    """The response once it has ended. `job` is None where that is not settled yet; `error` is why it did not succeed."""
    state = job["state"] if job else "failed" if error else "succeeded"
    if job is not None and state != "succeeded":
        error = error or refusals.of(job, None)
    return response.ended(
        output,
        status={"succeeded": "", "cancelled": "cancelled"}.get(state, "failed"),
        usage=usage_of(counted, job),
        site=site_of(job),
        error=error_of(error) if error and state != "cancelled" else None,
        completed_at=ended_at(job),
    )


async def whole(submitted: Submitted, response: ResponseObject, *, logprobs: bool) -> dict[str, Any]:
    """The one answer of a response that is not streamed. Raises the refusal of a job that did not succeed."""
    output = Output(submitted.job_id, logprobs=logprobs, custom=response.custom)
    counted, job, attempt = Usage(), None, 0
    async with contextlib.aclosing(steps(submitted)) as following:
        async for step in following:
            if isinstance(step, Piece):
                if step.attempt != attempt:
                    output = Output(submitted.job_id, logprobs=logprobs, custom=response.custom)
                    attempt = step.attempt
                output.take(step.entry.chunks)
                counted = step.entry.usage
            elif isinstance(step, Ended):
                job = step.job
    output.end()
    return final(response, output, job=job, counted=counted)


class ResponseEvents(EventStream):
    """The events of one response, numbered from 0; those up to `after` are left out.

    What is numbered follows from the job alone, so that a stream of it read again has the same numbers: a response in
    the background is always told as queued first.
    """

    def __init__(self, request: Request, response: ResponseObject, *, after: int) -> None:
        super().__init__(request)
        self.response = response
        self.after = after
        self.number = -1
        self.status = ""

    async def tell(self, *events: Event) -> None:
        told = []
        for event in events:
            self.number += 1
            if self.number > self.after:
                told.append(line(event, self.number))
        if told:
            await self.write(b"".join(told))

    async def reached(self, status: str) -> None:
        """`queued` or `in_progress`; the first call tells that the response was created, and none goes back."""
        if self.status in (status, "in_progress"):
            return
        created = not self.status
        states = ["queued", status] if created and self.response.background and status != "queued" else [status]
        self.status = status
        told = [{"type": f"response.{state}", "response": self.response.open(state)} for state in states]
        first = [{"type": "response.created", "response": self.response.open(states[0])}] if created else []
        await self.tell(*first, *told)

    async def comment(self) -> None:
        await self.reached("queued" if self.waiting is not None else "in_progress")
        await super().comment()

    async def last(self, event: Event) -> None:
        """Told whatever was left out: a stream that was lost and is made again from the answer has fewer events."""
        self.number = max(self.number, self.after)
        await self.tell(event)

    async def broken(self, error: PortalError) -> None:
        await self.last({"type": "error", "code": error.reason, "message": error.message, "param": error.param})

    async def end(self) -> None:
        await self.request.send({"type": "http.response.body", "body": b""})


def line(event: Event, number: int) -> bytes:
    data = {"type": event["type"], "sequence_number": number, **event}
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), jsons.encoded(data))


async def stream(
    request: Request, submitted: Submitted, response: ResponseObject, *, logprobs: bool, after: int = -1
) -> None:
    """A response as events. A failure before the first byte is raised; a later one is an event, then the end."""
    events = ResponseEvents(request, response, after=after)
    telling = Telling(events, submitted, Output(submitted.job_id, logprobs=logprobs, custom=response.custom))
    keeping = asyncio.create_task(events.keep_open(), name="gateway.keep_open")
    try:
        if response.background:
            await events.reached("queued")
        await telling.run()
    except PortalError as error:
        await telling.broke(error)
    except Exception:
        log.exception("stream failed")
        if not request.began:
            raise
        await events.broken(ServerError(f"The portal made a mistake. Quote {request.id} when you ask about it."))
        await events.end()
        raise
    finally:
        keeping.cancel()
    await events.end()


class Telling:
    """One reading of a job's steps as events."""

    def __init__(self, events: ResponseEvents, submitted: Submitted, output: Output) -> None:
        self.events = events
        self.submitted = submitted
        self.response = events.response
        self.output = output
        self.counted = Usage()
        self.failure: Failure | None = None
        self.sent = 0  # the attempt the client has something of

    async def run(self) -> None:
        job = None
        async with contextlib.aclosing(steps(self.submitted, refusing=False)) as following:
            async for step in following:
                if isinstance(step, Waiting):
                    await self.wait(step)
                elif isinstance(step, Piece):
                    await self.take(step)
                else:
                    job = step.job
        if job is not None and job["state"] != "succeeded":
            return await self.fail(refusals.of(job, self.failure), job)
        await self.events.reached("in_progress")
        await self.events.tell(*self.output.end())
        return await self.end(final(self.response, self.output, job=job, counted=self.counted))

    async def wait(self, step: Waiting) -> None:
        events = self.events
        before, events.waiting = events.waiting, step
        if before is not None and events.request.began and step.position != before.position:
            await events.comment()

    async def take(self, step: Piece) -> None:
        self.events.waiting = None
        self.counted = step.entry.usage
        if step.entry.end is not None:
            self.failure = step.entry.end.failure
        chunks = step.entry.chunks
        if chunks and self.sent not in (0, step.attempt):
            if not self.response.background:
                await dispatch.leave_async(job_id=self.submitted.job_id)
            raise refusals.site_lost()
        if chunks:
            self.sent = step.attempt
        if chunks or self.started:
            await self.events.reached("in_progress")
        await self.events.tell(*self.output.take(chunks))

    @property
    def started(self) -> bool:
        """Has the client a status line? Then what goes wrong is an event; work in the background has its own from the start."""
        return self.events.request.began or self.response.background

    async def broke(self, error: PortalError) -> None:
        """The reading ends before the job. What goes on in the background can be read again."""
        if self.response.background:
            await self.events.broken(error)
        else:
            await self.fail(error, None)

    async def fail(self, error: PortalError, job: Row | None) -> None:
        if not self.started:
            raise error
        await self.events.tell(*self.output.end(complete=False))
        await self.end(final(self.response, self.output, job=job, counted=self.counted, error=error))

    async def end(self, body: Mapping[str, Any]) -> None:
        kind = body["status"] if body["status"] in ("completed", "incomplete") else "failed"
        await self.events.last({"type": f"response.{kind}", "response": body})
