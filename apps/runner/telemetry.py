"""What the GPUs said, kept on disk until the portal has counted it: for 72 hours, whether or not the portal is there.

Looks are numbered within a process. They lie in segments, one file each, numbered over restarts; a segment is sent until the
portal says 200, and what comes twice is counted once, since the portal knows the last look of a process it has counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import time
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from apps.runner.portal import Portal, PortalAway, PortalRefused
from apps.runner.protocol import GPUReading, Reading, Telemetry

log = logging.getLogger(__name__)

SEGMENT_SECONDS, JITTER = 30.0, 0.2
KEEP_SECONDS = 72 * 3600.0
KEEP_BYTES = 256 * 1024 * 1024  # eight GPUs are some 100 MB in 72 h
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # after a send that failed


def reading_of(seq: int, at: float, found: dict[str, dict[str, Any]]) -> Reading:
    """A look as the portal takes it. A GPU that is lost says nothing at all; a value out of its bounds is no reading."""
    return Reading(seq=seq, at=at, gpus=[gpu_of(uuid, told) for uuid, told in sorted(found.items())[:64]])


def gpu_of(uuid: str, told: dict[str, Any]) -> GPUReading:
    memory = told.get("memory_mib") or {}
    given = {
        "power_w": told.get("power_w"),
        "power_average_w": told.get("power_average_w"),
        "energy_mj": told.get("energy_mj"),
        "utilization": told.get("utilization"),
        "memory_used_mib": memory.get("used"),
        "memory_total_mib": memory.get("total"),
        "temperature_c": told.get("temperature_c"),
        "clocks_event_reasons": told.get("clocks_event_reasons"),
    }
    try:
        return GPUReading.model_validate({"uuid": uuid[:80], **given})
    except ValidationError as error:
        wrong = {str(item["loc"][0]) for item in error.errors()}
        return GPUReading.model_validate(
            {"uuid": uuid[:80], **{name: value for name, value in given.items() if name not in wrong}}
        )


class Recorder:
    """Takes looks, keeps them in `directory`, and sends them in order."""

    def __init__(self, *, portal: Portal, directory: Path, boot: str) -> None:
        self.portal = portal
        self.directory = directory
        self.boot = boot
        self.seq = 0
        self.number = 0  # of the last segment
        self.open: list[Reading] = []  # not on disk yet
        self.newest: Reading | None = None  # not told in a heartbeat yet
        self.working: asyncio.Task[None] | None = None
        self.away = False

    def take(self, found: dict[str, dict[str, Any]]) -> None:
        if not found:
            return
        self.seq += 1
        self.newest = reading_of(self.seq, time.time(), found)
        self.open.append(self.newest)

    def news(self) -> Reading | None:
        """The newest look, once."""
        newest, self.newest = self.newest, None
        return newest

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for part in self.directory.glob("*.part"):
            part.unlink()
        self.number = max((int(path.stem) for path in self.segments()), default=0)
        self.working = asyncio.create_task(self.work(), name="telemetry")

    async def stop(self, seconds: float) -> None:
        """Keep what is open, and send what is there for at most `seconds`."""
        if self.working is None:
            return
        self.working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.working
        await asyncio.to_thread(self.keep)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.send()

    async def work(self) -> None:
        pause = FIRST_PAUSE
        while True:
            await asyncio.sleep(SEGMENT_SECONDS * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311
            await asyncio.to_thread(self.keep)
            while not await self.send():
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                await asyncio.to_thread(self.keep)
            pause = FIRST_PAUSE

    def segments(self) -> list[Path]:
        return sorted(self.directory.glob("*.json"))

    def keep(self) -> None:
        """Write what is open as a segment, and drop what is older than 72 h or more than fits. A full disk loses the oldest."""
        readings, self.open = self.open, []
        if readings:
            self.number += 1
            path = self.directory / f"{self.number:012}.json"
            content = Telemetry(boot=self.boot, readings=readings).model_dump_json(exclude_none=True)
            try:
                self.write(path, content)
            except OSError as error:
                log.error("readings cannot be kept on disk", extra={"error": str(error)})
                self.open = readings + self.open
                del self.open[: -int(KEEP_SECONDS // 60)]  # in memory not for ever
        self.bound()

    def write(self, path: Path, content: str) -> None:
        part = path.with_suffix(".part")
        with part.open("w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)

    def bound(self) -> None:
        now = time.time()
        there = [(path, path.stat()) for path in self.segments()]
        total, dropped = sum(about.st_size for _, about in there), 0
        for path, about in there:
            if now - about.st_mtime <= KEEP_SECONDS and total <= KEEP_BYTES:
                break
            path.unlink(missing_ok=True)
            total -= about.st_size
            dropped += 1
        if dropped:
            log.error("readings were too old or too many to be kept", extra={"segments": dropped})

    async def send(self) -> bool:
        """All segments, oldest first. False where the portal is away."""
        for path in await asyncio.to_thread(self.segments):
            try:
                telemetry = Telemetry.model_validate_json(await asyncio.to_thread(path.read_bytes))
                await self.portal.tell(telemetry)
            except PortalAway as error:
                if not self.away:
                    log.warning("the portal takes no readings; they are kept", extra={"error": str(error)})
                self.away = True
                return False
            except (PortalRefused, ValidationError) as error:
                log.error("readings cannot be taken, and are dropped", extra={"error": str(error)[:200]})
            except FileNotFoundError:  # too old meanwhile
                continue
            else:
                if self.away:
                    log.info("the portal takes readings again")
                self.away = False
            path.unlink(missing_ok=True)
        return True
