"""What the pages of batches listen to: `batch.<id>`, one batch in the list or on its own page; `batch.<id>.rows`, the rows
that ended last and the events; `batch.<id>.start`, when one that waits begins; `batch.<id>.power`, what it draws; `draft.<id>`, the check of one that has not been sent."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

from channels.db import database_sync_to_async

from apps.batches.models import Batch
from apps.batches.pages import batch as pages
from apps.batches.pages import draft as drafts
from apps.batches.pages import events, listing
from apps.batches.pages import rows as ended
from apps.batches.pages.power import Power
from apps.core.ids import parse
from apps.core.sql import Plan, Row, Statement
from apps.jobs import topics as jobs
from apps.jobs.pages.start import Start
from apps.live.topics import Message, Topic, Viewer
from cango_portal import database

SAMPLE_SECONDS = 5.0  # that a sample of charges holds


class OfBatch(Topic):
    """Its version is the row's counter. Every organization of the viewer counts, whichever is in use."""

    table = "batches_batch"
    bell = "batch"

    def __init__(self, name: str, viewer: Viewer, *, batch: str) -> None:
        super().__init__(name, viewer)
        self.public_id = batch
        self.batch_id = parse("batch", batch)

    async def allowed(self) -> bool:
        standing = await database.run_async(self.standing())
        return standing is not None and standing["organization_id"] in self.viewer.organization_ids

    def standing(self) -> Plan[Row | None]:
        sql = f"SELECT organization_id, version FROM {self.table} WHERE id = %(id)s"  # noqa: S608 - a constant goes in
        rows = yield Statement(sql, {"id": self.batch_id})
        return rows[0] if rows else None

    async def watch(self) -> None:
        await self.watch_bell([f"{self.bell}.{self.public_id}"])

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)  # every report of its rows rings

    async def newer(self, at: int) -> bool:
        standing = await database.run_async(self.standing())
        return self.batch_id is not None and standing is not None and standing["version"] > at


class BatchTopic(OfBatch):
    """The newest state: its parts anew when the phase changes, figures in between."""

    per_second = 4
    phase = ""  # as it was said last
    sample: list[int] | None = None  # of the page's charges, and when it was read, by the event loop's clock
    sample_at = 0.0

    async def news(self, at: int) -> list[Message]:
        if not await self.newer(at):
            return []
        page = await database_sync_to_async(pages.load)(self.batch_id)
        self.finished = page.batch.is_final
        if page.batch.state == self.phase:
            return [self.set(page.at, await self.fields(page))]
        self.phase = page.batch.state
        return [self.html(page.at, await database_sync_to_async(pages.parts)(page))]

    async def fields(self, page: pages.BatchPage) -> dict[str, Any]:
        """How far apart charges are moves slowly: two hundred rows are not read for every report."""
        now = asyncio.get_running_loop().time()
        if self.sample is not None and now - self.sample_at < SAMPLE_SECONDS:
            page.sample = self.sample
        found: dict[str, Any] = await database_sync_to_async(page.fields)()
        sample = page.__dict__.get("sample", [])  # read by now, where it was asked for
        if len(sample) > 1 and sample is not self.sample:
            self.sample, self.sample_at = sample, now
        return found


class RowsTopic(OfBatch):
    """The rows that ended last, anew with every report, and what happened; after the batch's end the first of its files."""

    per_second = 1

    async def news(self, at: int) -> list[Message]:
        if not await self.newer(at):
            return []
        page = await database_sync_to_async(pages.load)(self.batch_id)
        self.finished = page.batch.is_final
        return [self.html(page.at, await database_sync_to_async(below)(page))]


def below(page: pages.BatchPage) -> str:
    return ended.part(page) + events.part(page)


class StartTopic(jobs.StartTopic):
    """`batch.<batch>.start`: when one that has not begun is expected to start."""

    prefix = "batch"
    standing = "SELECT organization_id FROM batches_batch WHERE id = %(id)s"

    def read(self) -> tuple[Start, dict[str, str]] | None:
        batch = Batch.objects.filter(pk=self.id or UUID(int=0)).first()
        page = pages.BatchPage(batch) if batch and may_run(batch) else None
        if page and page.start:
            self.over = None
            return page.start, {"why": page.where}
        runs = page is not None and page.batch.state == "in_progress"
        # Once it has rows it never waits again: to say where it is counts them all, so that is done once.
        self.finished = page is None or (runs and page.done > 0)
        self.over = {"why": page.where, "words": ""} if page and runs else None
        return None


class PowerTopic(jobs.ByItself):
    """`batch.<batch>.power`: what one that runs draws now, and on what."""

    prefix = "batch"
    standing = StartTopic.standing

    async def figures(self) -> tuple[int, dict[str, str]] | None:
        found = await database_sync_to_async(self.read)()
        return (found.version, found.fields()) if found else None

    def read(self) -> Power | None:
        batch = Batch.objects.filter(pk=self.id or UUID(int=0)).first()
        self.finished = batch is None or not may_run(batch)
        return pages.BatchPage(batch).power if batch else None


def may_run(batch: Batch) -> bool:
    return batch.state in ("validating", "in_progress")


class DraftTopic(OfBatch):
    """How far the check of a draft is, then what it found."""

    table = "batches_draft"
    bell = "draft"
    per_second = 1

    async def news(self, at: int) -> list[Message]:
        if not await self.newer(at):
            return []
        page = await database_sync_to_async(drafts.load)(self.batch_id)
        self.finished = not page.checking
        if page.checking:
            return [self.set(page.at, page.fields())]
        return [self.html(page.at, await database_sync_to_async(drafts.part)(page))]


class OpenTopic(Topic):
    """`batches`: how many of the organization's run, beside the navigation."""

    per_second = 1
    said: int | None = None

    async def allowed(self) -> bool:
        return True

    async def watch(self) -> None:
        await self.watch_bell([f"organization.{self.viewer.organization_id}"])

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)  # every report of a batch rings

    async def news(self, at: int) -> list[Message]:
        now = await database.run_async(listing.opened(self.viewer.organization_id))
        if now.count == self.said or now.at <= at:
            return []
        self.said = now.count
        return [self.set(now.at, {"count": now.figure, "words": now.words})]
