"""The portal as it runs in production, in processes of its own: servers, web, dispatcher, a runner before the engine."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from cango_portal.bench.gateway.rows import SLOTS
from cango_portal.launcher.place import ROOT
from cango_portal.launcher.processes import read, spawn
from cango_portal.launcher.servers import Servers

READY_SECONDS = 60
ROWS = Path(__file__).with_name("rows.py")


class NotReady(Exception):
    """A process of the bench did not come up; the message names its log."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def process(
    name: str, arguments: list[str], *, directory: Path, environment: Mapping[str, str], cwd: Path = ROOT
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the end of the block. Its log is `<directory>/log/<name>.log`."""
    logs = directory / "log"
    logs.mkdir(exist_ok=True)
    with (logs / f"{name}.log").open("wb") as output:
        popen = spawn(arguments, output=output, cwd=cwd, env=environment)
    try:
        yield popen
    finally:
        popen.terminate()
        try:
            popen.wait(15)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()


def wait_until(ready: Callable[[], bool], popen: subprocess.Popen[bytes], log: Path, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if popen.poll() is not None or time.monotonic() > deadline:
            last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["it left no message"]
            raise NotReady(f"{log.stem} did not come up: {last[0][:300]} (the whole story is in {log}).")
        time.sleep(0.05)


def answers(url: str, **headers: str) -> bool:
    try:
        return httpx.get(url, headers=headers, timeout=2).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


class Portal:
    """The portal of a tree: this one, or another checkout to compare with. `key` is a customer's, with budgets.

    Worker and beat are left out: they have no part in a request.
    """

    PROCESSES: tuple[str, ...] = ("web", "dispatcher", "runner")

    def __init__(self, servers: Servers, engine_url: str, tree: Path = ROOT) -> None:
        self.directory = servers.directory
        self.servers = servers
        self.engine_url = engine_url
        self.tree = tree
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.key = ""
        self.models: dict[str, str] = {}  # by the engine's name for it
        self.pids: dict[str, int] = {}
        foreign = ("BASE_URL", "CELERY_BROKER_URL", "STRIPE_SECRET_KEY", "ENGINE_URL", "DEMO")
        self.environment = {name: value for name, value in os.environ.items() if name not in foreign} | {
            **servers.environment,
            "DJANGO_SETTINGS_MODULE": "cango_portal.settings",
            "PAYG_MAX_OPEN_JOBS": "5000",
            # Counted as for any customer, and never reached.
            **dict.fromkeys(
                (
                    "RATE_REQUESTS_PER_MINUTE",
                    "RATE_INPUT_TOKENS_PER_MINUTE",
                    "RATE_OUTPUT_TOKENS_PER_MINUTE",
                    "RATE_CONCURRENT_REQUESTS",
                ),
                "1000000000",
            ),
            "PORTAL_VAR": str(self.directory),
            "PORT": str(self.port),
            "PYTHONPATH": str(tree),
            "LOG_LEVEL": "WARNING",
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        }

    def rows(self, *arguments: str) -> Any:
        command = [sys.executable, "-P", str(ROWS), *arguments]
        done = subprocess.run(command, env=self.environment, cwd=self.tree, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotReady(f"The rows of the bench cannot be written: {done.stderr.strip().splitlines()[-1]}")
        return json.loads(done.stdout)

    def prepare(self) -> None:
        """Tables and rows, and the runner's configuration."""
        token = secrets.token_urlsafe(32)
        made = self.rows("write", token)
        self.key, self.models = made["key"], made["models"]
        self.configure(token, made["pools"], slots=SLOTS, kinds={})

    def configure(self, token: str, pools: Mapping[str, str], *, slots: int, kinds: Mapping[str, str]) -> None:
        """The runner's. `pools` maps codes to the engine's names, `kinds` those that are no chat."""
        lines = [
            f'portal_url = "{self.url}"',
            f'redis_url = "{self.servers.redis_url}"',
            f'broker_url = "{self.servers.redis_url}"',
            f'node_token = "{token}"',
            'spool = "spool"',
        ]
        for code, engine_name in pools.items():
            lines += [
                "[[pools]]",
                f'code = "{code}"\nkind = "{kinds.get(engine_name, "chat")}"\nslots = {slots}\nengine = "url"',
                f'model = "{engine_name}"\nurl = "{self.engine_url}"',
            ]
        (self.directory / "runner.toml").write_text("\n".join(lines) + "\n")

    def books(self) -> dict[str, Any]:
        """After the last round: what the ledger's audit finds, and how the jobs ended."""
        found: dict[str, Any] = self.rows("books")
        return found

    def database_connections(self) -> int:
        """Connections to PostgreSQL that are open now, but ours."""
        import psycopg

        with psycopg.connect(self.servers.database_url) as connection:
            cursor = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return int((cursor.fetchone() or [0])[0])

    @contextmanager
    def running(self) -> Iterator[Portal]:
        """As the Procfile starts it."""
        commands = read(self.tree / "Procfile", self.environment)
        with ExitStack() as stack:
            for name in self.PROCESSES:
                popen = stack.enter_context(
                    process(
                        name,
                        [sys.executable if part == "python" else part for part in commands[name]],
                        directory=self.directory,
                        environment=self.environment,
                        cwd=self.tree,
                    )
                )
                self.pids[name] = popen.pid
                if name == "web":
                    log = self.directory / "log" / "web.log"
                    wait_until(lambda: answers(f"{self.url}/healthz"), popen, log, seconds=READY_SECONDS)
            self.pids |= {name: server.pid for name, server in self.servers.processes.items()}
            self.until_placed()
            yield self

    def until_placed(self) -> None:
        """One request of each model, asked again until the runner's pools are ready."""
        deadline = time.monotonic() + READY_SECONDS
        for model in self.models.values():
            body = {"model": model, "messages": [{"role": "user", "content": "Are you there?"}]}
            while True:
                answer = httpx.post(
                    f"{self.url}/v1/chat/completions",
                    json=body,
                    headers={"authorization": f"Bearer {self.key}"},
                    timeout=30,
                )
                if answer.status_code == httpx.codes.OK:
                    break
                if time.monotonic() > deadline:
                    raise NotReady(f"The portal answers {answer.status_code}: {answer.text[:300]}")
                time.sleep(0.2)
