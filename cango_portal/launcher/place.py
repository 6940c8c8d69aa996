"""The one directory and port of a portal on this machine, and what must be true of them before anything starts."""

import errno
import fcntl
import json
import os
import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).resolve().parents[2]
SOCKET_PATH_BYTES = 107 if sys.platform == "linux" else 103  # sun_path of unix(7), without its last NUL
ROOM_BYTES = 500 * 1024 * 1024
EMPTY_BYTES = 64 * 1024 * 1024  # less than this free: what failed, failed for want of room


class Refused(Exception):
    """The command cannot go on. The message is one sentence for the person at the terminal."""


@dataclass(frozen=True)
class Place:
    """`var` holds all that a portal on this machine keeps; `port` is where its pages are."""

    var: Path
    port: int

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Place":
        port = environment.get("PORT") or "8000"
        if not port.isdecimal() or not 0 < int(port) < 65536:
            raise Refused(f"PORT is {port!r}; it must be a number from 1 to 65535.")
        return cls(Path(environment.get("PORTAL_VAR") or ROOT / "var").expanduser().resolve(), int(port))

    @property
    def address(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def demo(self) -> Path:
        return self.var / "demo.json"

    @property
    def processes(self) -> Path:
        return self.var / "processes.json"

    @property
    def environment(self) -> Path:
        return self.var / "environment.json"

    @property
    def logs(self) -> Path:
        return self.var / "log"

    def prepare(self) -> None:
        """Make the directory. Raises Refused where it cannot hold a portal."""
        if len(os.fsencode(self.var / "valkey.sock")) > SOCKET_PATH_BYTES:
            raise Refused(
                f"The path {self.var} is too long for a socket ({SOCKET_PATH_BYTES} bytes). Set PORTAL_VAR to a shorter one."
            )
        try:
            self.var.mkdir(parents=True, exist_ok=True)
            self.logs.mkdir(exist_ok=True)
            probe = self.var / f".probe-{os.getpid()}"
            probe.write_bytes(b"x")
            probe.unlink()
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise Refused(self.full()) from None
            raise Refused(
                f"{self.var} cannot be written by this user ({error.strerror}). Set PORTAL_VAR to a directory that can."
            ) from None

    def full(self) -> str:
        return f"The disk that holds {self.var} is full. Free at least 500 MB, or set PORTAL_VAR to another disk."

    @property
    def is_full(self) -> bool:
        return shutil.disk_usage(self.var).free < EMPTY_BYTES

    def check_room(self) -> None:
        free = shutil.disk_usage(self.var).free
        if free < ROOM_BYTES:
            raise Refused(
                f"Only {free // 2**20} MB are free on the disk that holds {self.var}; the demo needs 500 MB. "
                "Free some, or set PORTAL_VAR to another disk."
            )

    def check_port(self) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError as error:
                if error.errno == errno.EACCES:
                    raise Refused(
                        f"Port {self.port} is not open to this user. Use one above 1023: make run PORT=8001"
                    ) from None
                raise Refused(
                    f"Port {self.port} is taken by another program. Use another one: make run PORT=8001"
                ) from None

    def secret_key(self) -> Path:
        """The file with this portal's own secret key, made once."""
        path = self.var / "secret_key"
        if not path.exists() or not path.read_text().strip():
            write_private(path, os.urandom(32).hex())
        return path


class Turn:
    """The right to run servers in a directory: a lock that ends with the process, however it ends."""

    def __init__(self, place: Place) -> None:
        self.path = place.var / "run.lock"
        self.file: TextIO | None = None

    def take(self, **about: Any) -> None:
        """Raises Refused with what holds it. `about` is written into the file for others to read."""
        file = self.path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise Refused(self.held()) from None
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), **about}))
        file.flush()
        self.file = file

    def holder(self) -> dict[str, Any] | None:
        """What the process that holds it wrote, or None where nobody does."""
        if not self.path.exists():
            return None
        with self.path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                file.seek(0)
                try:
                    found: dict[str, Any] = json.loads(file.read() or "{}")
                except ValueError:
                    found = {}
                return found
        return None

    def held(self) -> str:
        holder = self.holder() or {}
        if "address" in holder:
            return (
                f"A portal runs here already, at {holder['address']} (process {holder['pid']}). "
                "Use that one, end it with make stop, or set PORT and PORTAL_VAR for a second one."
            )
        return f"Another command is using {self.path.parent} just now (process {holder.get('pid', 'unknown')}). Wait for it to end."

    def give(self) -> None:
        if self.file is not None:
            self.file.truncate(0)
            self.file.close()
            self.file = None


def write_private(path: Path, text: str) -> None:
    """Replace a file whole, readable by its owner alone."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    part.replace(path)
