"""Looks at this node's GPUs every few seconds. What it finds takes the pools on a faulty one out of work; others go on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Any

from apps.runner import faults
from apps.runner.counters import Sampler

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
MOST_MISSES = 3  # looks in a row without an answer: the driver hangs, and what runs on it cannot be trusted


class Watch:
    """`changed` is called when some GPU became faulty or well, `looked` with what each look found."""

    def __init__(
        self,
        sampler: Sampler,
        *,
        changed: Callable[[], None],
        looked: Callable[[dict[str, dict[str, Any]]], None] = lambda found: None,
    ) -> None:
        self.sampler = sampler
        self.changed = changed
        self.looked = looked
        self.readings: dict[str, dict[str, Any]] = {}
        self.xids: dict[str, list[int]] = {}
        self.faults: dict[str, str] = {}
        self.known: set[str] = set()
        self.silent = False
        self.looking: asyncio.Task[None] | None = None

    def start(self, gpus: Iterable[str]) -> None:
        """`gpus` are those that pools run on: one of them that is not found is a fault of its own."""
        self.known = set(gpus)
        self.looking = asyncio.create_task(self.look_on(), name="GPUs")

    async def stop(self) -> None:
        if self.looking:
            self.looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.looking

    async def look_on(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        found = await self.sampler.readings()
        before = dict(self.faults), self.silent
        if found is None:
            self.silent = self.sampler.misses >= MOST_MISSES
        else:
            self.silent = False
            self.readings = found
            self.judge(found)
            self.looked(found)
        if (self.faults, self.silent) != before:
            log.warning("health of GPUs changed", extra={"faults": self.faults, "silent": self.silent})
            self.changed()

    def judge(self, found: dict[str, dict[str, Any]]) -> None:
        """XIDs are told once and hold until this process ends: a GPU that was reset is seen by a runner that began after it."""
        for uuid in self.known | set(found):
            reading = found.get(uuid, {"lost": True})
            self.xids.setdefault(uuid, []).extend(reading.get("xids", ()))
            if words := faults.fault(reading, self.xids[uuid]):
                self.faults[uuid] = words
            else:
                self.faults.pop(uuid, None)

    def refusal(self, gpus: Iterable[str]) -> str:
        """Why a pool on these GPUs takes no work; empty where it may."""
        mine = list(gpus)
        if mine and self.silent:
            return "NVML does not answer"
        return next((f"{uuid}: {self.faults[uuid]}" for uuid in mine if uuid in self.faults), "")
