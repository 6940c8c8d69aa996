"""Energy counters: NVML's where there is a GPU, CPU time times a stated power where there is none.

A counter gives cumulative millijoules since some start, or None where there is no reading; None is never zero.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import logging
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable
from typing import Protocol

from apps.runner.protocol import Quality

log = logging.getLogger(__name__)

# Power of one busy CPU core, for the model where nothing can be measured: 350 W thermal design power over the 56 cores
# of an Intel Xeon Platinum 8480+ (Intel ARK). An assumption about the machine, not a measurement of it.
CPU_CORE_W = 6.25

ANSWER_SECONDS = 2.0  # NVML can hang; then its process is killed


class Counter(Protocol):
    quality: Quality

    async def read(self) -> int | None: ...


class CPUCounter:
    """CPU_CORE_W times the CPU time of an engine's processes. Counts no idle power; quality `modelled`."""

    quality: Quality = "modelled"

    def __init__(self, processes: Callable[[], list[int]]) -> None:
        self.processes = processes
        self.last: dict[int, float] = {}
        self.seconds = 0.0

    async def read(self) -> int | None:
        processes = self.processes()
        now = {pid: used for pid in processes if (used := cpu_seconds(pid)) is not None}
        if len(now) < len(processes) or sys.platform != "linux":
            return None
        # A process that was started again counts from its own zero.
        self.seconds += sum(used - self.last.get(pid, 0.0) for pid, used in now.items())
        self.last = now
        return round(self.seconds * CPU_CORE_W * 1000)


def cpu_seconds(pid: int) -> float | None:
    """CPU time of all threads of a process, to the nanosecond (clock_getcpuclockid(3), Linux)."""
    if sys.platform != "linux":
        return None
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return None


class GPUCounter:
    """The sum of some GPUs' counters (`nvmlDeviceGetTotalEnergyConsumption`, mJ since driver load)."""

    quality: Quality = "counter"

    def __init__(self, sampler: Sampler, uuids: list[str]) -> None:
        self.sampler = sampler
        self.uuids = uuids
        self.last: dict[str, int] = {}
        self.millijoules = 0

    async def read(self) -> int | None:
        reading = await self.sampler.read()
        if reading is None or any(uuid not in reading for uuid in self.uuids):
            return None
        for uuid in self.uuids:
            before, now = self.last.get(uuid, reading[uuid]), reading[uuid]
            self.millijoules += now - before if now >= before else now  # a driver that was loaded again starts at 0
            self.last[uuid] = now
        return self.millijoules


def driver_present() -> bool:
    """Whether NVML's library is here. Loading it asks no GPU anything, so it cannot hang."""
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    return True


class Sampler:
    """NVML in a process of its own, asked line by line, killed when it hangs. Readers at the same time share one answer."""

    def __init__(self) -> None:
        self.present = driver_present()
        self.process: Process | None = None
        self.asking: asyncio.Task[dict[str, int] | None] | None = None

    async def read(self) -> dict[str, int] | None:
        """Each GPU's millijoules by UUID: none without a driver. None where NVML does not answer."""
        if not self.present:
            return {}
        if self.asking is None or self.asking.done():
            self.asking = asyncio.create_task(self.ask())
        return await asyncio.shield(self.asking)

    async def ask(self) -> dict[str, int] | None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                if self.process is None:
                    self.process = await asyncio.create_subprocess_exec(
                        sys.executable, "-m", "apps.runner.nvml", stdin=PIPE, stdout=PIPE, stderr=DEVNULL
                    )
                assert self.process.stdin
                assert self.process.stdout
                self.process.stdin.write(b"\n")
                line = await self.process.stdout.readline()
                reading = json.loads(line)
                return {uuid: millijoules for uuid, millijoules in reading.items() if millijoules is not None}
        except (TimeoutError, OSError, ValueError) as error:
            log.warning("no reading from NVML", extra={"error": repr(error)})
            await self.stop()
            return None

    async def stop(self) -> None:
        process, self.process = self.process, None
        if process and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
