"""Bytes on their way out of a file, a piece or a line at a time."""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

from django.core.files.storage import default_storage

CHUNK = 256 * 1024
LONGEST_LINE = 8 * 1024 * 1024


class Line(NamedTuple):
    """One line without its ending. `offset` is where it begins in the file, in bytes.

    `cut`: it is longer than was asked for, and `content` is only its beginning.
    """

    number: int
    offset: int
    content: bytes
    cut: bool = False


class Lines:
    """The lines of an open file, once. A last line needs no newline; an empty file has none.

    `bom`: the file begins with a byte order mark, which no line has. `crlf`: lines so far ended in CR LF.
    """

    def __init__(self, file: IO[Any], *, start: int, number: int, longest: int) -> None:
        self.file = file
        self.number = number
        self.longest = longest
        self.crlf = False
        self.rest = b""
        file.seek(start)
        self.offset = start
        self.bom = False
        if start == 0:
            self.rest = file.read(len(codecs.BOM_UTF8))
            if self.rest == codecs.BOM_UTF8:
                self.bom, self.rest, self.offset = True, b"", len(codecs.BOM_UTF8)

    def __iter__(self) -> Iterator[Line]:
        pending, length = bytearray(), 0  # `length`: of the line so far, with what was cut off

        def line(ending: int) -> Line:
            nonlocal pending, length
            content = bytes(pending)
            if ending and length == len(content) and content.endswith(b"\r"):
                self.crlf, content = True, content[:-1]
            made = Line(self.number, self.offset, content[: self.longest], len(content) > self.longest)
            self.number += 1
            self.offset += length + ending
            pending, length = bytearray(), 0
            return made

        def take(piece: bytes) -> None:
            nonlocal length
            length += len(piece)
            pending.extend(piece[: self.longest + 1 - len(pending)])  # one more than is asked for: a CR, or too long

        while chunk := self.rest or self.file.read(CHUNK):
            self.rest = b""
            pieces = chunk.split(b"\n")
            for piece in pieces[:-1]:
                take(piece)
                yield line(1)
            take(pieces[-1])
        if length:
            yield line(0)


@contextmanager
def open_lines(path: str, *, start: int = 0, number: int = 1, longest: int = LONGEST_LINE) -> Iterator[Lines]:
    """Read a stored file (`file.path`) line by line; from the offset of line `number`, where one is known.

    Raises FileNotFoundError, and Unreadable at any line.

    >>> with files.open_lines(file.path) as lines:
    ...     for line in lines:
    ...         check(line.content)
    """
    with default_storage.open(path) as opened:
        yield Lines(opened, start=start, number=number, longest=longest)


async def parts(path: str) -> AsyncGenerator[bytes]:
    """The bytes of a stored file, each piece read in a thread. Raises FileNotFoundError, Unreadable."""
    opened = await asyncio.to_thread(default_storage.open, path)
    try:
        while part := await asyncio.to_thread(opened.read, CHUNK):
            yield part
    finally:
        await asyncio.to_thread(opened.close)
