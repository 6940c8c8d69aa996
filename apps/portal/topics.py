"""What the portal's own pages listen to: `overview`, the figures of the day and the latest jobs; `running`, what runs now;
`exports.<organization>`."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from channels.db import database_sync_to_async
from django.db import Error
from django.template.loader import render_to_string
from django.utils import timezone

from apps.accounts.models import Membership, Organization
from apps.accounts.rights import Right, with_right
from apps.core.ids import parse
from apps.jobs.pages.start import Kept, Start
from apps.jobs.topics import READ_SECONDS
from apps.ledger import services as ledger
from apps.live.topics import Message, Topic, Viewer
from apps.portal import exporting, exports, output, running, selectors
from apps.portal.output import Output
from apps.portal.span import Span
from cango_portal import database

log = logging.getLogger(__name__)

OUTPUT_SECONDS = 5.0  # between two readings of the output, and between what it says by itself


class OverviewTopic(Topic):
    """`overview` and, of more days than today, `overview.<range>`: those of its parts that changed, at most once in a second, of more
    days in five. Output falls to zero without a bell."""

    per_second: float = 1
    output: Output | None = None
    read_at = 0.0  # of the output, by the event loop's clock
    behind = False  # something changed since, too soon to read it again

    def __init__(self, name: str, viewer: Viewer, *, range: str = "today") -> None:
        super().__init__(name, viewer)
        self.said: list[str] = []
        self.span = Span.of(range)
        if not self.span.is_today:
            self.per_second = 1 / OUTPUT_SECONDS

    async def allowed(self) -> bool:
        return True

    async def watch(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.watch_bell([f"organization.{self.viewer.organization_id}"]))
            group.create_task(self.watch_output())

    async def watch_output(self) -> None:
        """While there is some to be seen it changes by itself."""
        while True:
            await asyncio.sleep(OUTPUT_SECONDS)
            if self.behind or (self.output is not None and self.output.moves):
                self.changed()

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)  # none of it is urgent, and every job of the organization rings

    async def news(self, at: int) -> list[Message]:
        now = asyncio.get_running_loop().time()
        self.behind = self.output is not None and now - self.read_at < OUTPUT_SECONDS
        if self.output is None or not self.behind:
            self.output = await database_sync_to_async(output.read)(self.viewer.organization_id, now=timezone.now())
            self.read_at = now
        version, found = await database_sync_to_async(parts)(self.viewer.organization_id, self.output, self.span)
        said = [part.replace(str(version), "") for part in found]
        fresh = [part for part, plain in zip(found, said, strict=True) if plain not in self.said]
        if not fresh or version <= at:
            return []
        self.said = said
        return [self.html(version, "".join(fresh))]


def parts(organization_id: UUID, output: Output, span: Span) -> tuple[int, list[str]]:
    """The version of what was read, and each part that could be read: of another the page keeps what it shows."""
    organization = Organization.objects.get(pk=organization_id)
    at = database.run(selectors.clock())
    overview = cache(lambda: selectors.overview(organization))
    context = {
        "at": at,
        "overview": overview,
        "span": span,
        "figures": cache(lambda: selectors.figures(organization, span=span, now=timezone.now())),
        "output": output,
        "shell": {"balance": cache(lambda: ledger.balance(organization_id))},
    }
    found: list[str] = []
    for name in ("figures", "latest", "first"):
        try:
            if name != "first" or overview().began:
                found.append(render_to_string(f"portal/_{name}.html", context))
        except Error as error:
            log.warning("a live part could not be read", extra={"part": name, "error": type(error).__name__})
    return at, found


class RunningTopic(Topic):
    """`running`: the list anew whenever a batch or job begins, ends or changes its phase."""

    per_second = 4
    said: list[Any] | None = None
    waits = False  # something listed waits for its turn
    told: dict[str, Start] | None = None  # as the reader was told, by the row's topic

    def __init__(self, name: str, viewer: Viewer) -> None:
        super().__init__(name, viewer)
        self.starts = Kept()

    async def allowed(self) -> bool:
        return True

    async def watch(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.watch_bell([f"organization.{self.viewer.organization_id}"]))
            group.create_task(self.watch_starts())

    async def watch_starts(self) -> None:
        """When it starts moves by itself, and is read no more often: every report of a batch makes the list anew."""
        while True:
            await asyncio.sleep(READ_SECONDS)
            self.starts = Kept()
            if self.waits:
                self.changed()

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)  # every report of a batch rings

    async def news(self, at: int) -> list[Message]:
        now = await database_sync_to_async(running.load)(self.viewer.organization_id, self.starts)
        self.waits, self.told = now.waits, now.keep(self.told or {})
        if now.standing == self.said or now.at <= at:
            return []
        self.said = now.standing
        return [self.html(now.at, await database_sync_to_async(running.part)(now))]


class ExportsTopic(Topic):
    """`exports.<organization>`: its parts anew when an export begins, goes on to another phase or ends, figures in between."""

    per_second = 1
    phase: list[tuple[Any, ...]] | None = None  # as it was said last
    said: dict[str, Any] | None = None
    ends_at: datetime | None = None  # as the reader was told

    def __init__(self, name: str, viewer: Viewer, *, organization: str) -> None:
        super().__init__(name, viewer)
        self.organization_id = parse("org", organization)

    async def allowed(self) -> bool:
        return bool(await database_sync_to_async(may_export)(self.viewer, self.organization_id))

    async def watch(self) -> None:
        assert self.organization_id is not None  # or it is not allowed
        await self.watch_bell([exporting.topic(self.organization_id)])

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)  # every part of the file rings

    async def news(self, at: int) -> list[Message]:
        page, html = await database_sync_to_async(self.read)()
        if page.at <= at:
            return []
        ended = self.phase is not None and page.open is None and page.phase != self.phase
        fields = page.fields()
        if html is None:
            if page.open is None or fields == self.said:
                return []
            messages = [self.set(page.at, fields)]
        else:
            messages = [self.html(page.at, html)]
        if ended and (ending := page.ending):
            messages.append(self.set(page.at + 1, {"said": ending}))
        self.phase, self.said, self.ends_at = page.phase, fields, page.ends_at
        return messages

    def read(self) -> tuple[exports.ExportsPage, str | None]:
        """The page, and its parts where they are others than those that were said."""
        assert self.organization_id is not None
        page = exports.load(Organization.objects.get(pk=self.organization_id), said=self.ends_at)
        return page, exports.parts(page) if page.phase != self.phase else None


def may_export(viewer: Viewer, organization_id: UUID | None) -> bool:
    """Its owners, whichever organization they have in use."""
    owners = Membership.objects.filter(user=viewer.user, role__in=with_right(Right.OWN))
    return organization_id is not None and owners.filter(organization=organization_id).exists()
