"""The bell says "changed" and never what: whoever hears it reads the newest state from the database.

One Redis channel for the whole portal and one subscriber for each event loop. A lost bell loses nothing, since every
reader also looks again after `Bell.floor_seconds`; each (re)connection rings everything that is listened to.
No Channels layer: from synchronous processes it leaks connections, and it may drop messages as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import redis
import redis.asyncio
from django.conf import settings
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import RedisError
from redis.retry import Retry

from apps.core import jsons
from cango_portal import valkey

log = logging.getLogger(__name__)

CHANNEL = "bell"
TIMEOUT_SECONDS = 1.0  # to connect, and again for the answer: a ring costs at most 2 s
LISTEN_SECONDS = 10.0  # silence after which the connection is asked for a sign of life
RETRY_SECONDS = 0.5
FLOOR_SECONDS = 12.0
FLOOR_WITHOUT_REDIS_SECONDS = 2.0


class Ringer:
    """Rings from synchronous code; one connection for the process, made again after a fork or a restart of Redis."""

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(
            url,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 1, supported_errors=(Disconnected,)),  # an idle connection that Redis closed
        )
        self.quiet = False

    def ring(self, topics: tuple[str, ...]) -> None:
        try:
            self.client.publish(CHANNEL, jsons.encoded(topics))
        except RedisError as error:
            self.failed(error)
        else:
            self.quiet = False

    def failed(self, error: Exception) -> None:
        if not self.quiet:  # once an outage, not once a job
            log.warning("the bell cannot be rung", extra={"error": type(error).__name__})
        self.quiet = True


@cache
def ringer(url: str) -> Ringer:
    return Ringer(url)


def ring(*topics: str) -> None:
    """Say that these changed. Call it after the commit. Never raises; takes at most 2 s with Redis away."""
    ringer(settings.REDIS_URL).ring(topics)


async def ring_async(*topics: str) -> None:
    """`ring` for the doors: never raises, never blocks the loop."""
    await bell().ring(*topics)


class Rung:
    """What one listener has not heard yet. The same topic rung twice is heard once."""

    def __init__(self, topics: Iterable[str]) -> None:
        self.topics = frozenset(topics)
        self.pending: dict[str, None] = {}
        self.news = asyncio.Event()

    def put(self, topic: str) -> None:
        self.pending[topic] = None
        self.news.set()

    async def get(self) -> str:
        """The next rung topic; waits for it."""
        while not self.pending:
            self.news.clear()
            await self.news.wait()
        topic = next(iter(self.pending))
        del self.pending[topic]
        return topic

    async def wait(self, seconds: float) -> set[str]:
        """All topics rung until now; where none was, the first ring ends the wait, or the time does (then none)."""
        if not self.pending:
            self.news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.news.wait()
        rung = set(self.pending)
        self.pending.clear()
        return rung


class Bell:
    """The subscriber of one event loop."""

    def __init__(self) -> None:
        self.listeners: dict[str, set[Rung]] = {}
        self.task: asyncio.Task[None] | None = None
        self.away = False
        self.quiet = False

    @property
    def floor_seconds(self) -> float:
        """How long a reader may trust silence before it looks for itself."""
        return FLOOR_WITHOUT_REDIS_SECONDS if self.away else FLOOR_SECONDS

    @asynccontextmanager
    async def listen(self, topics: Iterable[str]) -> AsyncIterator[Rung]:
        """Hear of these topics. Join first and read the state then: what changes in between rings."""
        rung = Rung(topics)
        for topic in rung.topics:
            self.listeners.setdefault(topic, set()).add(rung)
        if self.task is None or self.task.done():
            self.task = asyncio.create_task(self.run(), name="bell")
        try:
            yield rung
        finally:
            for topic in rung.topics:
                self.listeners[topic].discard(rung)
                if not self.listeners[topic]:
                    del self.listeners[topic]

    async def ring(self, *topics: str) -> None:
        try:
            await valkey.ask_async("PUBLISH", CHANNEL, jsons.encoded(topics))
        except (RedisError, OSError) as error:
            if not self.quiet:
                log.warning("the bell cannot be rung", extra={"error": type(error).__name__})
            self.quiet = True
        else:
            self.quiet = False

    async def run(self) -> None:
        while True:
            try:
                await self.subscribe()
            except (RedisError, OSError) as error:
                if not self.away:
                    log.warning("the bell cannot be heard", extra={"error": type(error).__name__})
                self.away = True
                await asyncio.sleep(RETRY_SECONDS)

    async def subscribe(self) -> None:
        """Hand on what is rung, until the connection fails."""
        subscriber = client(socket_timeout=None)
        pubsub = subscriber.pubsub()
        asked = False
        try:
            await pubsub.subscribe(CHANNEL)
            while True:
                message: dict[str, Any] | None = await pubsub.get_message(timeout=LISTEN_SECONDS)
                if message is not None:
                    asked = False
                    self.hear(message)
                elif asked:
                    raise Disconnected("no answer")
                else:
                    asked = True
                    await pubsub.ping()
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]
            await subscriber.aclose()

    def hear(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe":  # the first time, and whenever the driver connected anew: rings may be lost
            self.away = False
            topics: Iterable[str] = list(self.listeners)
        elif message["type"] == "message":
            topics = jsons.decoded(message["data"])
        else:
            return
        for topic in topics:
            for rung in self.listeners.get(topic, ()):
                rung.put(topic)


_bells: WeakKeyDictionary[asyncio.AbstractEventLoop, Bell] = WeakKeyDictionary()


def client(socket_timeout: float | None = TIMEOUT_SECONDS) -> redis.asyncio.Redis:
    return redis.asyncio.Redis.from_url(
        settings.REDIS_URL,
        protocol=2,
        decode_responses=True,
        socket_timeout=socket_timeout,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=AsyncRetry(NoBackoff(), 1, supported_errors=(Disconnected,)),
        health_check_interval=0,
    )


def bell() -> Bell:
    """The bell of this event loop."""
    loop = asyncio.get_running_loop()
    found = _bells.get(loop)
    if found is None:
        found = _bells[loop] = Bell()
    return found


async def close() -> None:
    """End this event loop's subscriber: at shutdown, and between tests."""
    found = _bells.pop(asyncio.get_running_loop(), None)
    if found is None:
        return
    if found.task is not None:
        found.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await found.task
