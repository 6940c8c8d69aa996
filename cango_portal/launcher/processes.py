"""The processes of the `Procfile`, kept running until they are told to end."""

import ctypes
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import IO, Any

PR_SET_PDEATHSIG = 1  # prctl(2)
STEADY_SECONDS = 30  # alive this long, the next end waits the first delay again
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.5, 10.0
STOP_SECONDS = 8
LOG_BYTES = 20 * 1024 * 1024

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def ending_with_parent(name: signal.Signals) -> Callable[[], None]:
    """For `preexec_fn`: the child gets this signal when the thread that starts it is gone, killed or not (Linux)."""
    parent = os.getpid()

    def ask() -> None:
        if _libc is not None:
            _libc.prctl(PR_SET_PDEATHSIG, int(name), 0, 0, 0)
            if os.getppid() != parent:  # it went before we asked
                os._exit(1)

    return ask


def spawn(
    arguments: Sequence[str | Path],
    *,
    output: IO[bytes],
    parent_signal: signal.Signals = signal.SIGKILL,
    cwd: str | Path,
    env: Mapping[str, str],
    **owner: Any,
) -> "subprocess.Popen[bytes]":
    """Start a program in a session of its own, so that Ctrl-C at the terminal is ours to pass on."""
    return subprocess.Popen(
        arguments,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        preexec_fn=ending_with_parent(parent_signal),  # noqa: PLW1509 - it takes no lock a thread of ours could hold
        **owner,
    )


def read(procfile: Path, environment: Mapping[str, str]) -> dict[str, list[str]]:
    """Name → arguments, with `$NAME` taken from the environment. No shell: a path may hold any character."""
    commands = {}
    for line in procfile.read_text().splitlines():
        name, colon, command = line.partition(":")
        if colon and not line.lstrip().startswith("#"):
            commands[name.strip()] = [Template(part).safe_substitute(environment) for part in shlex.split(command)]
    return commands


@dataclass
class Process:
    name: str
    arguments: list[str]
    popen: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    delay_seconds: float = 0.0
    due_at: float = 0.0  # not running: when to start it
    ends: int = 0


@dataclass
class Supervisor:
    """Starts every process in a session of its own, with a log, and again when it ends.

    Call `tick` a few times a second from the thread that called `start`. Times are `time.monotonic()` seconds.
    """

    commands: Mapping[str, list[str]]
    environment: Mapping[str, str]
    directory: Path
    logs: Path
    record: Path
    say: Callable[[str], None] = print
    others: Mapping[str, int] = field(default_factory=dict)  # pids of the servers, for the record
    processes: dict[str, Process] = field(init=False)

    def __post_init__(self) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        self.processes = {name: Process(name, arguments) for name, arguments in self.commands.items()}

    def start(self, *names: str) -> None:
        """Start these, or with no name all that were not started yet."""
        for process in self.processes.values():
            if process.name in names or (not names and not process.started_at):
                self.start_one(process)
        self.write_record()

    def start_one(self, process: Process) -> None:
        log = self.logs / f"{process.name}.log"
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as output:
            process.popen = spawn(process.arguments, output=output, cwd=self.directory, env=self.environment)
        process.started_at = time.monotonic()

    def tick(self) -> None:
        now = time.monotonic()
        changed = False
        for process in self.processes.values():
            if process.popen is None:
                if process.started_at and now >= process.due_at:
                    self.start_one(process)
                    changed = True
                continue
            code = process.popen.poll()
            if code is None:
                continue
            self.sweep(process)
            process.popen = None
            process.ends += 1
            steady = now - process.started_at > STEADY_SECONDS
            process.delay_seconds = (
                FIRST_DELAY_SECONDS
                if steady or not process.delay_seconds
                else min(process.delay_seconds * 2, LONGEST_DELAY_SECONDS)
            )
            process.due_at = now + process.delay_seconds
            self.say(
                f"{process.name} {ended(code)}; starting it again in {process.delay_seconds:g} s. Its log: {self.logs / process.name}.log"
            )
            changed = True
        if changed:
            self.write_record()

    def write_record(self) -> None:
        """`{name: pid}` of what runs now, for scripts and tests."""
        running = {name: process.popen.pid for name, process in self.processes.items() if process.popen is not None}
        part = self.record.with_suffix(".part")
        part.write_text(json.dumps({**running, **self.others}))
        part.replace(self.record)

    def sweep(self, process: Process) -> None:
        """End what a process that has ended left in its session."""
        if process.popen is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.popen.pid, signal.SIGKILL)

    def stop(self) -> None:
        """Ask all to end, then insist. Safe to call twice."""
        running = [process for process in self.processes.values() if process.popen is not None]
        for process in running:
            if process.popen is not None and process.popen.poll() is None:
                process.popen.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline and any(p.popen is not None and p.popen.poll() is None for p in running):
            time.sleep(0.05)
        for process in running:
            self.sweep(process)
            if process.popen is not None:
                process.popen.wait()
            process.popen = None
        self.record.unlink(missing_ok=True)


def ended(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
