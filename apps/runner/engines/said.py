"""What an engine says on its standard output and error: the last of it on disk, never more than a bound."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

LOG_BYTES = 4 * 1024 * 1024  # of one engine, in two files
LINE_CHARACTERS = 200
COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class Said:
    """`path` and, from before it was full, `path`.1, for their owner. A disk that is full costs the log and nothing else."""

    def __init__(self, path: Path, *, most: int = LOG_BYTES) -> None:
        self.path = path
        self.most = most
        self.rest = b""
        self.last = ""  # the last line that says something

    def write(self, said: bytes) -> None:
        *lines, self.rest = (self.rest + said).split(b"\n")
        self.rest = self.rest[-4096:]
        for line in reversed(lines):
            if text := COLOURS.sub("", line.decode(errors="replace")).strip():
                self.last = text[:LINE_CHARACTERS]
                break
        with contextlib.suppress(OSError):
            if self.path.exists() and self.path.stat().st_size + len(said) > self.most // 2:
                self.path.replace(self.path.with_name(f"{self.path.name}.1"))
            self.path.parent.mkdir(mode=0o700, exist_ok=True)
            with os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as out:
                out.write(said[-self.most // 2 :])
