"""A supervised child process: started again with a growing pause for as long as it is wanted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds
SETTLED_SECONDS = 30.0  # a child that lived so long starts the pauses anew
END_SECONDS = 3.0  # from SIGTERM to SIGKILL
LIMIT = 64 * 1024 * 1024  # bytes of one line a child may write


class Child:
    """`python -m <module> <arguments>`; its standard input stays open as long as this process lives.

    `before` runs before each start (a stale socket, say).
    """

    def __init__(
        self, name: str, module: str, *arguments: str, talks: bool = False, before: Callable[[], None] | None = None
    ) -> None:
        self.name = name
        self.command = [sys.executable, "-m", module, *arguments]
        self.talks = talks  # on standard output, to us
        self.before = before
        self.process: Process | None = None
        self.started = asyncio.Event()  # there is a process
        self.killed = False  # by us
        self.supervision: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.supervision = asyncio.create_task(self.supervise(), name=f"child {self.name}")

    async def supervise(self) -> None:
        pause = FIRST_PAUSE
        while True:
            since = time.monotonic()
            if self.before:
                self.before()
            try:
                self.process = process = await asyncio.create_subprocess_exec(
                    *self.command, stdin=PIPE, stdout=PIPE if self.talks else DEVNULL, limit=LIMIT
                )
            except OSError as error:
                log.error("engine did not start", extra={"engine": self.name, "error": str(error)})
            else:
                self.started.set()
                try:
                    code = await process.wait()
                finally:
                    self.started.clear()
                if not self.killed:
                    log.warning("engine ended", extra={"engine": self.name, "exit": code})
            if self.killed:
                self.killed = False
                continue
            if time.monotonic() - since > SETTLED_SECONDS:
                pause = FIRST_PAUSE
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process and self.process.returncode is None else None

    def kill(self) -> None:
        """End the process now; supervision starts another at once."""
        if self.process and self.process.returncode is None:
            self.killed = True
            self.started.clear()
            self.process.kill()

    async def stop(self) -> None:
        if self.supervision:
            self.supervision.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.supervision
        if self.process and self.process.returncode is None:
            self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), END_SECONDS)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()
