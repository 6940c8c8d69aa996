"""The one socket a page opens (design guide, §13): the page says where it stands, we send what it lacks."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from contextlib import suppress
from importlib import import_module
from types import SimpleNamespace
from typing import Any, ClassVar, cast
from uuid import UUID

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.contrib import auth
from django.db import Error as DjangoDatabaseError
from django.http import HttpRequest
from django.utils import timezone, translation
from psycopg import Error as DatabaseError
from psycopg_pool import PoolTimeout

from apps.accounts import languages
from apps.accounts.middleware import SESSION_KEY
from apps.accounts.models import Membership, User
from apps.accounts.zones import zone
from apps.live import topics
from apps.live.topics import Message, Topic, Viewer

log = logging.getLogger(__name__)

PING_SECONDS = 25.0
CHECK_SECONDS = 60.0
LIFE_SECONDS = 3600.0  # then the page connects anew
STALL_SECONDS = 20.0  # a client that takes nothing for so long is closed, and resumes
RETRY_SECONDS = 2.0  # between readings while the database is away

MAX_FRAME = 64 * 1024
MAX_PER_SECOND = 10.0  # messages from a client
BURST = 20
MAX_TOPICS = 200
NAMES_PER_SECOND = 40.0  # of topics that begin or move
NAMES_BURST = 2 * MAX_TOPICS  # a page names all of its own at once
MAX_OVER = 1000  # finished topics that are remembered
MAX_SOCKETS = 20  # of one user, in one process

GOING_AWAY, POLICY, TOO_BIG, MISTAKE, TRY_AGAIN = 1001, 1008, 1009, 1011, 1013
SIGNED_OUT, NO_RIGHT = 4401, 4403

AWAY = (DatabaseError, DjangoDatabaseError, PoolTimeout, OSError)


def sessions() -> Any:
    return import_module(settings.SESSION_ENGINE)


class Feed:
    """Where the client stands in one topic. `asked` is where it says it stands, until the feed has taken notice."""

    def __init__(self, topic: Topic, at: int) -> None:
        self.topic = topic
        self.at = at
        self.asked: int | None = None
        self.task: asyncio.Task[None] | None = None

    def move(self, at: int) -> None:
        self.asked = at
        self.topic.changed(urgent=True)

    def stand(self) -> int:
        if self.asked is not None:
            self.at, self.asked = self.asked, None
        return self.at

    def stands(self, at: int) -> bool:
        """That is where it stands: there is nothing to do."""
        return self.asked is None and self.at == at

    def sent(self, message: Message) -> None:
        if self.asked is None:
            self.at = message["v"] if "v" in message else message["off"] + topics.length(message["d"])


class Allowance:
    """So many at once, and so many more each second."""

    def __init__(self, burst: float, per_second: float) -> None:
        self.burst = self.left = burst
        self.per_second = per_second
        self.refilled = time.monotonic()

    def take(self, count: int) -> bool:
        """False where that is too much."""
        now = time.monotonic()
        self.left = min(self.burst, self.left + (now - self.refilled) * self.per_second) - count
        self.refilled = now
        return self.left >= 0


class PageConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Feeds the topics a page names.

    What a slow reader has not taken stays where it is, as the newest state or in the job's text; nothing queues here
    but one message for each topic.
    """

    sockets: ClassVar[Counter[int]] = Counter()

    async def connect(self) -> None:
        self.feeds: dict[str, Feed] = {}
        self.over: dict[str, int] = {}  # topics that will never have more, and where they ended
        self.tasks: set[asyncio.Task[None]] = set()
        self.sending = asyncio.Lock()
        self.hidden = False
        self.closed = False
        self.counted: int | None = None
        self.messages = Allowance(BURST, MAX_PER_SECOND)
        self.names = Allowance(NAMES_BURST, NAMES_PER_SECOND)
        await self.accept()  # a close before it reaches the browser as a failure without its code
        viewer = await self.identify(None)
        if viewer is None:
            return
        self.viewer = viewer
        if self.sockets[viewer.user.pk] >= MAX_SOCKETS:
            await self.end(TRY_AGAIN)
            return
        self.counted = viewer.user.pk
        self.sockets[self.counted] += 1
        self.start(self.ping())
        self.start(self.check())

    async def disconnect(self, code: int) -> None:
        self.closed = True
        if self.counted is not None:
            self.sockets[self.counted] -= 1
            if not self.sockets[self.counted]:
                del self.sockets[self.counted]
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def start(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.ended)
        return task

    def ended(self, task: asyncio.Task[None]) -> None:
        """A bug in one task ends the socket; the page connects again and says where it stands."""
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("a live feed failed", exc_info=error)
            self.start(self.end(MISTAKE))

    async def end(self, code: int) -> None:
        if not self.closed:
            self.closed = True
            with suppress(OSError):  # it is gone already
                await self.close(code)

    # Who listens ---------------------------------------------------------------------------------------------------------

    async def identify(self, before: Viewer | None) -> Viewer | None:
        """The signed-in member behind this socket; None after closing it. `before` keeps the organization it is in."""
        viewer = await database_sync_to_async(self.read_viewer)(before)
        if not isinstance(viewer, Viewer):
            await self.end(viewer)
            return None
        job = self.scope["url_route"]["kwargs"].get("job")
        if job is not None:
            topic = topics.resolve(f"job.{job}", viewer)
            if topic is None or not await topic.allowed():
                await self.end(NO_RIGHT)
                return None
        return viewer

    def read_viewer(self, before: Viewer | None) -> Viewer | int:
        """Read anew from the session and the database: what the socket was opened with may have been revoked since."""
        session = sessions().SessionStore(self.scope["cookies"].get(settings.SESSION_COOKIE_NAME))
        user = auth.get_user(cast(HttpRequest, SimpleNamespace(session=session)))
        if not isinstance(user, User) or not user.is_active:
            return SIGNED_OUT
        ids = list(Membership.objects.filter(user=user).order_by("pk").values_list("organization_id", flat=True))
        if not ids or (before and before.organization_id not in ids):
            return NO_RIGHT
        chosen = (
            before.organization_id
            if before
            else next((each for each in ids if str(each) == session.get(SESSION_KEY)), ids[0])
        )
        accepts = dict(self.scope["headers"]).get(b"accept-language", b"").decode("latin-1")
        return Viewer(
            user,
            UUID(str(chosen)),
            frozenset(UUID(str(each)) for each in ids),
            languages.of(user, self.scope["cookies"], accepts),
        )

    async def check(self) -> None:
        """Sign-out, a changed password and a lost membership end a socket that is already open."""
        opened = time.monotonic()
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            if time.monotonic() - opened > LIFE_SECONDS:
                return await self.end(GOING_AWAY)
            try:
                viewer = await self.identify(self.viewer)
                if viewer is None:
                    return None
                self.viewer = viewer
                for feed in list(self.feeds.values()):
                    feed.topic.viewer = viewer
                    if not await feed.topic.allowed():
                        return await self.end(NO_RIGHT)
            except AWAY:
                log.warning("a socket could not be checked")  # the next minute does it

    # What the client says ------------------------------------------------------------------------------------------------

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self.closed:
            return None
        if text_data is None or len(text_data) > MAX_FRAME:
            return await self.end(TOO_BIG if text_data else POLICY)
        if not self.messages.take(1):
            return await self.end(POLICY)
        try:
            message = json.loads(text_data)
            subscriptions = {str(name): max(0, int(at)) for name, at in message.get("sub", {}).items()}
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            return await self.end(POLICY)
        if "hidden" in message:
            self.hidden = bool(message["hidden"])
        lacking = {name: at for name, at in subscriptions.items() if not self.has_all(name, at)}
        if not self.names.take(len(lacking)):  # each is a reading of the database
            return await self.end(POLICY)
        for name, at in lacking.items():
            await self.subscribe(name, at)
        return None

    def has_all(self, name: str, at: int) -> bool:
        """Who is behind the end of a topic that is over is served once more: its part came with an older page."""
        if name in self.feeds:
            return self.feeds[name].stands(at)
        return name in self.over and at >= self.over[name]

    async def subscribe(self, name: str, at: int) -> None:
        feed = self.feeds.get(name)
        if feed is not None and feed.task is not None and not feed.task.done():
            return feed.move(at)
        if len(self.feeds) >= MAX_TOPICS and feed is None:
            return await self.end(POLICY)
        topic = topics.resolve(name, self.viewer)
        if topic is None:  # a page of another version of the portal may name it
            return None
        try:
            allowed = await topic.allowed()
        except AWAY:
            return await self.end(TRY_AGAIN)
        if not allowed:
            return await self.end(NO_RIGHT)
        feed = self.feeds[name] = Feed(topic, at)
        feed.task = self.start(self.feed(feed))
        return None

    # What we say ---------------------------------------------------------------------------------------------------------

    async def feed(self, feed: Feed) -> None:
        """Until its topic will have no more: a page may show many short ones after each other."""
        watching = asyncio.create_task(feed.topic.watch())
        pumping = asyncio.create_task(self.pump(feed))
        try:
            await asyncio.wait({watching, pumping}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
                await pumping
            pumping.result()
        finally:
            for task in (watching, pumping):
                task.cancel()
            await asyncio.gather(watching, pumping, return_exceptions=True)
        if self.closed:
            return
        name = feed.topic.name
        del self.feeds[name]
        self.over.pop(name, None)
        self.over[name] = feed.at
        if len(self.over) > MAX_OVER:
            del self.over[next(iter(self.over))]
        if feed.asked is not None and not self.has_all(name, feed.asked):  # said while it ended
            await self.subscribe(name, feed.asked)

    async def pump(self, feed: Feed) -> None:
        topic = feed.topic
        # Of this task alone; topics render parts of pages.
        timezone.activate(zone(topic.viewer.user.time_zone))
        translation.activate(topic.viewer.language)
        while not self.closed:
            topic.fresh.clear()
            try:
                messages = await topic.news(feed.stand())
            except AWAY as error:
                log.warning(
                    "a live topic could not be read", extra={"topic": topic.name, "error": type(error).__name__}
                )
                await asyncio.sleep(RETRY_SECONDS)
                topic.changed()
                continue
            for message in messages:
                await self.say(message)
                feed.sent(message)
                if feed.asked is not None:
                    break
            if messages:
                await topic.pause((2 if self.hidden else 1) / topic.per_second)
            if topic.finished and feed.asked is None and not topic.fresh.is_set():
                return
            await topic.fresh.wait()

    async def say(self, message: Message) -> None:
        async with self.sending:
            if self.closed:
                return
            try:
                async with asyncio.timeout(STALL_SECONDS):  # the server waits where the client does not read
                    await self.send(text_data=json.dumps(message, separators=(",", ":")))
            except TimeoutError:
                await self.end(TRY_AGAIN)
            except OSError:  # ASGI's word for a client that is gone; `disconnect` comes next
                self.closed = True

    async def ping(self) -> None:
        """A sign of life with the server's time (Unix ms), by which the page counts."""
        while True:
            await self.say({"k": "ping", "now": time.time_ns() // 1_000_000})
            await asyncio.sleep(PING_SECONDS)
