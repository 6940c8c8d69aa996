"""One attempt of one job at this site: claim it, do it, stream it, report it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

from redis import RedisError

from apps.runner import energy
from apps.runner.answer import Answer, says
from apps.runner.engines.engine import Choices, Computes, EngineFailed, Work
from apps.runner.meter import Meter
from apps.runner.output import Output, Written
from apps.runner.portal import BODY_BYTES, FILE_BYTES, Portal, PortalAway
from apps.runner.protocol import WRITES, End, Energy, Failure, Lease, Order, Report, Usage

log = logging.getLogger(__name__)

PACE_SECONDS = 0.015  # at most one stream entry in so long; the first chunk goes at once
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds, while Redis is away
SETTLE_SECONDS = 1.0  # the report waits so long for the stream's last entry
LINGER_SECONDS = 30.0  # and after the report the stream is still tried so long
FETCHES = 4  # of an input

Reason = Literal["cancel", "stop", "lost", "shutdown"]

FAILURES = {
    "deadline": Failure(code="deadline_exceeded", message="The job ran past its deadline and was stopped.", status=504),
    "lost": Failure(code="lease_lost", message="The site lost contact with the portal.", status=503, retryable=True),
    "shutdown": Failure(
        code="runner_stopped", message="The site stopped before the job was done.", status=503, retryable=True
    ),
    "bug": Failure(
        code="runner_error", message="The site could not run this job because of an error of ours.", retryable=True
    ),
}


class NotOurs(Exception):
    """Another claimant owns the attempt. Nothing more is written or reported."""


@dataclass(frozen=True, slots=True)
class Station:
    """What an attempt works with: the engine and meter of its pool, the portal, and where reports go."""

    engine: Computes
    meter: Meter | None
    portal: Portal
    claimant: str
    report: Callable[[Report], None]


class Execution:
    def __init__(self, order: Order, *, station: Station, output: Output) -> None:
        self.order = order
        self.station = station
        self.output = output
        self.answer = Answer()
        self.chunks: list[Choices] = []
        self.usage = Usage()
        self.done: int | None = None
        self.total: int | None = None
        self.result: dict[str, object] | None = None
        self.started_at: float | None = None
        self.first_token_at: float | None = None
        self.claimed_at: float | None = None  # monotonic
        self.end: End | None = None
        self.reason: Reason | None = None
        self.ending = asyncio.Event()
        # What the stream holds
        self.written = 0
        self.written_usage = Usage()
        self.written_progress: tuple[int | None, int | None] = (None, None)
        self.end_written = False
        self.delivered = 0  # the most chunks it ever held
        self.offered = 0  # the most it may have held: a write whose answer was lost may have arrived
        self.lost = False  # it is gone, and is to be restored
        self.writing = asyncio.Lock()
        self.news = asyncio.Event()

    @property
    def lease(self) -> Lease:
        return Lease(
            job=self.order.job, attempt=self.order.attempt, fence=self.order.fence, done=self.done, total=self.total
        )

    def finish(self, reason: Reason) -> None:
        """Ask for an early end. The first reason counts, but `stop` and `lost` overrule a cancel that is under way."""
        if self.reason is None or reason in {"stop", "lost"}:
            self.reason = reason
        self.ending.set()

    async def run(self) -> None:
        """From claim to report. Never raises but when cancelled itself."""
        try:
            if not await self.claim():
                return
            self.report_started()
            await self.work()
        except NotOurs:
            log.info(
                "attempt belongs to another claimant", extra={"job": self.order.job, "attempt": self.order.attempt}
            )

    # Claim

    async def claim(self) -> bool:
        """Write the first entry. False: expired, someone else's, or not wanted any more."""
        pause = FIRST_PAUSE
        while time.time() < self.order.expires_at and not self.ending.is_set():
            try:
                claimed = await self.output.claim()
            except RedisError as error:
                log.warning("a claim waits for Redis", extra={"job": self.order.job, "error": repr(error)})
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            if claimed is Written.OURS:
                self.claimed_at = time.monotonic()
            return claimed is Written.OURS
        return False

    def report_started(self) -> None:
        order = self.order
        self.started_at = time.time()
        self.station.report(
            Report(kind="started", job=order.job, attempt=order.attempt, fence=order.fence, claimant=self.station.claimant, at=self.started_at)
        )  # fmt: skip

    # Work

    async def work(self) -> None:
        """Compute and stream until done, ended from outside, or past the deadline."""
        meter = self.station.meter
        if meter:
            meter.begin(self, self.units)
        computing = asyncio.create_task(self.compute())
        streaming = asyncio.create_task(self.stream())
        ending = asyncio.create_task(self.ending.wait())
        tasks: set[asyncio.Task[object]] = {computing, streaming, ending}
        failure: Failure | None = None
        try:
            left = max(self.order.deadline_at - time.time(), 0)
            finished, _ = await asyncio.wait(tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if streaming in finished:
                streaming.result()
            if computing not in finished:
                await stopped(computing)  # closes the engine's request
                failure = FAILURES["deadline"] if not self.ending.is_set() else FAILURES.get(self.reason or "")
            elif (error := computing.exception()) is not None:
                failure = self.failure(error)
        finally:
            for task in tasks:
                if task is not streaming:
                    await stopped(task)
            used = await meter.end(self) if meter else None
        if self.reason == "stop":
            await stopped(streaming)
            return
        try:
            await self.conclude(failure, used, cut=computing not in finished)
        finally:
            await stopped(streaming)

    def units(self) -> int:
        usage = self.usage
        return energy.units(
            prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens, pages=usage.pages
        )

    async def compute(self) -> None:
        order = self.order
        body = order.body
        if body is None:
            body = json.loads(await self.fetch(order.body_url or "", BODY_BYTES))
        file = await self.fetch(order.file_url, FILE_BYTES) if order.file_url else b""
        work = Work(
            kind=order.kind,
            model=order.model,
            body=body,
            max_completion_tokens=order.max_completion_tokens,
            file=file,
            file_type=order.file_type or "",
        )
        async with aclosing(self.station.engine.run(work)) as pieces:
            async for piece in pieces:
                if piece.choices:
                    self.chunks.append(piece.choices)
                    self.answer.add(piece.choices)
                    if self.first_token_at is None and any(says(choice) for choice in piece.choices):
                        self.first_token_at = time.time()
                if piece.usage:
                    self.usage = piece.usage
                if piece.done is not None:
                    self.done, self.total = piece.done, piece.total
                if piece.result is not None:
                    self.result = piece.result
                self.news.set()

    async def fetch(self, path: str, limit: int) -> bytes:
        pause = FIRST_PAUSE
        for left in reversed(range(FETCHES)):
            try:
                return await self.station.portal.fetch(path, limit=limit)
            except PortalAway as error:
                if not left:
                    raise EngineFailed(
                        Failure(code="input_unavailable", message="The site could not fetch the input of this job.", status=503, retryable=True)
                    ) from error  # fmt: skip
                await asyncio.sleep(pause)
                pause *= 4
        raise AssertionError

    def failure(self, error: BaseException) -> Failure:
        if isinstance(error, EngineFailed):
            return error.failure
        log.error("an attempt met an error of ours", extra={"job": self.order.job}, exc_info=error)
        return FAILURES["bug"]

    # Stream

    async def stream(self) -> None:
        """Write what there is, again and again. Ends only by NotOurs."""
        pause = FIRST_PAUSE
        while True:
            await self.news.wait()
            self.news.clear()
            try:
                await self.flush()
            except RedisError:
                self.news.set()
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                pause = FIRST_PAUSE
                await asyncio.sleep(PACE_SECONDS)

    async def flush(self) -> None:
        """Bring the stream up to date: all chunks so far in one entry, and the end once there is one."""
        async with self.writing:
            while self.written < len(self.chunks) or self.written_progress != (self.done, self.total) or (self.end and not self.end_written):  # fmt: skip
                if self.reason in {"stop", "lost"}:
                    return
                until, usage, progress, end = len(self.chunks), self.usage, (self.done, self.total), self.end
                entry = self.output.entry(
                    seq=self.written,
                    chunks=self.chunks[self.written : until],
                    usage=usage,
                    done=progress[0],
                    total=progress[1],
                    end=end,
                )
                self.offered = max(self.offered, until)
                write = self.output.restore if self.lost else self.output.append
                match await write(entry):
                    case Written.THEIRS:
                        raise NotOurs
                    case Written.GONE:
                        self.lost, self.written, self.written_progress = True, 0, (None, None)
                        continue
                    case Written.OURS:
                        self.lost = False
                self.written, self.written_usage, self.written_progress = until, usage, progress
                self.delivered = max(self.delivered, until)
                self.end_written = end is not None

    # End

    async def conclude(self, failure: Failure | None, used: Energy | None, *, cut: bool) -> None:
        """The last entry and the report. The report goes even where the stream cannot be written."""
        cancelled = self.reason == "cancel" and cut
        if cut and self.reason is not None:
            await self.forget_unwritten()
        state: Literal["succeeded", "failed", "cancelled"]
        state = "cancelled" if cancelled else "failed" if failure else "succeeded"
        result = self.result
        writes = self.order.kind in WRITES
        if writes and (messages := self.answer.messages()) is not None:
            result = {"choices": messages}
        self.end = End(
            state=state,
            failure=failure,
            energy=used,
            result=result if state == "succeeded" and not writes else None,
        )
        settling: asyncio.Task[None] | None = None
        if self.reason != "lost":
            settling = asyncio.create_task(self.settle())
            await asyncio.wait({settling}, timeout=SETTLE_SECONDS)
            if settling.done():
                settling.result()
        order = self.order
        self.station.report(
            Report(
                kind="finished",
                job=order.job,
                attempt=order.attempt,
                fence=order.fence,
                claimant=self.station.claimant,
                at=time.time(),
                state=state,
                failure=failure,
                usage=self.usage,
                energy=used,
                started_at=self.started_at,
                first_token_at=self.first_token_at,
                finish_reason=self.answer.finish_reason,
                text=self.answer.text,
                result=result,
                streamed=self.offered > 0,
            )
        )
        if settling and not settling.done():
            with contextlib.suppress(NotOurs):
                await settling

    async def settle(self) -> None:
        pause, until = FIRST_PAUSE, time.monotonic() + SETTLE_SECONDS + LINGER_SECONDS
        while time.monotonic() < until:
            try:
                await self.flush()
            except RedisError:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                return
        log.warning("the end of a stream could not be written", extra={"job": self.order.job})

    async def forget_unwritten(self) -> None:
        """What was cut off is charged to the last entry written, so the rest is not delivered either."""
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                await self.writing.acquire()
        except TimeoutError:  # a write is under way and may have arrived: it counts
            return
        try:
            del self.chunks[self.delivered :]
            self.usage = self.written_usage
            self.answer = Answer()
            for chunk in self.chunks:
                self.answer.add(chunk)
        finally:
            self.writing.release()


async def stopped(task: asyncio.Task[object]) -> None:
    """Cancel a task and wait until it has put its things away; its own outcome was or will be read elsewhere."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
