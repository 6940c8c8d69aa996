"""Debian's RabbitMQ for the tests that need a real one: found, installed where this user may, or named as missing."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from cango_portal.launcher import debian
from cango_portal.launcher.processes import spawn

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the one in PATH wants to be root and becomes `rabbitmq`
START_SECONDS = 150


def find() -> str | None:
    return str(SERVER) if SERVER.exists() and shutil.which("epmd") else None


def main() -> int:
    """0 where the tests with RabbitMQ can run."""
    purpose = "the tests of rights in it"
    reason = "" if find() else debian.install("RabbitMQ", "rabbitmq-server", found=find, purpose=purpose)
    if reason:
        print(f"RabbitMQ (marker rabbitmq) was NOT tested: {reason}.", flush=True)
        return 1
    return 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RabbitMQ:
    """One with its data in `directory` and everything on ports of its own; it ends with `stop`, its port mapper too."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port, self.management_port, distribution, mapper = (free_port() for _ in range(4))
        (directory / "plugins").write_text("[rabbitmq_management].\n")
        (directory / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nmanagement.tcp.ip = 127.0.0.1\n"
            f"management.tcp.port = {self.management_port}\ncollect_statistics_interval = 5000\n"
        )
        self.environment = {
            "PATH": os.environ["PATH"], "HOME": str(directory), "LC_ALL": "C.UTF-8", "ERL_EPMD_PORT": str(mapper),
            "RABBITMQ_NODENAME": f"cango-{self.port}@localhost", "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"), "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"), "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null", "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
        }  # fmt: skip
        self.processes: list[subprocess.Popen[bytes]] = []
        self.log = directory / "out"
        with self.log.open("wb") as output:
            for command in (["epmd", "-port", str(mapper), "-address", "127.0.0.1"], [SERVER]):
                self.processes.append(spawn(command, output=output, cwd=directory, env=self.environment))

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    @property
    def management_url(self) -> str:
        return f"http://guest:guest@127.0.0.1:{self.management_port}"

    def wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not all(answers(port) for port in (self.port, self.management_port)):
            if self.processes[1].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"RabbitMQ did not start: {self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.2)

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
