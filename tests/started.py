"""The whole portal, as `make run` starts it, for tests that are about more than one process.

    def test_something(portal):                    # one portal for the session; leave it running and healthy
        portal.base_url                            # http://localhost:<free port>
        portal.demo["api_key"]                     # var/demo.json, parsed
        portal.var                                 # its PORTAL_VAR (a Path): log/<name>.log, mail/, …
        portal.pids()                              # {"web": 1, "worker": 2, "beat": 3, "dispatcher": 4, "runner": 5,
                                                   #  "postgres": 6, "valkey": 7}, as they are now
        portal.kill("web")                         # kill -9; returns the pid that is gone
        portal.wait_restarted("web", pid)          # until the supervisor has another one; waits for /readyz too
        portal.client()                            # httpx.Client with the demo key
        portal.sql("SELECT … WHERE id = %s", id)   # rows as dicts, from the portal's own database
        portal.valkey()                            # redis.Redis on the portal's Valkey
        portal.printed                             # what the person at the terminal has seen so far
        portal.wait_until(lambda: …, seconds=20)   # poll; fails the test when it stays false


Every test of `tests/whole` and `tests/compat` is marked `whole` and may take 180 s. With WHOLE_REQUIRED=1 (`make test`) a skipped one fails the run.
"""

import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import redis
from psycopg.rows import dict_row
from xdist.scheduler import LoadScopeScheduling

from cango_portal.launcher.processes import spawn
from cango_portal.launcher.servers import remove
from tests.engine import Running, running

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 240  # on a machine that is busy with other things
FOREIGN = (
    "DATABASE_URL",
    "REDIS_URL",
    "PORTAL_VAR",
    "EMAIL_BACKEND",
    "LOG_LEVEL",
    "ENGINE_URL",
    "DEMO",
    "PORT",
    "BASE_URL",
    "STRIPE_SECRET_KEY",
    "STRIPE_WEBHOOK_SECRETS",
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Portal:
    def __init__(self, var: Path, **environment: str) -> None:
        self.var = var
        self.port = free_port()
        self.base_url = f"http://localhost:{self.port}"
        self.output = var.with_name(f"{var.name}.out")
        kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
        self.environment = {**kept, "PORTAL_VAR": str(var), "PORT": str(self.port), **environment}
        with self.output.open("wb") as output:
            self.launcher = spawn(
                [sys.executable, "-m", "cango_portal.launcher", "run"],
                output=output,
                parent_signal=signal.SIGTERM,
                cwd=ROOT,
                env=self.environment,
            )

    @property
    def printed(self) -> str:
        return self.output.read_text(errors="replace")

    @property
    def demo(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.var / "demo.json").read_text())
        return found

    def wait_ready(self) -> None:
        self.wait_until(
            lambda: "is ready at" in self.printed or self.launcher.poll() is not None, seconds=START_SECONDS
        )
        assert self.launcher.poll() is None, self.story()

    def story(self) -> str:
        """What was printed and the end of each log, for a failed start."""
        logs = sorted((self.var / "log").glob("*.log"))
        tails = [f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in logs]
        return "\n".join([self.printed, *tails])

    def steps(self) -> str:
        """The newest steps of jobs, for a test that failed."""
        rows = self.sql(
            "SELECT e.at, e.job_id, e.number, e.state, e.attempt, e.reason, j.state AS now, j.claimant, j.lease_expires_at "
            "FROM jobs_event e JOIN jobs_job j ON j.id = e.job_id ORDER BY e.at DESC LIMIT 20"
        )
        return "\n".join(" ".join(str(value) for value in row.values()) for row in rows)

    def pids(self) -> dict[str, int]:
        found: dict[str, int] = json.loads((self.var / "processes.json").read_text())
        return found

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        pid = self.pids()[name]
        os.kill(pid, number)
        return pid

    def wait_restarted(self, name: str, gone: int, *, seconds: float = 30) -> int:
        self.wait_until(lambda: self.pids().get(name, gone) != gone, seconds=seconds)
        self.wait_until(self.healthy, seconds=seconds)
        return self.pids()[name]

    def healthy(self) -> bool:
        try:
            return httpx.get(f"{self.base_url}/readyz", timeout=2).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def client(self, **options: Any) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.demo['api_key']}"}
        return httpx.Client(base_url=self.base_url, headers=headers, timeout=60, **options)

    def sql(self, statement: str, *params: Any) -> list[dict[str, Any]]:
        url = json.loads((self.var / "environment.json").read_text())["DATABASE_URL"]
        with psycopg.connect(url, row_factory=dict_row) as connection:
            cursor = connection.execute(statement, params)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def valkey(self) -> redis.Redis:
        return redis.Redis.from_url(f"unix://{self.var}/valkey.sock", decode_responses=True)

    def wait_until(self, happened: Callable[[], Any], *, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < deadline, f"it did not happen within {seconds} s\n{self.story()}"
            time.sleep(0.05)

    def stop(self) -> int:
        """Ctrl-C, as a person would; the exit status."""
        if self.launcher.poll() is None:
            self.launcher.send_signal(signal.SIGINT)
        return self.launcher.wait(60)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What the portal said and did goes with a failure: its directory is gone afterwards."""
    report = yield
    portal = getattr(item, "funcargs", {}).get("portal")
    if report.failed and isinstance(portal, Portal):
        try:
            steps = portal.steps()
        except (OSError, psycopg.Error) as error:
            steps = repr(error)
        report.sections.append(("steps of jobs, newest first", steps))
        report.sections.append(("the portal", portal.story()))
    return report


@pytest.fixture(scope="session")
def engine() -> Iterator[Running]:
    """An engine of the user's own beside the embedded ones, whose pace a test sets: model `engine/mock-chat`."""
    with running() as made:
        yield made


@pytest.fixture(scope="session")
def portal(engine: Running) -> Iterator[Portal]:
    var = Path(tempfile.mkdtemp(prefix="cango-whole-", dir="/tmp"))
    var.chmod(0o711)
    made = Portal(var, ENGINE_URL=engine.url)
    try:
        made.wait_ready()
        yield made
    finally:
        made.stop()
        made.output.unlink()
        remove(var)


class ByPortal(LoadScopeScheduling):
    """`--dist loadgroup`: what shares a portal runs in one process, any other test wherever there is room.

    By folders, for xdist 3.8 writes its groups into ids that pytest 9.2 computes anew.
    """

    def _split_scope(self, nodeid: str) -> str:
        top = nodeid.split("/")[1]
        if top == "whole":
            return top if "(portal" in (ROOT / nodeid.split("::", maxsplit=1)[0]).read_text() else nodeid
        return "pages and clients" if top in {"browser", "compat"} else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    return ByPortal(config, log) if config.getvalue("dist") == "loadgroup" else None


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A main path that was skipped is not a passed one."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("WHOLE_REQUIRED") != "1" or reporter is None:
        return
    skipped = [report.nodeid for report in reporter.stats.get("skipped", []) if "whole" in report.keywords]
    if skipped and session.exitstatus == pytest.ExitCode.OK:
        reporter.write_line(f"Main paths were skipped, so this is no success: {', '.join(skipped)}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
