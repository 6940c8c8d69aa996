"""What a batch's page listens to of a row in progress: `batch.<id>.live`, which row and how fast, and
`batch.<id>.row.<line>.<number>`, its text; and what the page of a row listens to, `batch.<id>.answer.<line>`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable

from channels.db import database_sync_to_async

from apps.batches import models, writing
from apps.batches.pages import batch as pages
from apps.batches.pages import live, row
from apps.batches.topics import OfBatch
from apps.batches.writing import Writing
from apps.core.sql import Row
from apps.live import streams
from apps.live.bell import bell
from apps.live.topics import Message, Viewer
from cango_portal import database

LOOK_SECONDS = 1.0  # between two readings of which shards run
RENEW_SECONDS = 5.0  # runners hear so often that somebody watches


class LiveTopic(OfBatch):
    """The text of one row in progress begins anew with each row; figures in between.

    Nothing of it is stored: it is there because somebody listens here, and runners are told so for as long as they do. Its
    version is the database's clock.
    """

    per_second = 4

    def __init__(self, name: str, viewer: Viewer, *, batch: str) -> None:
        super().__init__(name, viewer, batch=batch)
        self.stale = True
        self.state = ""
        self.ahead: int | None = None  # of our own clock, in µs
        self.shards: list[Row] = []
        self.told_at = 0.0
        self.heard: dict[str, Writing] = {}  # by stream
        self.reading: dict[str, asyncio.Task[None]] = {}
        self.names: tuple[str, dict[int, str]] = ("", {})  # of the lines of one shard
        self.shown: Writing | None = None
        self.said: tuple[int | None, dict[str, str]] = (None, {})

    async def watch(self) -> None:
        async with bell().listen([f"batch.{self.public_id}"]) as rung:
            try:
                while True:
                    self.stale = True
                    self.changed()
                    await asyncio.sleep(LOOK_SECONDS)
                    await rung.wait(RENEW_SECONDS - LOOK_SECONDS)
            finally:
                self.listen(())

    async def look(self) -> None:
        """Which of its shards run now; their runners hear that somebody watches."""
        assert self.batch_id is not None
        found = await database.run_async(writing.running(self.batch_id))
        if not found:
            return
        self.state = found[0]["state"]
        if self.ahead is None:
            self.ahead = found[0]["at"] - time.monotonic_ns() // 1000
        before, self.shards = self.shards, [shard for shard in found if shard["job"] is not None]
        self.listen([writing.key(shard) for shard in self.shards])
        if [*map(writing.key, before)] != [*self.heard] or time.monotonic() - self.told_at >= RENEW_SECONDS:
            self.told_at = time.monotonic()
            await writing.tell(self.shards)

    def listen(self, keys: Iterable[str]) -> None:
        """To these and no others, in their order."""
        kept = {key: self.heard.get(key) or Writing() for key in keys}
        for key in self.reading.keys() - kept.keys():
            self.reading.pop(key).cancel()
        self.heard = kept
        for key in kept.keys() - self.reading.keys():
            self.reading[key] = asyncio.create_task(self.read(key, kept[key]))

    async def read(self, key: str, heard: Writing) -> None:
        async with streams.listen(key, most=writing.ENTRY_UNITS) as entries:
            async for _, fields in entries:
                heard.take(fields)
                self.changed()

    def choose(self) -> None:
        """The text of the shard that was asked for one; until it has one, or for want of one, what was shown last."""
        first = next(iter(self.heard.values()), None)
        if first is not None and first.line is not None and not first.silent:
            self.shown = first
        elif self.shown is not None and self.shown.silent:
            self.shown = None
        if self.state != "in_progress":
            self.shown = None

    async def news(self, at: int) -> list[Message]:
        if self.stale:
            self.stale = False
            await self.look()
        if self.ahead is None:
            return []
        self.choose()
        self.finished = self.state in models.ENDED
        page = live.LivePage(
            self.public_id,
            self.shown,
            at=max(self.ahead + time.monotonic_ns() // 1000, at + 1),
            running=sum(heard.running for heard in self.heard.values() if not heard.silent),
        )
        number = self.shown.number if self.shown else None
        before, self.said = self.said, (number, page.fields())
        if at == 0 or before[0] != number:
            page.custom_id = await self.custom_id()
            return [self.html(page.at, await database_sync_to_async(live.part)(page))]
        return [self.set(page.at, page.fields())] if before != self.said else []

    async def custom_id(self) -> str:
        """Of the row that is shown: the lines of a shard are read once."""
        if self.shown is None or self.shown.line is None:
            return ""
        shard = next((shard for shard in self.shards if self.heard[writing.key(shard)] is self.shown), None)
        if shard is not None and shard["path"] != self.names[0]:
            self.names = shard["path"], await database_sync_to_async(writing.custom_ids)(shard["path"])
        return self.names[1].get(self.shown.line, "")


class RowTopic(OfBatch):
    """The text of one row in progress, from any offset, until it has ended or another has taken its place."""

    per_second = 10

    def __init__(self, name: str, viewer: Viewer, *, batch: str, line: str, number: str) -> None:
        super().__init__(name, viewer, batch=batch)
        self.line, self.number = (int(each) if each.isdecimal() else -1 for each in (line, number))
        self.key: str | None = None  # of the attempt that has the line; empty: it is over, and no more will come
        self.heard = Writing()

    async def allowed(self) -> bool:
        """A runner that died says no end: every time it is asked whether the line is still where it was."""
        if (
            not 0 <= self.number < 2**53
            or not 0 <= self.line < 2**31
            or self.batch_id is None
            or not await super().allowed()
        ):
            return False
        shard = await database.run_async(writing.place(self.batch_id, self.line))
        key = writing.key(shard) if shard else ""
        if self.key is None:
            self.key = key
        elif key != self.key:
            self.end()
        return True

    def end(self) -> None:
        self.key = ""
        self.changed()

    async def watch(self) -> None:
        if not self.key:
            return
        async with streams.listen(self.key, most=writing.ENTRY_UNITS) as entries:
            async for _, fields in entries:
                self.heard.take(fields)
                self.changed()
        self.end()  # it is no stream any more

    async def news(self, at: int) -> list[Message]:
        heard, mine = self.heard, self.heard.number == self.number and self.heard.line == self.line
        ended = heard.ended if mine else heard.number > self.number
        self.finished = ended or not self.key
        messages: list[Message] = [
            {"k": "add", "t": self.name, "off": offset, "d": part}
            for offset, part in (heard.text.slices(at, complete=ended) if mine else ())
        ]
        if self.finished:  # of one that was overtaken a client keeps what it has
            messages = messages or [{"k": "add", "t": self.name, "off": at, "d": ""}]
            messages[-1]["end"] = len(str(heard.text).split()) if mine else 0
        return messages


class AnswerTopic(OfBatch):
    """A row's answer on its own page, once there is one."""

    per_second = 1

    def __init__(self, name: str, viewer: Viewer, *, batch: str, line: str) -> None:
        super().__init__(name, viewer, batch=batch)
        self.line = int(line) if line.isdecimal() and len(line) < 9 else 0

    async def news(self, at: int) -> list[Message]:
        html = await database_sync_to_async(self.read)()
        self.finished = bool(html)
        return [self.html(at + 1, html)] if html else []

    def read(self) -> str:
        """Empty while it is awaited, or where the batch has no such row."""
        assert self.batch_id is not None  # it was allowed
        ended = models.Row.objects.filter(batch_id=self.batch_id, line=self.line)
        if not ended.exists() and not models.Batch.objects.filter(pk=self.batch_id, state__in=models.ENDED).exists():
            return ""
        with contextlib.suppress(models.Shard.DoesNotExist):
            return row.part(row.RowPage(pages.load(self.batch_id), self.line))
        return ""
