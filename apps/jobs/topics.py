"""What the pages of jobs listen to: one job, its text, and the organization's money."""

from __future__ import annotations

import asyncio
import contextlib
from abc import abstractmethod
from datetime import datetime
from typing import Any
from uuid import UUID

from channels.db import database_sync_to_async
from django.utils.translation import gettext

from apps.core import numbers
from apps.core.ids import parse
from apps.core.sql import Plan, Row, Statement
from apps.jobs import sealed
from apps.jobs.models import FINAL, Job
from apps.jobs.pages import job as pages
from apps.jobs.pages.start import Start
from apps.jobs.pages.written import Written
from apps.jobs.statements import answered
from apps.ledger import spending
from apps.live import streams
from apps.live.topics import Message, Text, Topic, Viewer
from apps.runner import protocol
from cango_portal import database

READ_SECONDS = 5.0  # between two readings of what moves by itself

STANDING = """
SELECT j.organization_id, j.state, j.version, j.attempt, p.code AS pool
FROM jobs_job j LEFT JOIN sites_pool p ON p.id = j.pool_id
WHERE j.id = %(id)s AND j.batch_id IS NULL
"""
CONTENT = f"SELECT {sealed.ANSWER} FROM jobs_content c WHERE c.job_id = %(id)s"  # noqa: S608 - a constant goes in
ATTEMPT_AT = (
    "SELECT attempt FROM jobs_event WHERE job_id = %(id)s AND number <= %(version)s ORDER BY number DESC LIMIT 1"
)
FIGURES = """
SELECT a.credit_microusd + a.promotional_microusd - (
        SELECT coalesce(sum(g.remaining_microusd), 0)::bigint FROM ledger_grant g
        WHERE g.organization_id = a.organization_id AND g.remaining_microusd > 0 AND g.expires_at <= clock_timestamp()
    ) AS free, a.held_microusd AS held,
    (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS at,
    (SELECT coalesce((SELECT sum(h.charge_microusd) FROM jobs_usagehour h
            WHERE h.organization_id = %(organization)s AND h.hour >= date_trunc('day', now(), 'UTC') AND h.hour < since.at), 0)
        + coalesce((SELECT sum(j.charge_microusd) FROM jobs_job j
            WHERE j.organization_id = %(organization)s AND j.finished_at >= since.at), 0))::bigint AS spend
FROM ledger_account a, (
    SELECT greatest(date_trunc('day', now(), 'UTC'), (SELECT at FROM jobs_usageuntil)) AS at
) since WHERE a.organization_id = %(organization)s
"""


def one(sql: str, **params: Any) -> Plan[Row | None]:
    rows = yield Statement(sql, params)
    return rows[0] if rows else None


class OfJob(Topic):
    """A topic of one job; every organization of the viewer counts, whichever is in use."""

    def __init__(self, name: str, viewer: Viewer, *, job: str, attempt: str = "0") -> None:
        super().__init__(name, viewer)
        self.public_id = job
        self.job_id = parse("job", job)
        self.attempt = int(attempt) if attempt.isdigit() else 0
        self.standing: Row = {}
        self.stale = True  # the row may have changed since it was read
        self.written = Written()
        self.moved = asyncio.Event()  # another attempt is in force: its stream is another one

    async def allowed(self) -> bool:
        if self.job_id is None:
            return False
        standing = await database.run_async(one(STANDING, id=self.job_id))
        if standing is None or standing["organization_id"] not in self.viewer.organization_ids:
            return False
        self.take(standing)
        return True

    def take(self, standing: Row) -> None:
        if self.standing and (standing["attempt"], standing["pool"]) != (
            self.standing["attempt"],
            self.standing["pool"],
        ):
            self.moved.set()
        self.standing = standing

    async def refresh(self) -> None:
        if self.stale:
            self.stale = False
            standing = await database.run_async(one(STANDING, id=self.job_id))
            if standing is not None:
                self.take(standing)

    def changed(self, *, urgent: bool = False) -> None:
        self.stale = self.stale or urgent
        super().changed(urgent=urgent)

    async def watch(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.watch_bell([f"job.{self.public_id}"]))
            group.create_task(self.watch_stream())

    async def watch_stream(self) -> None:
        """Follow the stream of the attempt in force, and of the next one once there is one."""
        while True:
            self.moved.clear()
            reading = asyncio.create_task(self.read_stream(self.standing))
            try:
                await self.moved.wait()
            finally:
                reading.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await reading

    async def read_stream(self, standing: Row) -> None:
        self.written = Written()
        if standing["pool"] is None or not self.reads(standing):
            return
        key = protocol.stream(standing["pool"], str(self.job_id), standing["attempt"])
        async with streams.listen(key) as entries:
            async for entry_id, fields in entries:
                self.written.take(entry_id, fields)
                super().changed()

    def reads(self, standing: Row) -> bool:
        return standing["state"] not in FINAL


class JobTopic(OfJob):
    """`job.<id>`: the newest state; the parts of the page anew when the phase changes, figures in between."""

    per_second = 4
    page: pages.JobPage | None = None
    said: tuple[int, datetime] | None = None  # attempt, and when it was said to end

    async def news(self, at: int) -> list[Message]:
        await self.refresh()
        own = self.standing["version"]
        known = at >= own * pages.VERSION_SHIFT
        if known and self.standing["state"] in FINAL:
            self.finished = True
            return []
        if known and at >= pages.version(own, self.written):
            return []
        if not known or self.page is None or self.page.job.version != own:
            self.page = await database_sync_to_async(pages.load)(self.job_id)
        page = self.page
        # It may have moved on since its standing was read: figures of a state whose parts were never sent would hide them.
        if at < page.job.version * pages.VERSION_SHIFT:
            self.remember(page)
            shown = await database.run_async(one(ATTEMPT_AT, id=self.job_id, version=at // pages.VERSION_SHIFT))
            moved = shown is None or shown["attempt"] != page.job.attempt
            empty = page.job.is_final and not len(page.text)  # nothing streams that would end its box
            output = page.job.kind in ("embeddings", "rerank") or moved or empty or bool(page.answers) or page.asked > 1
            html = await database_sync_to_async(pages.parts)(page, output=output)
            self.finished = page.job.is_final
            return [self.html(page.at, html)]
        page = pages.JobPage(page.job, self.written)
        self.remember(page)
        return [self.set(page.at, page.fields())] if page.at > at else []

    def remember(self, page: pages.JobPage) -> None:
        """The end that was said holds for the next figures of the same attempt."""
        if self.said is not None and self.said[0] == page.job.attempt:
            page.said = self.said[1]
        if (ends := page.ends_at) is not None:
            self.said = (page.job.attempt, ends)


class OutputTopic(OfJob):
    """`job.<id>.out.<attempt>`: the text of choice 0, from any offset, until it is complete."""

    per_second = 10

    async def news(self, at: int) -> list[Message]:
        await self.refresh()
        if self.standing["state"] in FINAL and self.standing["attempt"] == self.attempt:
            stored = await database.run_async(one(CONTENT, id=self.job_id))
            self.finished = True
            return self.add(Text(answered(stored)["text"] if stored else ""), at, complete=True)
        return self.add(self.written.text, at, complete=False)

    def add(self, text: Text, at: int, *, complete: bool) -> list[Message]:
        messages: list[Message] = [
            {"k": "add", "t": self.name, "off": offset, "d": part}
            for offset, part in text.slices(at, complete=complete)
        ]
        if complete:
            messages = messages or [{"k": "add", "t": self.name, "off": len(text), "d": ""}]
            messages[-1]["end"] = len(str(text).split())
        return messages

    def reads(self, standing: Row) -> bool:
        return super().reads(standing) and standing["attempt"] == self.attempt


class ByItself(Topic):
    """Figures that move without a bell: read every few seconds, and said where they changed. `prefix` is the kind of thing it is of."""

    per_second = 1
    prefix = "job"
    standing = STANDING
    shown: dict[str, str] | None = None
    over: dict[str, str] | None = None  # what is said once there is nothing to read any more

    def __init__(self, name: str, viewer: Viewer, **ident: str) -> None:
        super().__init__(name, viewer)
        self.id = parse(self.prefix, ident[self.prefix])

    async def allowed(self) -> bool:
        if self.id is None:
            return False
        standing = await database.run_async(one(self.standing, id=self.id))
        return standing is not None and standing["organization_id"] in self.viewer.organization_ids

    async def watch(self) -> None:
        while True:
            self.changed()
            await asyncio.sleep(READ_SECONDS)

    @abstractmethod
    async def figures(self) -> tuple[int, dict[str, str]] | None:
        """The version of the reading, and what it says. None: there is nothing to say any more."""

    async def news(self, at: int) -> list[Message]:
        version, fields = await self.figures() or (at + 1, self.over)
        if fields is None or version <= at or fields == self.shown:
            return []
        self.shown = fields
        return [self.set(version, fields)]


class StartTopic(ByItself):
    """`job.<job>.start`: when one that waits is expected to start. Its own topic says when it has."""

    said: Start | None = None  # as the reader was told

    async def figures(self) -> tuple[int, dict[str, str]] | None:
        found = await database_sync_to_async(self.read)()
        if found is None:
            self.said = None  # it may wait again, for something else
            return None
        start, shown = found
        start = start.after(self.said)
        self.said = start if start.at else self.said
        return start.version, {**shown, "words": start.sentence}

    def read(self) -> tuple[Start, dict[str, str]] | None:
        """When it starts, and why it waits as the page shows that. None where it does not; until its end it may come back
        into the line."""
        job = Job.objects.filter(pk=self.id or UUID(int=0)).first()
        self.finished = job is None or job.is_final
        page = pages.JobPage(job) if job else None
        return (page.start, {"queue": page.queue, "why": page.steps[0].why}) if page and page.start else None


class OrganizationTopic(Topic):
    """`organization`: balance with hold, how long it lasts, and what was spent today (UTC)."""

    per_second = 1
    said: dict[str, Any] | None = None

    async def allowed(self) -> bool:
        return True

    async def watch(self) -> None:
        await self.watch_bell([f"organization.{self.viewer.organization_id}"])

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)  # money is never urgent, and every job of the organization rings

    async def news(self, at: int) -> list[Message]:
        row = await database.run_async(one(FIGURES, organization=self.viewer.organization_id))
        if row is None:
            return []
        held = row["held"]
        pace = await database_sync_to_async(spending.lately)(
            self.viewer.organization_id, available_microusd=row["free"]
        )
        fields = {
            "balance": numbers.balance(row["free"] + held),
            "held": gettext("%(held)s of it held for running jobs") % {"held": numbers.money(held)} if held else "",
            "free": numbers.balance(row["free"]),
            "hold": numbers.money(held),
            "spend": numbers.money(row["spend"]),
            "pace": pace.words,
        }
        if fields == self.said or row["at"] <= at:
            return []
        self.said = fields
        return [self.set(row["at"], fields)]
