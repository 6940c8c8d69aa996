"""The limits of one process while Valkey is away."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from django.conf import settings

from apps.keys.rates.limit import Limit
from apps.keys.rates.window import Window, refusal


@dataclass(slots=True)
class Counted:
    """A window in this process's memory: (time, requests, input and output tokens) of the last minute, and leases."""

    entries: deque[tuple[float, int, int, int]] = field(default_factory=deque)
    leases: dict[str, float] = field(default_factory=dict)

    def forget(self, now: float) -> None:
        while self.entries and self.entries[0][0] <= now - 60:
            self.entries.popleft()
        self.leases = {holder: until for holder, until in self.leases.items() if until > now}

    @property
    def used(self) -> tuple[int, int, int]:
        _, requests, inputs, outputs = zip(*self.entries, strict=True) if self.entries else ((), (), (), ())
        return sum(requests), sum(inputs), sum(outputs)


class Alone:
    """The limits of this process while Valkey is away: its share of each, at least 1. Nothing comes back before its minute is over."""

    def __init__(self) -> None:
        self.counted: dict[str, Counted] = {}
        self.lock = threading.Lock()

    def take(
        self, limits: Sequence[Limit], holder: str, asked: tuple[int, int, int], *, lease: bool
    ) -> tuple[Window, ...]:
        """As `take`."""
        now = time.monotonic()
        with self.lock:
            shares = [share(limit) for limit in limits]
            mine = [self.counted.setdefault(limit.counter, Counted()) for limit in limits]
            for counted in mine:
                counted.forget(now)
            windows = self.windows(shares, mine, now)
            for window, counted in zip(windows, mine, strict=True):
                for metric, needed in enumerate(asked):
                    limit = window.limit.figures[metric]
                    if limit is not None and needed and window.used[metric] + needed > limit:
                        raise refusal(windows, window, metric, asked, window.reset_ms or 1000)
                most = window.limit.concurrent
                if lease and most is not None and len(counted.leases) >= most:
                    raise refusal(windows, window, 3, asked, 1000)
            for counted in mine:
                counted.entries.append((now, *asked))
                if lease:
                    counted.leases[holder] = now + settings.RUN_SECONDS
            return self.windows(shares, mine, now)

    def windows(self, limits: Sequence[Limit], mine: Sequence[Counted], now: float) -> tuple[Window, ...]:
        return tuple(
            Window(
                limit,
                *counted.used,
                math.ceil((counted.entries[-1][0] + 60 - now) * 1000) if counted.entries else 0,
                len(counted.leases),
            )
            for limit, counted in zip(limits, mine, strict=True)
        )

    def end(self, limits: Sequence[Limit], holder: str) -> None:
        with self.lock:
            for limit in limits:
                if limit.counter in self.counted:
                    self.counted[limit.counter].leases.pop(holder, None)


def share(limit: Limit) -> Limit:
    figures = [None if figure is None else max(1, figure // settings.WEB_PROCESSES) for figure in limit.figures]
    return Limit(limit.counter, limit.whose, *figures)
