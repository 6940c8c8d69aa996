"""A supervised child process: started again with a growing pause for as long as it is wanted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Callable

from apps.runner.engines.said import Said

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds
SETTLED_SECONDS = 30.0  # a child that lived so long starts the pauses anew
LOOP_ENDS = 3  # so many ends in a row, none of a settled child, are no accident
LOOK_SECONDS = 0.5  # between two looks at a process whose pipes outlive it
END_SECONDS = 3.0  # from SIGTERM to SIGKILL
LIMIT = 64 * 1024 * 1024  # bytes of one line a child may write


def module(name: str, *arguments: str) -> list[str]:
    """The command of a module of ours."""
    return [sys.executable, "-m", name, *arguments]


async def ended(process: Process) -> int:
    """Its exit code. asyncio's own `wait` waits for its pipes too, and what it left running may hold them for ever."""
    while process.returncode is None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await process.wait()
    return process.returncode


class Child:
    """`command`; its standard input stays open as long as this process lives.

    `before` runs before each start (a stale socket, say). What it says goes to `said`, where there is one; `talks`: its
    standard output is for us. `group`: it and what it starts are a group of processes, which ends whole.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        *,
        talks: bool = False,
        before: Callable[[], None] | None = None,
        said: Said | None = None,
        group: bool = False,
        end_seconds: float = END_SECONDS,
    ) -> None:
        self.name = name
        self.command = command
        self.talks = talks
        self.before = before
        self.said = said
        self.group = group
        self.end_seconds = end_seconds
        self.process: Process | None = None
        self.started = asyncio.Event()  # there is a process
        self.since = 0.0  # when it was started; monotonic
        self.killed = False  # by us
        self.ends = 0  # in a row, each of a child that had not settled
        self.end = ""  # how it ended last
        self.supervision: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.supervision = asyncio.create_task(self.supervise(), name=f"child {self.name}")

    async def supervise(self) -> None:
        while True:
            self.since = time.monotonic()
            if self.before:
                self.before()
            try:
                self.process = await self.spawn()
            except OSError as error:
                log.error("engine did not start", extra={"engine": self.name, "error": str(error)})
                self.end = f"it could not be started: {error.strerror}"
            else:
                self.started.set()
                try:
                    await self.watch(self.process)
                finally:
                    self.started.clear()
            if self.killed:
                self.killed = False
                continue
            self.ends = 1 if self.settled else self.ends + 1
            await asyncio.sleep(self.pause)

    async def spawn(self) -> Process:
        heard = PIPE if self.talks or self.said else DEVNULL
        errors = None if self.said is None else PIPE if self.talks else STDOUT
        return await asyncio.create_subprocess_exec(
            *self.command,
            stdin=PIPE,
            stdout=heard,
            stderr=errors,
            limit=LIMIT,
            start_new_session=self.group,
            # Python keeps what it prints back until it ends: it would come after the error that ended it.
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )

    async def watch(self, process: Process) -> None:
        """Until it ends. What it left running in its group ends with it."""
        hearing = asyncio.create_task(self.hear(process)) if self.said else None
        try:
            code = await ended(process)
            self.signal(process, signal.SIGKILL)
            if hearing:
                await asyncio.wait({hearing}, timeout=1.0)  # its last words
        except asyncio.CancelledError:
            if process.returncode is not None:  # `stop` came before its end was seen
                self.signal(process, signal.SIGKILL)
            raise
        finally:
            if hearing:
                hearing.cancel()
        if not self.killed:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            self.end = f"it ended with {how}" + (f": {self.said.last}" if self.said and self.said.last else "")
            log.warning("engine ended", extra={"engine": self.name, "exit": code, "ends": self.ends + 1})

    async def hear(self, process: Process) -> None:
        stream = process.stderr if self.talks else process.stdout
        assert stream
        assert self.said
        while said := await stream.read(65_536):
            self.said.write(said)

    @property
    def settled(self) -> bool:
        return time.monotonic() - self.since > SETTLED_SECONDS

    @property
    def pause(self) -> float:
        """Before it is started again."""
        return min(FIRST_PAUSE * 2.0 ** max(self.ends - 1, 0), LONGEST_PAUSE)

    @property
    def trouble(self) -> str:
        """Why it is not to be waited for; empty while it may yet become well."""
        if self.ends < LOOP_ENDS or (self.pid is not None and self.settled):
            return ""
        return f"it ended {self.ends} times in a row, and is started again every {self.pause:.0f} s; {self.end}"

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process and self.process.returncode is None else None

    def kill(self) -> None:
        """End the process now; supervision starts another at once."""
        if self.process and self.process.returncode is None:
            self.killed = True
            self.started.clear()
            self.signal(self.process, signal.SIGKILL)

    def signal(self, process: Process, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self.group:
                os.killpg(process.pid, number)
            elif process.returncode is None:
                process.send_signal(number)

    async def stop(self) -> None:
        if self.supervision:
            self.supervision.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.supervision
        if self.process and self.process.returncode is None:
            self.signal(self.process, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.end_seconds):
                    await ended(self.process)
            self.signal(self.process, signal.SIGKILL)  # and of its group what outlived it
            await ended(self.process)
