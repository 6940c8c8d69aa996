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
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from apps.runner.protocol import Quality

log = logging.getLogger(__name__)

# Power of one busy CPU core, for the model where nothing can be measured: 350 W thermal design power over the 56 cores
# of an Intel Xeon Platinum 8480+ (Intel ARK). An assumption about the machine, not a measurement of it.
CPU_CORE_W = 6.25

ANSWER_SECONDS = 2.0  # NVML can hang; then its process is killed
START_SECONDS = 15.0  # until the first answer of a new one
KILL_SECONDS = 1.0
COMMAND = (sys.executable, "-m", "apps.runner.nvml")

# No GPU draws so much; a counter that says it did was set back or is wrong. GB300 modules: 2.7 kW with their CPU.
MOST_GPU_W = 4000
SLACK_SECONDS = 1.0  # between the counter's own moments and ours


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
    """The sum of some GPUs' counters (`nvmlDeviceGetTotalEnergyConsumption`, mJ since driver load).

    A counter that fell counts from its own zero where that is believable. What is not (a fall by a little, a leap) is no
    reading: counting goes on from there, and the energy of that window is unknown.
    """

    quality: Quality = "counter"

    def __init__(self, sampler: Sampler, uuids: list[str]) -> None:
        self.sampler = sampler
        self.uuids = uuids
        self.last: dict[str, int] = {}
        self.at = time.monotonic()
        self.millijoules = 0

    async def read(self) -> int | None:
        reading = await self.sampler.read()
        if reading is None or any(uuid not in reading for uuid in self.uuids):
            return None
        now = time.monotonic()
        most_mj = MOST_GPU_W * 1000 * (now - self.at + SLACK_SECONDS)
        used = 0
        believed = True
        for uuid in self.uuids:
            before = self.last.get(uuid, reading[uuid])
            delta = reading[uuid] - before if reading[uuid] >= before else reading[uuid]
            believed = believed and delta <= most_mj
            used += delta
            self.last[uuid] = reading[uuid]
        self.at = now
        if not believed:
            log.error("an energy counter cannot be believed", extra={"gpus": self.uuids, "millijoules": used})
            return None
        self.millijoules += used
        return self.millijoules


def driver_present() -> bool:
    """Whether NVML's library is here. Loading it asks no GPU anything, so it cannot hang."""
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    return True


class Sampler:
    """NVML in a process of its own, asked line by line, killed when it hangs. Readers at the same time share one answer.

    A process that cannot even be killed (its driver hangs in the kernel) is left alone, and none is started beside it.
    """

    def __init__(self, command: Sequence[str] = COMMAND, *, present: bool | None = None) -> None:
        self.command = command
        self.present = driver_present() if present is None else present
        self.process: Process | None = None
        self.stuck: Process | None = None
        self.misses = 0  # questions in a row that were not answered
        self.asking: dict[str, asyncio.Task[dict[str, Any] | None]] = {}
        self.turn = asyncio.Lock()

    @classmethod
    def of(cls, command: Sequence[str]) -> Sampler:
        """One that asks `command`, or this machine's driver where there is none."""
        return cls(command, present=True) if command else cls()

    async def read(self) -> dict[str, int] | None:
        """Each GPU's millijoules by UUID: none without a driver. None where NVML does not answer."""
        reading = await self.question("energy")
        if reading is None:
            return None
        return {uuid: millijoules for uuid, millijoules in reading.items() if millijoules is not None}

    async def readings(self) -> dict[str, dict[str, Any]] | None:
        """All that each GPU tells, as `nvml.readings` has it, by UUID. None where NVML does not answer."""
        return await self.question("readings")

    async def question(self, what: str) -> dict[str, Any] | None:
        if not self.present:
            return {}
        asking = self.asking.get(what)
        if asking is None or asking.done():
            asking = self.asking[what] = asyncio.create_task(self.ask(what))
        return await asyncio.shield(asking)

    async def ask(self, what: str) -> dict[str, Any] | None:
        async with self.turn:
            try:
                process = await self.running()
                assert process.stdin
                assert process.stdout
                async with asyncio.timeout(ANSWER_SECONDS):
                    process.stdin.write(f"{what}\n".encode())
                    answer: dict[str, Any] = json.loads(await process.stdout.readline())
            except (TimeoutError, OSError, ValueError) as error:
                self.misses += 1
                log.warning("no reading from NVML", extra={"error": repr(error), "misses": self.misses})
                await self.stop()
                return None
            self.misses = 0
            return answer

    async def running(self) -> Process:
        """The process, started and initialised: a driver that nothing uses takes seconds for each GPU."""
        if self.process is None:
            if self.stuck is not None and self.stuck.returncode is None:
                raise TimeoutError("the last process hangs in the driver and cannot be ended")
            self.process = await asyncio.create_subprocess_exec(*self.command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL)
            assert self.process.stdin
            assert self.process.stdout
            self.process.stdin.write(b"energy\n")
            async with asyncio.timeout(START_SECONDS):
                await self.process.stdout.readline()
        return self.process

    async def stop(self) -> None:
        process, self.process = self.process, None
        if process and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            try:
                async with asyncio.timeout(KILL_SECONDS):
                    await process.wait()
            except TimeoutError:
                self.stuck = process
