"""Who may use an engine: other work always, rows of shards what that leaves free.

The shard that came first goes first, so that shards end one after the other: side by side they would end together, and
leave the engine idle until the next one comes.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

Place = tuple[int, int, asyncio.Future[None]]


class Gate:
    """Of one pool. Rows wait in line; one may always run, so that a batch moves beside any other work."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.others = 0
        self.rows = 0
        self.shards = 0
        self.asked = 0
        self.line: list[Place] = []  # a heap

    @property
    def free(self) -> bool:
        return self.rows == 0 or self.rows + self.others < self.slots

    def enter(self) -> None:
        """Work that somebody waits for has begun. It is never kept waiting here."""
        self.others += 1

    def leave(self) -> None:
        self.others -= 1
        self.wake()

    def number(self) -> int:
        """A shard's place among others."""
        self.shards += 1
        return self.shards

    @asynccontextmanager
    async def row(self, shard: int) -> AsyncGenerator[None]:
        """Room for one row of a shard, when there is some."""
        if self.line or not self.free:
            turn = asyncio.get_running_loop().create_future()
            self.asked += 1
            place = shard, self.asked, turn
            heapq.heappush(self.line, place)
            try:
                await turn  # whoever wakes it has counted it
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.rows -= 1
                    self.wake()
                elif place in self.line:
                    self.line.remove(place)
                    heapq.heapify(self.line)
                raise
        else:
            self.rows += 1
        try:
            yield
        finally:
            self.rows -= 1
            self.wake()

    def wake(self) -> None:
        while self.line and self.free:
            _, _, turn = heapq.heappop(self.line)
            if not turn.done():
                self.rows += 1
                turn.set_result(None)
