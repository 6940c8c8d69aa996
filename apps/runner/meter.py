"""Reads one replica's counter at each tick and finish, and keeps what each attempt has used so far."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from apps.runner.counters import Counter
from apps.runner.energy import Share, attribute
from apps.runner.protocol import Energy

TICK_SECONDS = 1.0

# Where a pool's configuration does not say what it draws as soon as anything runs: this part of its busy power. ML.ENERGY
# v3, Llama 3.1 8B on one H100: 477 W of 669 W at batch 128.
FIXED_PART = 0.7


@dataclass(slots=True)
class Account:
    """One attempt's part. `work` gives its work units so far, only ever growing."""

    work: Callable[[], int]
    since: float  # of its activity within the open window
    units: int = 0  # counted in closed windows
    millijoules: int = 0
    read: bool = False  # some window of its life was read


class Meter:
    """Energy of one replica and its split over the attempts that run on it.

    The sum of all attempts and `idle_mj` is the counter's own delta, always. A window without a reading stays open and
    is settled by the next one; an attempt that ends in between has no energy rather than a wrong one.
    """

    def __init__(self, counter: Counter, *, idle_w: float = 0.0, fixed_w: float | None = None) -> None:
        self.counter = counter
        self.idle_w = idle_w
        self.fixed_w = fixed_w
        self.accounts: dict[object, Account] = {}
        self.left: list[Share] = []  # ended in the open window without a reading; their part is nobody's
        self.idle_mj = 0
        self.total_mj = 0
        self.power_w: float | None = None  # of the last window
        self.last: int | None = None
        self.opened = time.monotonic()
        self.busy_seconds = 0.0  # of the open window, until `busy_since`
        self.busy_since: float | None = None
        self.lock = asyncio.Lock()
        self.ticking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.last = await self.counter.read()
        self.opened = time.monotonic()
        self.ticking = asyncio.create_task(self.tick(), name="meter")

    async def stop(self) -> None:
        if self.ticking:
            self.ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.ticking

    async def tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            await self.close_window()

    def begin(self, key: object, work: Callable[[], int]) -> None:
        now = time.monotonic()
        self.accounts[key] = Account(work=work, since=now)
        if self.busy_since is None:
            self.busy_since = now

    async def end(self, key: object) -> Energy | None:
        """Close the window, and take the attempt out. None: nothing was read."""
        read = await self.close_window()
        account = self.accounts.pop(key, None)
        if account is None:
            return None
        now = time.monotonic()
        if not read:
            self.left.append(Share(active_us=micro(now - account.since), units=account.work() - account.units))
        if not self.accounts and self.busy_since is not None:
            self.busy_seconds += now - self.busy_since
            self.busy_since = None
        if not (read and account.read):
            return None
        return Energy(gpu_energy_mj=account.millijoules, quality=self.counter.quality)

    async def so_far(self, key: object) -> Energy | None:
        """What an attempt has used until now. None: nothing was read in this window."""
        read = await self.close_window()
        account = self.accounts.get(key)
        if account is None or not (read and account.read):
            return None
        return Energy(gpu_energy_mj=account.millijoules, quality=self.counter.quality)

    async def close_window(self) -> bool:
        """Attribute everything since the last reading. Returns whether there was one."""
        async with self.lock:
            reading = await self.counter.read()
            now = time.monotonic()
            if reading is None:
                return False
            if self.last is None:  # the first reading is where counting starts
                self.last = reading
                self.open(now)
                return False
            energy, self.last = max(reading - self.last, 0), reading
            busy = self.busy_seconds + (now - self.busy_since if self.busy_since is not None else 0.0)
            window = max(now - self.opened, 1e-6)
            self.power_w = energy / 1000 / window
            fixed_w = self.fixed_w
            if fixed_w is None:
                fixed_w = FIXED_PART * energy / 1000 / busy if busy > 0 and self.counter.quality != "modelled" else 0.0
            shares: dict[object, Share] = {}
            for key, account in self.accounts.items():
                done = account.work()
                shares[key] = Share(active_us=micro(now - account.since), units=max(done - account.units, 0))
                account.units = done
            ended = {("ended", number): share for number, share in enumerate(self.left)}
            parts, idle = attribute(
                energy_mj=energy,
                idle_mw=round(self.idle_w * 1000),
                fixed_mw=round(fixed_w * 1000),
                window_us=micro(window),
                busy_us=micro(busy),
                shares={**shares, **ended},
            )
            self.total_mj += energy
            self.idle_mj += idle + sum(parts[key] for key in ended)
            for key, account in self.accounts.items():
                account.millijoules += parts[key]
                account.read = True
            self.open(now)
            return True

    def open(self, now: float) -> None:
        self.opened = now
        self.busy_seconds = 0.0
        self.left.clear()
        if self.busy_since is not None:
            self.busy_since = now
        for account in self.accounts.values():
            account.since = now


def micro(seconds: float) -> int:
    return max(round(seconds * 1_000_000), 0)
