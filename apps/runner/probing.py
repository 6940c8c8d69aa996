"""Asks a pool that had no work for a while whether it still answers right. One that does not takes no work until it does."""

from __future__ import annotations

import logging
import time

from apps.runner import golden
from apps.runner.golden import USUAL
from apps.runner.meter import Meter
from apps.runner.protocol import Kind
from apps.runner.resident import Resident

log = logging.getLogger(__name__)

QUIET_SECONDS = 30.0  # work that succeeded so lately says as much
AGAIN_SECONDS = 5.0  # after a wrong answer
ANSWER_SECONDS = 20.0


class Probe:
    """Of one pool. `failure` is why it takes no work, in words."""

    def __init__(self, resident: Resident, *, kind: Kind, model: str) -> None:
        self.resident = resident
        self.kind = kind
        self.model = model
        self.failure = ""
        self.well_at = time.monotonic()  # when work or a probe succeeded last
        self.due_at = 0.0

    def worked(self) -> None:
        """Work of a customer succeeded."""
        self.well_at = time.monotonic()
        self.failure = ""

    @property
    def due(self) -> bool:
        """Of one that is ready: full, it answers whom it can."""
        now = time.monotonic()
        free = self.resident.busy() < self.resident.slots
        quiet = bool(self.failure) or now - self.well_at >= QUIET_SECONDS
        return free and quiet and now >= self.due_at

    async def look(self, meter: Meter | None) -> bool:
        """Ask where that is due. Whether `failure` changed."""
        before, engine = self.failure, self.resident.engine
        if self.resident.state != "ready":
            self.failure = ""  # that itself is told, and a parked model is not woken for this
        elif self.due and engine is not None and self.kind in USUAL:
            asked = next(iter(self.resident.desired.golden), USUAL[self.kind])
            async with golden.on_the_house(meter) as house:
                found = await golden.tried(
                    engine, kind=self.kind, model=self.model, golden=asked, house=house, seconds=ANSWER_SECONDS
                )
            if self.resident.engine is not engine or self.resident.state != "ready":
                return False  # it was unloaded, or ended, meanwhile
            self.due_at = time.monotonic() + AGAIN_SECONDS
            self.failure = f"its probe failed: {found}" if found else ""
            if not found:
                self.well_at = time.monotonic()
        if self.failure != before:
            log.warning("a probe changed a pool", extra={"pool": self.resident.name, "failure": self.failure})
        return self.failure != before
