"""Follow one job to its end: the wait, each piece of its answer once and in order, and how it ended.

The database says which state and attempt are in force; the attempt's stream holds the answer. The bell says when to look
at the database again, and so does a second without news, so nothing depends on a bell or on Redis being there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import OperationalError
from pydantic import ValidationError

from apps.core.errors import NotFound, Unavailable
from apps.core.ids import public
from apps.core.sql import Row
from apps.core.turns import Turns
from apps.jobs import statements
from apps.jobs.models import FINAL
from apps.live import streams
from apps.live.bell import Rung, bell
from apps.live.streams import Entries
from apps.runner import protocol
from cango_portal import database

log = logging.getLogger(__name__)

QUIET_SECONDS = 1.0  # without news for so long: look at the database
SETTLING_SECONDS = 0.25  # the same, after the runner's last word
DRAIN_SECONDS = 0.5  # the job has ended: so long for the rest of its stream
AWAY_SECONDS = 15.0  # neither database nor stream for so long: give up following

TEXTS = ("content", "reasoning_content", "reasoning", "refusal")  # of a chat's deltas, as the runner keeps them
Choices = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Known:
    """A job that was placed a moment ago: its attempt and pool."""

    attempt: int
    pool: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Still in the queue, `position` from the front (1 is next), until `deadline_at` at most. Repeated every second."""

    position: int | None
    reason: str
    deadline_at: datetime


@dataclass(frozen=True, slots=True)
class Piece:
    """News of an attempt. `entry.chunks` holds only what was not given before, and `entry.seq` how much was.

    A higher `attempt` than before starts the answer anew.
    """

    entry: protocol.Entry
    attempt: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The row of `jobs.statements.snapshot` in its final state. Nothing comes after it."""

    job: Row


async def follow(job_id: UUID, *, known: Known | None = None) -> AsyncGenerator[Waiting | Piece | Ended]:
    """Everything about the job from its beginning, also when it is long over.

    `known` spares whoever has just placed the job the first look at it.

    Raises NotFound where there is no such job, Unavailable where neither database nor stream answers. Close it with
    `contextlib.aclosing`.
    """
    watch = Watch(job_id, known)
    task = asyncio.create_task(watch.run(), name="jobs.watch")
    answer: Answer | None = None
    listening = contextlib.AsyncExitStack()
    try:
        if known is not None:
            answer = Answer(known.attempt)
            key = protocol.stream(known.pool, str(job_id), known.attempt)
            watch.entries = await listening.enter_async_context(streams.listen(key))
        while True:
            job = await watch.news()
            if job is not None:
                if job["state"] == "queued":
                    yield Waiting(job["position"], job["reason"], job["deadline_at"])
                elif job["pool"] and (answer is None or answer.attempt != job["attempt"]):
                    await listening.aclose()
                    key = protocol.stream(job["pool"], str(job_id), job["attempt"])
                    answer = Answer(job["attempt"])
                    watch.entries = await listening.enter_async_context(streams.listen(key))
                if job["state"] in FINAL:
                    async for piece in rest(job, answer, watch.entries):
                        yield piece
                    yield Ended(job)
                    return
            if answer is not None and watch.entries is not None:
                for _, fields in await watch.entries.batch(seconds=QUIET_SECONDS):
                    watch.heard = watch.loop.time()
                    news = answer.take(fields)
                    if answer.ended:
                        watch.settle()
                    if news is not None:
                        yield news
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await listening.aclose()


async def rest(job: Row, answer: Answer | None, entries: Entries | None) -> AsyncGenerator[Piece]:
    """What the stream still holds of an ended job; where it holds too little, the stored content."""
    if answer is None or entries is None:
        if job["state"] == "succeeded":
            answer = Answer(job["attempt"])
            for piece in answer.stored(job):
                yield piece
        return
    while not answer.ended:
        batch = await entries.batch(seconds=DRAIN_SECONDS)
        if not batch:
            break
        for _, fields in batch:
            news = answer.take(fields)
            if news is not None:
                yield news
    if not answer.ended and job["state"] == "succeeded":
        for piece in answer.stored(job):
            yield piece


async def _rows(job_ids: Sequence[UUID]) -> Sequence[Row | None]:
    found = await database.run_async(statements.snapshots(job_ids))
    return [found.get(job_id) for job_id in job_ids]


_snapshots: Turns[UUID, Row | None] = Turns(_rows)


class Watch:
    """Reads the job's row when the bell rings and when nothing was heard for a while."""

    def __init__(self, job_id: UUID, known: Known | None) -> None:
        self.job_id = job_id
        self.known = known
        self.loop = asyncio.get_running_loop()
        self.heard = self.loop.time()
        self.settling = False
        self.rung: Rung | None = None
        self.rung_at: float | None = None  # a ring that was not followed yet
        self.latest: Row | None = None
        self.failed: Exception | None = None
        self.fresh = asyncio.Event()
        self.entries: Entries | None = None

    async def news(self) -> Row | None:
        """The row, where it was read since the last call. Waits for it only where there is no stream to read."""
        if self.entries is None or (self.latest is not None and self.latest["state"] == "queued"):
            await self.fresh.wait()
        if not self.fresh.is_set():
            return None
        self.fresh.clear()
        if self.failed is not None:
            raise self.failed
        return self.latest

    def tell(self) -> None:
        self.fresh.set()
        if self.entries is not None:
            self.entries.wake()

    async def run(self) -> None:
        try:
            async with bell().listen([f"job.{public('job', self.job_id)}"]) as rung:
                self.rung = rung
                while self.known is not None or not await self.read():
                    self.known = None
                    await self.wait(rung)
        except Exception as error:
            self.failed = error
            self.tell()

    @property
    def streams(self) -> bool:
        """Whether the job is where its answer may come from: not in the queue."""
        return self.entries is not None and (self.latest is None or self.latest["state"] != "queued")

    def settle(self) -> None:
        """The runner's last word was read: look when the bell rings, at once where it has, soon where it does not."""
        if self.settling or self.rung is None:
            return
        self.settling = True
        self.loop.call_later(0 if self.rung_at is not None else SETTLING_SECONDS, self.rung.news.set)

    async def wait(self, rung: Rung) -> None:
        """Until it is time to look: a ring, or silence.

        While the answer comes in, a ring is mostly about its beginning or its end, which the stream tells as well: it is
        followed after a short silence, or after QUIET_SECONDS.
        """
        self.rung_at = None
        while True:
            patience = SETTLING_SECONDS if self.settling or self.rung_at is not None else QUIET_SECONDS
            if await rung.wait(patience) and self.rung_at is None:
                self.rung_at = self.loop.time()
            silence = self.loop.time() - self.heard
            if self.settling or silence >= patience:
                return
            if self.rung_at is not None and (
                not self.streams or self.loop.time() - self.rung_at >= QUIET_SECONDS or silence >= SETTLING_SECONDS
            ):
                return

    async def read(self) -> bool:
        """Read the row; True once it is final. A database that is away is asked again while the stream speaks."""
        try:
            self.latest = await _snapshots.ask(self.job_id)
        except OperationalError as error:
            if self.loop.time() - self.heard > AWAY_SECONDS:
                raise Unavailable(
                    "The portal cannot reach its database. The work goes on; look at the job in a moment.",
                    retry_after_seconds=5,
                ) from error
            return False
        self.heard = max(self.heard, self.loop.time())
        if self.latest is None:
            raise NotFound("There is no such job.")
        self.tell()
        return self.latest["state"] in FINAL


class Answer:
    """What was given of one attempt. Cuts overlaps and holds back what comes after a gap."""

    def __init__(self, attempt: int) -> None:
        self.attempt = attempt
        self.given = 0
        self.claimant = ""
        self.fence = ""
        self.usage = protocol.Usage()
        self.ended = False
        self.said: dict[int, Said] = {}

    def take(self, fields: dict[str, str]) -> Piece | None:
        try:
            entry = protocol.Entry.model_validate_json(fields.get("e", ""))
        except ValidationError:
            log.warning("entry of a job's stream cannot be read")
            return None
        if self.ended or entry.seq > self.given or (self.given and entry.claimant != self.claimant):
            return None
        fresh = entry.chunks[self.given - entry.seq :]
        if not entry.end and entry.seq + len(entry.chunks) < self.given:
            return None  # written again after a loss, and given before it
        if fresh or not self.claimant:
            self.claimant, self.fence = entry.claimant, entry.fence
        if entry.seq != self.given:
            entry = entry.model_copy(update={"chunks": fresh, "seq": self.given})
        piece = Piece(entry, self.attempt)
        self.usage = entry.usage
        self.ended = entry.end is not None
        self.note(fresh)
        return piece

    def note(self, chunks: Iterable[Choices]) -> None:
        for choices in chunks:
            self.given += 1
            for choice in choices:
                self.said.setdefault(choice.get("index", 0), Said()).note(choice)

    def stored(self, job: Row) -> list[Piece]:
        """The rest of an answer in text, made from what was stored of it: the stream is gone. Raises Unreadable."""
        if job["kind"] not in protocol.WRITES:
            return []
        if job.get("unreadable"):
            raise job["unreadable"]
        result = job["result"] if isinstance(job["result"], dict) else {}
        messages = {message.get("index", n): message for n, message in enumerate(result.get("choices") or [])}
        messages[0] = {**messages.get(0, {}), "content": job["text"]}
        choices: Choices = []
        for index, message in sorted(messages.items()):
            said = self.said.setdefault(index, Said())
            if not said.finished:
                choices.append(said.remaining(index, message, job["finish_reason"]))
        chunks = [choices] if choices else []
        piece = Piece(
            protocol.Entry(
                claimant=self.claimant,
                fence=self.fence,
                seq=self.given,
                chunks=chunks,
                usage=protocol.Usage(
                    prompt_tokens=job["prompt_tokens"],
                    cached_prompt_tokens=job["cached_prompt_tokens"],
                    completion_tokens=job["completion_tokens"],
                    pages=job["pages"],
                ),
            ),
            self.attempt,
        )
        self.note(chunks)
        return [piece]


class Said:
    """How much of one choice was given."""

    def __init__(self) -> None:
        self.begun = False
        self.characters: dict[str, int] = {}  # of each text
        self.arguments: dict[int, int] = {}  # characters of each tool call's arguments
        self.logprobs: dict[str, int] = {}  # tokens
        self.finished = False

    def note(self, choice: dict[str, Any]) -> None:
        self.begun = True
        delta = choice.get("delta") or {}
        for name in TEXTS:
            self.characters[name] = self.characters.get(name, 0) + len(delta.get(name) or "")
        for call in delta.get("tool_calls") or ():
            index = call.get("index", 0)
            given = len((call.get("function") or {}).get("arguments") or "")
            self.arguments[index] = self.arguments.get(index, 0) + given
        for name, items in (choice.get("logprobs") or {}).items():
            self.logprobs[name] = self.logprobs.get(name, 0) + len(items or ())
        self.finished = self.finished or bool(choice.get("finish_reason"))

    def remaining(self, index: int, message: dict[str, Any], finish_reason: str) -> dict[str, Any]:
        delta: dict[str, Any] = {} if self.begun else {"role": "assistant"}
        for name in TEXTS:
            text = (message.get(name) or "")[self.characters.get(name, 0) :]
            if text:
                delta[name] = text
        calls = []
        for number, call in enumerate(message.get("tool_calls") or ()):
            arguments = call["function"]["arguments"]
            if number not in self.arguments:
                calls.append({"index": number, **call})
            elif len(arguments) > self.arguments[number]:
                calls.append({"index": number, "function": {"arguments": arguments[self.arguments[number] :]}})
        if calls:
            delta["tool_calls"] = calls
        items = (message.get("logprobs") or {}).items()
        logprobs = {name: rest for name, kept in items if (rest := kept[self.logprobs.get(name, 0) :])}
        return {
            "index": index,
            "delta": delta,
            **({"logprobs": logprobs} if logprobs else {}),
            "finish_reason": message.get("finish_reason") or finish_reason or "stop",
        }
