"""Says every two seconds what this runner works on, and hears what it should no longer do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from redis import RedisError
from redis.asyncio import Redis

from apps.runner import protocol
from apps.runner.portal import Portal, PortalAway, PortalDown, PortalRefused
from apps.runner.protocol import Attempt, Control, Heartbeat, Wanted, Watch

log = logging.getLogger(__name__)

BEAT_SECONDS, JITTER = 2.0, 0.2
AWAY_SECONDS = 0.5  # between beats that are not answered
LAST_SECONDS = 4.0  # a stop waits for the beat on its way and for one more
LOST_SECONDS = 10.0  # the portal gives an attempt to someone else after so long without a beat
SHARD_LOST_SECONDS = 45.0  # and a shard of a batch
DOWN_SECONDS = 60.0  # a portal that is down gives nothing to anybody (`sites.Listening`), but is not waited for longer


class Heart:
    """`state` makes the next beat, `told` handles a reply, `lost` hears for how long no beat was answered, each time that is too long."""

    def __init__(
        self,
        *,
        portal: Portal,
        state: Callable[[], Awaitable[Heartbeat]],
        stop: Callable[[Attempt], None],
        cancel: Callable[[Attempt], None],
        answered: Callable[[], None],
        lost: Callable[[float], None],
        want: Callable[[Wanted], None],
    ) -> None:
        self.portal = portal
        self.state = state
        self.stop_attempt = stop
        self.cancel_attempt = cancel
        self.answered = answered
        self.lost = lost
        self.want = want
        self.hurry = asyncio.Event()  # something the portal should know at once
        self.ending = False
        self.beating: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.beating = asyncio.create_task(self.beat(), name="heartbeat")

    async def stop(self) -> None:
        """After one more beat: else the portal sends work here until it finds out by silence."""
        if self.beating:
            self.ending = True
            self.hurry.set()
            await asyncio.wait({self.beating}, timeout=LAST_SECONDS)
            self.beating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.beating

    async def beat(self) -> None:
        last = answered_at = time.monotonic()  # when a beat was sent from which leases run at the earliest
        away = False
        while True:
            sent, last_one = time.monotonic(), self.ending
            pause = BEAT_SECONDS * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311
            try:
                answer = await self.portal.beat(await self.state())
            except (PortalAway, PortalRefused) as error:
                if not away:
                    log.warning("the portal does not answer heartbeats", extra={"error": str(error)})
                away = True
                pause = time.monotonic() - sent + AWAY_SECONDS
                if isinstance(error, PortalDown) and sent - answered_at < DOWN_SECONDS:
                    last = sent
                if time.monotonic() - last >= LOST_SECONDS:
                    self.lost(time.monotonic() - last)
            else:
                if away:
                    log.info("the portal answers heartbeats again")
                last = answered_at = sent
                away = False
                self.answered()
                if answer.wanted:
                    self.want(answer.wanted)
                for attempt in answer.stop:
                    self.stop_attempt(attempt)
                for attempt in answer.cancel:
                    self.cancel_attempt(attempt)
            if last_one:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause - (time.monotonic() - sent)):
                    await self.hurry.wait()
            self.hurry.clear()


class Ear:
    """Hears what the portal says to this process: `Control` at once, which a heartbeat's reply repeats, and `Watch`."""

    BLOCK_MILLISECONDS = 5_000

    def __init__(
        self,
        *,
        redis: Redis,
        claimant: str,
        stop: Callable[[Attempt], None],
        cancel: Callable[[Attempt], None],
        watch: Callable[[Watch], None],
    ) -> None:
        self.redis = redis
        self.control = protocol.control(claimant).encode()
        self.watching = protocol.watching(claimant).encode()
        self.acts = {"stop": stop, "cancel": cancel}
        self.watch = watch
        self.listening: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.listening = asyncio.create_task(self.listen(), name="control")

    async def stop(self) -> None:
        if self.listening:
            self.listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.listening

    async def listen(self) -> None:
        after: dict[Any, Any] = {
            self.control: b"0",
            self.watching: b"0",
        }  # names are new with this process, so all of it is for us
        hear = {self.control: self.act, self.watching: self.look}
        pause = 0.1
        while True:
            try:
                found = await self.redis.xread(after, block=self.BLOCK_MILLISECONDS, count=100)
            except RedisError:
                await asyncio.sleep(pause)
                pause = min(2 * pause, 2.0)
                continue
            pause = 0.1
            for key, entries in streams_of(found):
                for after[key], fields in entries:
                    hear[key](fields.get(b"e", b""))

    def act(self, text: bytes) -> None:
        try:
            control = Control.model_validate_json(text)
        except ValueError:
            log.warning("a control message is malformed")
            return
        self.acts[control.kind](Attempt(job=control.job, attempt=control.attempt))

    def look(self, text: bytes) -> None:
        try:
            watch = Watch.model_validate_json(text)
        except ValueError:
            log.warning("a word of who watches is malformed")
            return
        self.watch(watch)


Entries = list[tuple[bytes, dict[bytes, bytes]]]


def streams_of(found: Any) -> list[tuple[bytes, Entries]]:
    """What XREAD found, by stream, whichever protocol the connection speaks (RESP3 answers a map of lists)."""
    if isinstance(found, dict):
        return [(key, entries[0]) for key, entries in found.items()]
    return [(key, entries) for key, entries in found or ()]
