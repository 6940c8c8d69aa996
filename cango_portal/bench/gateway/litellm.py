"""LiteLLM's proxy, pinned by `litellm.lock` in an environment of its own, before the same engine.

With a virtual key and a budget in PostgreSQL where its database client can be had: prisma fetches its engines from
outside when it is first used. Else with the master key, which checks and counts nothing. `mode` says which.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from cango_portal.bench.gateway.engine import INSTANT, PACED
from cango_portal.bench.gateway.portal import answers, free_port, process, wait_until
from cango_portal.launcher.servers import Servers

LOCK = Path(__file__).with_name("litellm.lock")
READY_SECONDS = 180  # it imports for long
PRISMA_SECONDS = 120
MASTER_KEY = "sk-bench"
MODES = {True: "virtual key with a budget in PostgreSQL", False: "master key"}


class NotInstalled(Exception):
    """LiteLLM cannot be had here; the message says why."""


def installed(directory: Path) -> Path:
    """Its environment, made once for a lock. Raises NotInstalled."""
    environment = directory / f"litellm-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]}"
    mark = environment / ".complete"
    if mark.exists():
        return environment
    uv = Path(sys.executable).with_name("uv")
    python = environment / "bin" / "python"
    sys.stdout.write(f"Installing LiteLLM into {environment} …\n")
    sys.stdout.flush()
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, environment],
        [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python, "--require-hashes", "-r", LOCK],
    ):
        try:
            done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        except OSError as error:
            raise NotInstalled(f"uv cannot be run: {error.strerror}") from error
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or ["no message"]
            raise NotInstalled(last[0].strip())
    mark.touch()
    return environment


class LiteLLM:
    def __init__(self, environment: Path, servers: Servers, engine_url: str) -> None:
        self.python = environment / "bin"
        self.servers = servers
        self.engine_url = engine_url
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.key = MASTER_KEY
        self.pid = 0
        self.virtual = self.has_database()

    @property
    def mode(self) -> str:
        return MODES[self.virtual]

    @property
    def environment(self) -> dict[str, str]:
        # A secret of its own, no calls home; what it would fetch at its start is in the package as well.
        own = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_SALT_KEY": "sk-salt"}
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("DJANGO", "DATABASE", "REDIS"))
        }
        return {**kept, **own, "PATH": f"{self.python}:{os.environ.get('PATH', os.defpath)}"}

    @property
    def database_url(self) -> str:
        return self.servers.database_url.replace("/portal?", "/litellm?").replace("@/", "@localhost/")

    def has_database(self) -> bool:
        """Whether prisma's client can be made here."""
        schema = next(self.python.parent.glob("lib/*/site-packages/litellm/proxy/schema.prisma"), None)
        try:
            done = subprocess.run(
                [self.python / "prisma", "generate", "--schema", str(schema)],
                env={**self.environment, "DATABASE_URL": self.database_url},
                capture_output=True,
                timeout=PRISMA_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return not done.returncode

    @contextmanager
    def running(self) -> Iterator[LiteLLM]:
        directory = self.servers.directory
        configuration = {
            "model_list": [
                {
                    "model_name": name,
                    "litellm_params": {"model": f"openai/{name}", "api_base": self.engine_url, "api_key": "none"},
                }
                for name in (INSTANT, PACED)
            ],
            "general_settings": {
                "master_key": MASTER_KEY,
                **({"database_url": self.database_url} if self.virtual else {}),
            },
            "litellm_settings": {"telemetry": False},
        }
        path = directory / "litellm.yaml"
        path.write_text(json.dumps(configuration))  # JSON is YAML too
        if self.virtual:
            self.create_database()
        arguments = ["--config", str(path), "--host", "127.0.0.1", "--port", str(self.port), "--num_workers", "1"]
        with process(
            "litellm", [str(self.python / "litellm"), *arguments], directory=directory, environment=self.environment
        ) as popen:
            log = directory / "log" / "litellm.log"
            wait_until(lambda: answers(f"{self.url}/health/liveliness"), popen, log, seconds=READY_SECONDS)
            self.pid = popen.pid
            if self.virtual:
                self.key = self.virtual_key()
            yield self

    def create_database(self) -> None:
        import psycopg

        with psycopg.connect(self.servers.database_url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE litellm")

    def virtual_key(self) -> str:
        answer = httpx.post(
            f"{self.url}/key/generate",
            json={"models": [INSTANT, PACED], "max_budget": 1_000_000},
            headers={"authorization": f"Bearer {MASTER_KEY}"},
            timeout=30,
        ).raise_for_status()
        key: str = answer.json()["key"]
        return key
