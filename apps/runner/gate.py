"""Who may use an engine: other work always, rows of shards what that leaves free."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class Gate:
    """Of one pool. Rows wait in line; one may always run, so that a batch moves beside any other work."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.others = 0
        self.rows = 0
        self.line: deque[asyncio.Future[None]] = deque()

    @property
    def free(self) -> bool:
        return self.rows == 0 or self.rows + self.others < self.slots

    def enter(self) -> None:
        """Work that somebody waits for has begun. It is never kept waiting here."""
        self.others += 1

    def leave(self) -> None:
        self.others -= 1
        self.wake()

    @asynccontextmanager
    async def row(self) -> AsyncGenerator[None]:
        """Room for one row, when there is some."""
        if self.line or not self.free:
            turn = asyncio.get_running_loop().create_future()
            self.line.append(turn)
            try:
                await turn  # whoever wakes it has counted it
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.rows -= 1
                    self.wake()
                else:
                    self.line.remove(turn)
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
            turn = self.line.popleft()
            if not turn.done():
                self.rows += 1
                turn.set_result(None)
