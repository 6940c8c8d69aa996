"""What the pages of batches listen to: `batch.<id>`, one batch in the list or on its own page."""

from __future__ import annotations

import asyncio

from channels.db import database_sync_to_async

from apps.batches import pages
from apps.core.ids import parse
from apps.core.sql import Plan, Row, Statement
from apps.live.topics import Message, Topic, Viewer
from cango_portal import database

STANDING = "SELECT organization_id, version FROM batches_batch WHERE id = %(id)s"


class BatchTopic(Topic):
    """The newest state: its parts anew when the phase changes, figures in between. Its version is the row's counter.

    Every organization of the viewer counts, whichever is in use.
    """

    per_second = 4

    def __init__(self, name: str, viewer: Viewer, *, batch: str) -> None:
        super().__init__(name, viewer)
        self.public_id = batch
        self.batch_id = parse("batch", batch)
        self.phase = ""  # as it was said last

    async def allowed(self) -> bool:
        standing = await database.run_async(self.standing())
        return standing is not None and standing["organization_id"] in self.viewer.organization_ids

    def standing(self) -> Plan[Row | None]:
        rows = yield Statement(STANDING, {"id": self.batch_id})
        return rows[0] if rows else None

    async def watch(self) -> None:
        await self.watch_bell([f"batch.{self.public_id}"])

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)  # every report of its rows rings

    async def news(self, at: int) -> list[Message]:
        standing = await database.run_async(self.standing())
        if self.batch_id is None or standing is None or standing["version"] <= at:
            return []
        page = await database_sync_to_async(pages.load)(self.batch_id)
        self.finished = page.batch.is_final
        if page.batch.state == self.phase:
            return [self.set(page.at, page.fields())]
        self.phase = page.batch.state
        return [self.html(page.at, await database_sync_to_async(pages.parts)(page))]
