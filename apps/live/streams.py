"""Many Redis streams, one reader: each event loop has one task and one connection for all it listens to.

The reader blocks in XREAD over every stream that is listened to and one of its own, which wakes it when a listener
joins. Entries wait in the listener's buffer; a full buffer stops the reading of that stream, not the others, and what is
left waits in Redis: nothing is dropped and memory is bounded. A restarted Redis is connected to again and read on from
the last entry; one that came back with smaller ids is read from its start, so a listener may see an entry's content twice.

Streams are written by nodes, which are not trusted. What is no UTF-8 is read with replacements; a key that is no stream, and a
stream with an entry larger than its listener takes, end for those who listen to them and for nobody else. What remains: one
answer to XREAD is held whole before it is looked at, `COUNT` entries of each stream, and Redis alone says how large those are.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast
from weakref import WeakKeyDictionary

from django.conf import settings
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

Entry = tuple[str, dict[str, str]]

log = logging.getLogger(__name__)

START = "0"
BUFFER = 256  # entries a listener holds before its stream is paused
COUNT = 64  # entries of one stream in one read
ENTRY_UNITS = 64 * 1024 * 1024  # characters of a larger entry end its stream: the door takes as much of reports at once
BUFFER_UNITS = 16 * 1024 * 1024  # a listener that holds so much is full, however few its entries are
BLOCK_SECONDS = 1.0
CHECK_SECONDS = 2.0  # how often streams are checked for having been written anew
IDLE_SECONDS = 5.0  # without listeners: the reader ends
RETRY_SECONDS = 0.1


def order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number or 0)


def size(entry: Entry) -> int:
    return sum(len(name) + len(value) for name, value in entry[1].items())


class Entries:
    """What one listener has not taken yet."""

    def __init__(self, reader: Reader, key: str, after: str, most: int) -> None:
        self.reader = reader
        self.key = key
        self.cursor = after
        self.most = most
        self.buffer: deque[Entry] = deque()
        self.units = 0  # in the buffer
        self.ended = False
        self.news = asyncio.Event()

    def __aiter__(self) -> Entries:
        return self

    async def __anext__(self) -> Entry:
        while not self.buffer:
            if self.ended:
                raise StopAsyncIteration
            self.news.clear()
            await self.news.wait()
        entry = self.buffer.popleft()
        self.units -= size(entry)
        self._resume()
        return entry

    async def batch(self, *, seconds: float) -> list[Entry]:
        """All that is there; waits up to so long where nothing is, and less after `wake`."""
        if not self.buffer:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.news.wait()
        self.news.clear()
        taken = list(self.buffer)
        self.buffer.clear()
        self.units = 0
        self._resume()
        return taken

    def wake(self) -> None:
        """Let `batch` return now."""
        self.news.set()

    @property
    def full(self) -> bool:
        return len(self.buffer) >= BUFFER or self.units >= BUFFER_UNITS

    def put(self, entries: list[Entry]) -> None:
        """As many as there is room for: what is left is read again."""
        for entry in entries:
            if self.full or self.ended:
                return
            if order(entry[0]) <= order(self.cursor):
                continue
            if (units := size(entry)) > self.most:
                log.warning("an entry of a stream is too large", extra={"key": self.key, "units": units})
                self.end()
                return
            self.cursor = entry[0]
            self.buffer.append(entry)
            self.units += units
            self.news.set()

    def end(self) -> None:
        """Nothing more is read of it: what is in the buffer is the rest."""
        self.ended = True
        self.reader.leave(self)
        self.news.set()

    def _resume(self) -> None:
        if self.reader.paused(self.key) and not self.full:
            self.reader.wake_soon()


class Reader:
    """The one task of an event loop."""

    def __init__(self) -> None:
        self.listeners: dict[str, set[Entries]] = {}
        self.own = f"wake:{secrets.token_hex(8)}"
        self.own_cursor = START
        self.skipped: set[str] = set()
        self.task: asyncio.Task[None] | None = None
        self.waking: asyncio.Task[None] | None = None
        self.wanted = False
        self.redis: Redis | None = None

    def join(self, key: str, after: str, most: int) -> Entries:
        entries = Entries(self, key, after, most)
        self.listeners.setdefault(key, set()).add(entries)
        if self.task is None or self.task.done():
            self.redis = client()
            self.task = asyncio.create_task(self.run(self.redis), name="streams")
        else:
            self.wake_soon()
        return entries

    def leave(self, entries: Entries) -> None:
        remaining = self.listeners.get(entries.key, set())
        remaining.discard(entries)
        if not remaining:
            self.listeners.pop(entries.key, None)

    def paused(self, key: str) -> bool:
        return key in self.skipped

    def wake_soon(self) -> None:
        """End the reader's wait, so that it reads for whoever came since. Several at once are one."""
        self.wanted = True
        if self.waking is None or self.waking.done():
            self.waking = asyncio.create_task(self.wake(), name="streams.wake")

    async def wake(self) -> None:
        while self.wanted and self.redis is not None:
            self.wanted = False
            with contextlib.suppress(RedisError, OSError):  # away: the reader is connecting again and needs no waking
                async with self.redis.pipeline(transaction=False) as pipe:
                    pipe.xadd(self.own, {"w": "1"}, maxlen=1)
                    pipe.expire(self.own, 60)
                    await pipe.execute()

    async def run(self, redis: Redis) -> None:
        loop = asyncio.get_running_loop()
        checked = idle_since = loop.time()
        broken = refused = False
        try:
            while True:
                now = loop.time()
                if self.listeners:
                    idle_since = now
                elif now - idle_since > IDLE_SECONDS:
                    return
                try:
                    if refused:
                        refused = not await self.drop(redis)
                    if broken or now - checked > CHECK_SECONDS:
                        await self.check(redis)
                        checked, broken = now, False
                    await self.read(redis)
                    refused = False
                except (RedisError, OSError) as error:
                    if isinstance(error, ResponseError) and not refused:  # one key is enough for all to be refused
                        refused = True
                        continue
                    if not broken:
                        log.warning("streams cannot be read", extra={"error": type(error).__name__})
                    broken = True
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            if self.task is asyncio.current_task():
                self.task = None
            await redis.aclose()

    async def read(self, redis: Redis) -> None:
        """One XREAD over all streams whose listeners have room."""
        cursors = {self.own: self.own_cursor}
        skipped = set()
        for key, listeners in self.listeners.items():
            reading = [entries.cursor for entries in listeners if not entries.full]
            if len(reading) < len(listeners):
                skipped.add(key)
            if reading:
                cursors[key] = min(reading, key=order)
        self.skipped = skipped
        answer: Any = await redis.xread(cast(Any, cursors), count=COUNT, block=int(BLOCK_SECONDS * 1000))
        for key, entries in answer or []:
            if key == self.own:
                self.own_cursor = entries[-1][0]
            for listener in list(self.listeners.get(key, ())):
                # Who joined during the read lacks what lies before these entries; the next read begins there.
                if order(listener.cursor) >= order(cursors[key]):
                    listener.put(entries)

    async def drop(self, redis: Redis) -> bool:
        """End the listeners of keys that are no streams: anything else is refused for all of one XREAD. True where there were any."""
        keys = list(self.listeners)
        async with redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.type(key)
            kinds = await pipe.execute()
        bad = [key for key, kind in zip(keys, kinds, strict=True) if kind not in ("stream", "none")]
        for key in bad:
            log.warning("a key that is listened to is no stream", extra={"key": key})
            for listener in list(self.listeners.get(key, ())):
                listener.end()
        return bool(bad)

    async def check(self, redis: Redis) -> None:
        """Streams that end before our cursor were lost and written anew: read those from their start."""
        keys = [self.own, *self.listeners]
        async with redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.xrevrange(key, count=1)
            answers = await pipe.execute()
        for key, last in zip(keys, answers, strict=True):
            if not last:
                continue
            for listener in self.listeners.get(key, ()):
                if order(last[0][0]) < order(listener.cursor):
                    listener.cursor = START
            if key == self.own and order(last[0][0]) < order(self.own_cursor):
                self.own_cursor = START


_readers: WeakKeyDictionary[asyncio.AbstractEventLoop, Reader] = WeakKeyDictionary()


def client() -> Redis:
    return Redis.from_url(
        settings.REDIS_URL,
        protocol=2,
        decode_responses=True,
        encoding_errors="replace",
        socket_timeout=BLOCK_SECONDS + 4,
        socket_connect_timeout=2,
        health_check_interval=0,
    )


@asynccontextmanager
async def listen(key: str, after: str = START, *, most: int = ENTRY_UNITS) -> AsyncIterator[Entries]:
    """Every entry of the stream after the id `after`, from those already there to those to come; none larger than `most`."""
    loop = asyncio.get_running_loop()
    reader = _readers.get(loop)
    if reader is None:
        reader = _readers[loop] = Reader()
    entries = reader.join(key, after, most)
    try:
        yield entries
    finally:
        reader.leave(entries)


async def close() -> None:
    """End this event loop's reader: at shutdown, and between tests."""
    reader = _readers.pop(asyncio.get_running_loop(), None)
    if reader is not None and reader.task is not None:
        reader.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reader.task
