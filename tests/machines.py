"""Machines of a site on this one: each with a directory, an identity of its own and a real runner process, before the portal's
own application and dispatcher, which run in this process."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from django.db import connection

from apps.accounts.models import User
from apps.dispatch.dispatcher import Dispatcher
from apps.runner import identity
from apps.sites import enrolment
from apps.sites.models import Node
from tests.started import ROOT

START_SECONDS = 60.0


@contextlib.contextmanager
def dispatching() -> Iterator[None]:
    """The dispatcher, in a thread."""
    made = Dispatcher()

    def run() -> None:
        try:
            made.run()
        finally:
            if made.listener is not None:
                made.listener.close()
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        made.stopping = True
        thread.join(20)


def until(happened: Callable[[], Any], *, seconds: float = START_SECONDS, story: Callable[[], str] = str) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, f"it did not happen within {seconds} s\n{story()}"
        time.sleep(0.05)
    return found


class Machine:
    """One machine. What it sends to the portal by itself beside its runner proves its own key, as the runner does."""

    def __init__(self, directory: Path, *, portal: str, node: Node) -> None:
        directory.mkdir(mode=0o700)
        self.directory = directory
        self.portal = portal
        self.node = node
        self.log = directory / "runner.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def key(self) -> Path:
        return self.directory / "identity.json"

    def cango_runner(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "apps.runner", *arguments]

    def enroll(self, *, by: User) -> None:
        """With `cango-runner enroll` and a one-time token."""
        token = enrolment.issue(node=self.node, actor=by, reason="A new machine", now=datetime.now(UTC))
        command = self.cango_runner("enroll", "--portal", self.portal, "--token", token, "--into", str(self.key))
        done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        self.node.refresh_from_db()

    def start(self, *pools: dict[str, Any], **top: Any) -> None:
        """Addresses of Redis and the broker are those that the portal gives this node."""
        given = {
            "portal_url": self.portal,
            "identity": str(self.key),
            "spool": str(self.directory / "spool"),
            **top,
        }
        lines = [f"{name} = {json.dumps(value)}" for name, value in given.items()]
        for pool in pools:
            lines += ["", "[[pools]]", *(f"{name} = {json.dumps(value)}" for name, value in pool.items())]
        path = self.directory / "runner.toml"
        path.write_text("\n".join(lines) + "\n")
        with self.log.open("ab") as log:
            command = self.cango_runner("run", "--config", str(path))
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=log, stderr=log)

    def wait_ready(self) -> None:
        until(lambda: not self.node.pools.filter(ready=False).exists(), story=self.story)

    def story(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else "nothing was started"

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(40)

    def rights(self) -> identity.Identity:
        """Token, user and password that the portal gives for this machine's key, as its runner has them."""

        async def ask() -> identity.Identity:
            mine = identity.load(self.key)
            async with httpx.AsyncClient(trust_env=False) as client:
                assert await mine.bearer(client, self.portal), mine.refused
            return mine

        return asyncio.run(ask())


def environment() -> dict[str, str]:
    """As at a site, where no server of the portal's is known."""
    return {name: value for name, value in os.environ.items() if not name.endswith("_URL")}
