"""How the rows of a shard are written, told while somebody looks: how many are in progress, and the text of one of them.

Nobody looks: then nothing is sent, and a row costs a note of its own. What is told is of no account: it is written beside
the work, on a connection of its own, and where it fails nothing waits for it and nothing is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field

from redis import RedisError

from apps.runner.answer import says
from apps.runner.engines.engine import Choices
from apps.runner.output import Output, Written
from apps.runner.protocol import TEXT_UNITS, Usage, Watch, Writing

log = logging.getLogger(__name__)

PACE_SECONDS = 0.25  # between two looks at what is new
ROW_SECONDS = (
    1.0  # a text that has ended stays so long: readers have all of it, and rows that take a moment do not flicker
)
BEAT_SECONDS = 5.0  # and said so often where nothing changes
LAST_SECONDS = 1.0  # the end of a shard waits so long for the last of its text


@dataclass(slots=True, eq=False)
class Row:
    """One that is in progress. `chunks` only grows."""

    line: int
    chunks: list[Choices] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    first_at: float | None = None  # monotonic
    ended: bool = False

    def add(self, choices: Choices) -> None:
        self.chunks.append(choices)
        if self.first_at is None and any(says(choice) for choice in choices):
            self.first_at = time.monotonic()


class Showing:
    """Of one shard. The row that is shown is the newest when the one before has ended; it stays until it ends itself."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self.rows: dict[Row, None] = {}  # in progress, in the order they began
        self.until = self.text_until = 0.0  # monotonic
        self.telling: asyncio.Task[None] | None = None
        self.written = False  # something may lie in Redis
        self.row: Row | None = None  # what is shown
        self.told_at = self.ended_at = 0.0
        self.number = self.sent = self.off = 0  # of its text; chunks and code units that were sent
        self.full = False  # no more of it is sent
        self.told: Writing | None = None
        self.over = False

    def begin(self, line: int) -> Row:
        row = Row(line)
        self.rows[row] = None
        return row

    def end(self, row: Row) -> None:
        row.ended = True
        del self.rows[row]

    def watch(self, watch: Watch) -> None:
        if self.over:
            return
        now = time.monotonic()
        self.until = max(self.until, now + watch.seconds)
        if watch.text:
            self.text_until = max(self.text_until, now + watch.seconds)
        if self.telling is None or self.telling.done():
            self.telling = asyncio.create_task(self.tell())

    async def stop(self) -> None:
        """The shard is over: who watches has the rest of its text, which then goes. A process that dies leaves it for a minute."""
        self.over = True
        if self.telling:
            self.telling.cancel()
            await asyncio.wait({self.telling})
        if self.written:
            with contextlib.suppress(RedisError, TimeoutError):
                async with asyncio.timeout(LAST_SECONDS):
                    if time.monotonic() < self.until:
                        await self.look()
                    await self.output.leave()

    async def tell(self) -> None:
        self.told_at = 0.0  # at once, for what was told before may be gone
        try:
            while not self.over and time.monotonic() < self.until:  # a cancel may be lost in a write
                with contextlib.suppress(RedisError):  # told with the next look
                    await self.look()
                await asyncio.sleep(PACE_SECONDS)
        except Exception:
            log.exception("rows cannot be shown")

    async def look(self) -> None:
        now = time.monotonic()
        through = self.row is None or (self.told is not None and self.told.ended)
        if self.text_until <= now < self.until:  # not where nobody watches at all any more: who comes back goes on
            self.row = None
        elif through and self.rows and (self.row is None or now - self.ended_at >= ROW_SECONDS):
            self.start(next(reversed(self.rows)))
        while not await self.say(now):  # the stream was lost, or nobody had watched for long: all of the text once more
            self.told = None
            if self.row is not None and self.row.ended:
                self.row = next(reversed(self.rows), None)
            if self.row is not None:
                self.start(self.row)

    def start(self, row: Row) -> None:
        self.row = row
        self.number = max(int(time.time() * 1000), self.number + 1)
        self.sent = self.off = 0
        self.full = False
        self.told = None

    async def say(self, now: float) -> bool:
        """False where what it would go on from is gone."""
        row, until, whole = self.row, 0, True
        entry = Writing(running=len(self.rows))
        if row is not None:
            until = len(row.chunks)
            text, whole = begun(text_of(row.chunks[self.sent : until]), 0 if self.full else TEXT_UNITS - self.off)
            entry = Writing(
                running=len(self.rows),
                line=row.line,
                number=self.number,
                off=self.off,
                text=text,
                tokens=row.usage.completion_tokens,
                seconds=round(now - row.first_at, 3) if row.first_at is not None else 0,
                ended=row.ended,
            )
        if self.told is not None and same(entry, self.told) and now - self.told_at < BEAT_SECONDS:
            return True
        self.written = True
        how = (
            "begin" if self.told is None or entry.line is None else "append"
        )  # counts alone take the place of all before
        if await self.output.show(entry, how) is Written.GONE:
            return False
        if entry.ended and not (self.told and self.told.ended):
            self.ended_at = now
        self.told, self.told_at = entry, now
        self.sent, self.off, self.full = until, self.off + units(entry.text), self.full or not whole
        return True


def same(entry: Writing, told: Writing) -> bool:
    """Would a reader who heard the one see nothing new in the other?"""
    shown = {"running", "line", "number", "tokens", "ended"}
    return not entry.text and entry.model_dump(include=shown) == told.model_dump(include=shown)


def text_of(chunks: list[Choices]) -> str:
    """Of choice 0."""
    said = (
        (choice.get("delta") or {}).get("content") for chunk in chunks for choice in chunk if not choice.get("index")
    )
    return "".join(text for text in said if isinstance(text, str))


def units(text: str) -> int:
    """UTF-16 code units."""
    return len(text) + sum(character > "\uffff" for character in text)


def begun(text: str, most: int) -> tuple[str, bool]:
    """As much of it as so many units hold, without half a character; and whether that is all."""
    if units(text) <= most:
        return text, True
    return text.encode("utf-16-le", "surrogatepass")[: 2 * most].decode("utf-16-le", "ignore"), False
