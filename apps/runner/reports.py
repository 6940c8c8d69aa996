"""What the portal must learn, kept on disk until it said 200.

`finished` reports and the rows of shards lie in the spool until answered; a `started` report lives in
memory, since an attempt does not outlive its process, and waits a moment: the end of a short attempt tells its start as
well. A report is written and sent at the same time: only a send that fails needs the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from apps.runner.portal import Portal, PortalAway, PortalRefused
from apps.runner.protocol import Report

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0  # seconds, after a send that failed
BATCH = 200  # reports
STARTED_SECONDS = 0.1  # so long a start waits for its end
BATCH_BYTES = 8 * 1024 * 1024


class SpoolInUse(Exception):
    """Another runner process works with this directory."""


class Spool:
    """A directory of reports: what is kept at once is one file of a line each, named by the first, for a disk takes as long for
    one as for many. A file goes when all of it is done with. The same report is kept once. Threads take turns: at a stop one
    may still write what waited while the next is asked to.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files: dict[str, Path] = {}  # of each report that is kept, by its name
        self.names: dict[Path, set[str]] = {}  # of each file those that are not done with
        self.turn = threading.RLock()
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self.lock)
            raise SpoolInUse(f"Another runner works with the spool {directory}. Give each its own.") from error
        for part in directory.glob("*.part"):  # a write that was cut off was never promised
            part.unlink()

    def keep(self, reports: list[Report]) -> None:
        """On disk, for good, when this returns. Raises OSError (a full disk)."""
        with self.turn:
            new = {name_of(report): report for report in reports if name_of(report) not in self.files}
            if not new:
                return
            path = self.directory / f"{next(iter(new))}.json"
            while path in self.names:  # of an earlier one, beside which others wait
                path = beside(path)
            write(path, "".join(f"{report.model_dump_json()}\n" for report in new.values()))
            self.names[path] = set(new)
            self.files.update(dict.fromkeys(new, path))
            directory = os.open(self.directory, os.O_RDONLY)
            os.fsync(directory)
            os.close(directory)

    def drop(self, reports: list[Report]) -> None:
        with self.turn:
            for report in reports:
                path = self.files.get(name_of(report))
                if path is None:
                    continue
                self.names[path].discard(name_of(report))
                if not self.names[path]:
                    path.unlink(missing_ok=True)
                    del self.names[path]
                del self.files[name_of(report)]

    def refuse(self, report: Report) -> None:
        """Put aside what the portal will never take, for a person to look at."""
        aside = self.directory / "refused"
        aside.mkdir(exist_ok=True)
        (aside / f"{name_of(report)}.json").write_text(report.model_dump_json(), encoding="utf-8")
        self.drop([report])

    def left(self) -> list[Report]:
        """What an earlier process could not send, oldest first. Of a file that is unreadable in part the rest is kept anew."""
        reports: dict[str, Report] = {}
        for path in sorted(self.directory.glob("*.json"), key=lambda path: path.stat().st_mtime):
            found, good = [], True
            for line in path.read_bytes().splitlines():
                try:
                    found.append(Report.model_validate_json(line))
                except ValidationError:
                    good = False
            fresh = {name_of(report): report for report in found if name_of(report) not in reports}
            if good and not fresh:
                path.unlink()
            elif good:
                self.names[path] = set(fresh)
                self.files.update(dict.fromkeys(fresh, path))
            else:
                log.error("a report in the spool is unreadable", extra={"file": path.name})
                aside = path.with_suffix(".unreadable")
                while aside.exists():  # an earlier one of that name, for a person to look at
                    aside = beside(aside)
                path.rename(aside)
            reports |= fresh
        return list(reports.values())

    def close(self) -> None:
        os.close(self.lock)


def beside(path: Path) -> Path:
    """The next name after that of a file that is there."""
    return path.with_stem(f"{path.stem}+")


def write(path: Path, text: str) -> None:
    """Whole or not at all: a disk that is full gets back what was begun. Raises OSError."""
    part = path.with_suffix(".part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def name_of(report: Report) -> str:
    part = f"-{report.part}" if report.kind == "rows" else ""
    return f"{report.job}-{report.attempt}-{report.kind}{part}"


def size_of(report: Report) -> int:
    """About, in characters."""
    rows = sum(len(str(row.choices)) + len(str(row.result)) for row in report.rows)
    return len(report.text) + (len(str(report.result)) if report.result else 0) + rows


@dataclass(frozen=True, slots=True)
class Kept:
    report: Report
    size: int
    due_at: float = 0.0  # of the loop's clock


class Reporter:
    """Sends reports in order, in batches, for ever.

    `refused` hears of an attempt that is not ours any more, `answered` of each `finished` report that is done with.
    """

    def __init__(
        self, *, portal: Portal, spool: Spool, refused: Callable[[str, int], None], answered: Callable[[str, int], None]
    ) -> None:
        self.portal = portal
        self.spool = spool
        self.refused = refused
        self.answered = answered
        self.waiting: list[Kept] = []
        self.under_way: set[int] = set()  # ids of the reports of the call that is being made
        self.news = asyncio.Event()
        self.empty = asyncio.Event()
        self.sending: asyncio.Task[None] | None = None

    def start(self) -> None:
        for report in self.spool.left():
            self.put(report)
        self.sending = asyncio.create_task(self.send(), name="reporter")

    async def stop(self, seconds: float) -> None:
        """Send what is left for at most `seconds`; the rest stays in the spool."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.empty.wait()
        if self.sending:
            self.sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.sending
        await asyncio.to_thread(self.keep, [kept.report for kept in self.waiting])

    def put(self, report: Report) -> None:
        now = asyncio.get_running_loop().time()
        if report.kind == "started":
            self.waiting.append(Kept(report, 0, now + STARTED_SECONDS))
        else:
            key = (report.job, report.attempt)
            self.waiting = [
                each
                for each in self.waiting
                if each.report.kind != "started"
                or (each.report.job, each.report.attempt) != key
                or id(each.report) in self.under_way
            ]
            self.waiting.append(Kept(report, size_of(report)))
        self.empty.clear()
        self.news.set()

    def hurry(self) -> None:
        """The portal has just answered something else: try again now."""
        self.news.set()

    async def send(self) -> None:
        pause, told = FIRST_PAUSE, False
        while True:
            self.news.clear()
            if not self.waiting:
                self.empty.set()
                await self.news.wait()
                continue
            batch = self.batch()
            if not batch:
                await self.until_due()
                continue
            self.under_way = {id(report) for report in batch}
            keeping = asyncio.create_task(asyncio.to_thread(self.keep, batch))
            done: list[Report] = []
            refused: list[Report] = []
            away: PortalAway | None = None
            try:
                await self.deliver(batch, done, refused)
            except PortalAway as error:
                away = error
            finally:
                self.under_way = set()
                await asyncio.shield(keeping)
            try:
                await asyncio.to_thread(self.put_away, done, refused)
            except OSError as error:  # what the portal took stays on the disk, and is sent and taken once more
                log.error("a report cannot be put away", extra={"error": str(error)})
            if away is None:
                if told:
                    log.info("the portal takes reports again")
                pause, told = FIRST_PAUSE, False
                continue
            if not told:
                log.warning("the portal takes no reports; trying again until it does", extra={"error": str(away)})
            told = True
            await asyncio.to_thread(
                self.keep, [kept.report for kept in self.waiting]
            )  # those that no call had room for
            await asyncio.sleep(FIRST_PAUSE)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self.news.wait()
            pause = min(2 * pause, LONGEST_PAUSE)

    async def until_due(self) -> None:
        """Until the first of those that wait is to be sent, or there is news."""
        loop = asyncio.get_running_loop()
        due_at = min(kept.due_at for kept in self.waiting)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(due_at - loop.time(), 0.001)):
                await self.news.wait()

    def batch(self) -> list[Report]:
        batch: list[Report] = []
        size, now = 0, asyncio.get_running_loop().time()
        for kept in [kept for kept in self.waiting if kept.due_at <= now][:BATCH]:
            size += kept.size
            if batch and size > BATCH_BYTES:
                break
            batch.append(kept.report)
        return batch

    def keep(self, reports: list[Report]) -> None:
        try:
            self.spool.keep([report for report in reports if report.kind != "started"])
        except OSError as error:  # a full disk: it stays in memory, and is sent all the same
            log.error("a report cannot be kept on disk", extra={"error": str(error)})

    async def deliver(self, batch: list[Report], done: list[Report], refused: list[Report]) -> None:
        """Send a batch and take it off the list. Where the portal refuses it whole, one by one."""
        try:
            answer = await self.portal.report(batch)
        except PortalRefused as error:
            if len(batch) > 1:
                for report in batch:
                    await self.deliver([report], done, refused)
                return
            log.error("the portal refused a report", extra={"job": batch[0].job, "error": str(error)})
            refused += batch
        else:
            done += batch
            for answered in answer.answers:
                if not answered.accepted:
                    self.refused(answered.job, answered.attempt)
        sent = {id(report) for report in batch}
        self.waiting = [kept for kept in self.waiting if id(kept.report) not in sent]
        for report in batch:
            if report.kind == "finished":
                self.answered(report.job, report.attempt)

    def put_away(self, done: list[Report], refused: list[Report]) -> None:
        self.spool.drop([report for report in done if report.kind != "started"])
        for report in refused:
            if report.kind != "started":
                self.spool.refuse(report)
