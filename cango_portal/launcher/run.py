"""`make run`: everything on one machine, in the foreground, until Ctrl-C."""

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import httpx

from cango_portal.launcher import first_work
from cango_portal.launcher.place import ROOT, Place, Refused, Turn, write_private
from cango_portal.launcher.processes import Supervisor, read, spawn
from cango_portal.launcher.servers import NO_ROOM, Servers, ServersFailed

T = TypeVar("T")

READY_SECONDS = 90
TICK_SECONDS = 0.1
INSTALLING_SECONDS = 3  # shorter than this before the launcher ran, make and Python only started
FIRST_WORK_SECONDS = 10  # so long it has the processor to itself; worker and beat start after it


class Interrupted(BaseException):
    """Ctrl-C, `make stop`, or the terminal went away."""


@dataclass
class Held:
    """`back`: Interrupted is not raised now; `due`: it is as soon as it may be."""

    back: bool = False
    due: bool = False


HELD = Held()


def say(text: str = "") -> None:
    """Print for the person at the terminal, who may have gone."""
    with suppress(OSError):
        print(text, flush=True)


def environment_of(place: Place, servers: Servers) -> dict[str, str]:
    """What the portal's processes and `make manage` need to meet the same servers."""
    return {
        **servers.environment,
        "DJANGO_SETTINGS_MODULE": "cango_portal.settings",
        "DEMO": "1",
        "PORT": str(place.port),
        "PORTAL_VAR": str(place.var),
        "SECRET_KEY_FILE": str(place.secret_key()),
    }


def with_environment(own: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with ours over it; what would send the demo to other servers is left out."""
    foreign = {
        "BASE_URL",
        "CELERY_BROKER_URL",
        "SECRET_KEY",
        "PYTHONDONTWRITEBYTECODE",  # a server that compiles all its modules at each start is away for seconds more
        *(f"{name}_FILE" for name in ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL")),
    }
    kept = {name: value for name, value in os.environ.items() if name not in foreign}
    path = f"{Path(sys.executable).parent}:{kept.get('PATH', os.defpath)}"
    return {**kept, "PYTHONUNBUFFERED": "1", **own, "PATH": path}


class Steps:
    """Commands that prepare a start, side by side, each with its log."""

    def __init__(self, place: Place, environment: Mapping[str, str]) -> None:
        self.place = place
        self.environment = environment
        self.running: list[tuple[str, Path, subprocess.Popen[bytes]]] = []

    def start(self, what: str, log: str, *arguments: str) -> None:
        path = self.place.logs / log
        with path.open("wb") as output:
            popen = spawn([sys.executable, *arguments], output=output, cwd=ROOT, env=self.environment)
        self.running.append((what, path, popen))

    def finish(self) -> None:
        """Wait for all. Raises Refused with the last words of the first that failed."""
        for what, log, popen in self.running:
            code = popen.wait()
            lines = log.read_text(errors="replace").strip().splitlines()
            for line in lines:
                if line.startswith("The engine "):  # what seed says of ENGINE_URL
                    say(line)
            if code:
                if NO_ROOM in "\n".join(lines) or self.place.is_full:
                    raise Refused(self.place.full())
                last = lines[-1].strip() if lines else "it left no message"
                raise Refused(f"{what} did not succeed: {last} (the whole story is in {log}).")
        self.running.clear()

    def until(self, mark: Path) -> None:
        """Until one of them makes this file. Raises Refused as `finish` where the first of them ends without it."""
        while not mark.exists():
            if self.running[0][2].poll() is not None and not mark.exists():
                return self.finish()
            time.sleep(TICK_SECONDS / 4)
        return None

    def abandon(self) -> None:
        for _, _, popen in self.running:
            if popen.poll() is None:
                os.killpg(popen.pid, signal.SIGKILL)
                popen.wait()


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal raise Interrupted, once: what ends is not interrupted again."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        for name in taken:
            signal.signal(name, signal.SIG_IGN)
        if HELD.back:
            HELD.due = True
        else:
            raise Interrupted

    taken = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup make run &
        taken.append(signal.SIGHUP)
    for name in taken:
        signal.signal(name, interrupt)
    yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """A signal that comes within raises Interrupted at its end.

    Raised amid a look at a process it could leave that look's lock taken, and whoever waits for the process waits for ever.
    """
    HELD.back = True
    try:
        yield
    finally:
        HELD.back = False
        if HELD.due:
            HELD.due = False
            raise Interrupted


def run_interruptible(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` within `interruptible`: a signal cancels the work, and Interrupted is raised when it has ended.

    Raised amid the loop's own steps it would lose one of them, and the loop wait for ever for what was to follow.
    """
    before = {
        name: handler
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if callable(handler := signal.getsignal(name))
    }

    async def cancellable() -> T:
        task = asyncio.ensure_future(work)
        for name in before:
            asyncio.get_running_loop().add_signal_handler(name, task.cancel)
        return await task

    after: dict[signal.Signals, Any] = before
    try:
        return asyncio.run(cancellable())
    except asyncio.CancelledError:
        after = dict.fromkeys(before, signal.SIG_IGN)
        raise Interrupted from None
    finally:
        for name, handler in after.items():
            signal.signal(name, handler)


def installing(environment: Mapping[str, str]) -> float:
    """Seconds `make run` spent on packages before this process: it says when it began, in whole seconds."""
    began = environment.get("MAKE_BEGAN", "")
    spent = time.time() - int(began) if began.isdecimal() else 0.0
    return spent if spent >= INSTALLING_SECONDS else 0.0


class Run:
    def __init__(self, place: Place) -> None:
        self.place = place
        self.installing = installing(os.environ)
        self.began = time.monotonic()
        self.turn = Turn(place)
        self.servers: Servers | None = None
        self.steps: Steps | None = None
        self.supervisor: Supervisor | None = None
        self.marks: list[tuple[str, float]] = []

    def mark(self, what: str) -> None:
        self.marks.append((what, time.monotonic() - self.began))

    def main(self) -> int:
        self.place.prepare()
        self.turn.take(address=self.place.address)
        try:
            with interruptible():
                self.place.check_room()
                self.place.check_port()
                self.prepare()
                self.start()
                self.watch()
        except Interrupted:
            say("\nStopping …")
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise Refused(self.place.full()) from None
            raise
        except ServersFailed as failed:
            if NO_ROOM in str(failed):
                raise Refused(self.place.full()) from None
            raise
        finally:
            self.end()
        say("Stopped; nothing is left running. Its data stays in " + str(self.place.var))
        return 0

    def prepare(self) -> None:
        """Servers, then side by side what needs nothing but them; web once there are tables to ask, while they are filled."""
        (self.place.var / "static").mkdir(
            exist_ok=True
        )  # WhiteNoise looks there, though the demo serves from the sources
        say(f"Starting PostgreSQL and Valkey in {self.place.var} …")
        self.servers = Servers(self.place.var)
        own = environment_of(self.place, self.servers)
        environment = with_environment(own)
        self.servers.start()
        self.mark("servers")
        write_private(self.place.environment, json.dumps(own, indent=2))
        say("Preparing database, demo data and models …")
        self.steps = Steps(self.place, environment)
        migrated = self.place.var / "migrated"
        migrated.unlink(missing_ok=True)
        self.steps.start(
            "Preparing the database",
            "seed.log",
            "manage.py",
            "seed",
            "--migrate",
            "--quiet",
            "--migrated",
            str(migrated),
        )
        self.steps.start(
            "Making the models", "models.log", "-m", "apps.runner", "models", "--into", str(self.place.var / "models")
        )
        commands = read(ROOT / "Procfile", environment)
        self.supervisor = Supervisor(
            commands={
                name: [sys.executable if part == "python" else part for part in words]
                for name, words in commands.items()
            },
            environment=environment,
            directory=ROOT,
            logs=self.place.logs,
            record=self.place.processes,
            say=say,
            others={name: process.pid for name, process in self.servers.processes.items()},
        )
        self.steps.until(migrated)
        self.supervisor.start("web")
        self.steps.finish()
        self.mark("database and models")

    def start(self) -> None:
        """The rest: first what the first work needs, then what works behind."""
        assert self.supervisor is not None
        say("Starting web, runner, dispatcher, worker and beat …")
        self.supervisor.start("runner", "dispatcher")
        self.until_ready()
        self.mark("pages")

    def watch(self) -> None:
        """Send the first work, say how to sign in, and keep everything running."""
        assert self.supervisor is not None
        demo = json.loads(self.place.demo.read_text())
        results: list[first_work.Result] = []
        work = threading.Thread(target=lambda: results.extend(first_work.send(demo)), daemon=True)
        work.start()
        rest_at = time.monotonic() + FIRST_WORK_SECONDS
        while work.is_alive() and time.monotonic() < rest_at:
            self.tick()
        self.supervisor.start()
        while work.is_alive():
            self.tick()
        self.mark("first chat and embedding")
        seconds = self.installing + time.monotonic() - self.began
        say(first_work.welcome(demo, results, seconds=seconds, installing=self.installing))
        (self.place.logs / "start.json").write_text(json.dumps(self.marks))
        while True:
            self.tick()

    def until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        with httpx.Client(base_url=f"http://127.0.0.1:{self.place.port}", timeout=2) as client:
            while True:
                self.tick()
                try:
                    if (
                        client.get("/readyz", headers={"host": f"localhost:{self.place.port}"}).status_code
                        == httpx.codes.OK
                    ):
                        return
                except httpx.HTTPError:
                    pass
                self.check_start(deadline)

    def check_start(self, deadline: float) -> None:
        assert self.supervisor is not None
        web = self.supervisor.processes["web"]
        if web.ends >= 3 or time.monotonic() > deadline:
            if self.place.is_full:
                raise Refused(self.place.full())
            raise Refused(f"The portal's pages do not answer; the reason is in {self.place.logs}/web.log.")

    def tick(self) -> None:
        assert self.supervisor is not None
        assert self.servers is not None
        with undisturbed():
            revived = self.servers.revive()
            if revived:
                self.supervisor.others = {name: process.pid for name, process in self.servers.processes.items()}
                self.supervisor.write_record()
                for name in revived:
                    say(f"{name} ended and was started again. Its log: {self.place.logs}/{name}.log")
            self.supervisor.tick()
        time.sleep(TICK_SECONDS)

    def end(self) -> None:
        if self.steps is not None:
            self.steps.abandon()
        if self.supervisor is not None:
            self.supervisor.stop()
        if self.servers is not None:
            self.servers.stop()
        self.turn.give()
