"""Bytes on their way into a file: gathered on disk, stored whole, or gone without a trace.

Everything here holds at most BUFFER bytes of a file in memory. `Draft` knows no database; `Writer` is for tasks and pages,
`AsyncWriter` for the doors, with each blocking step in a thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import PurePath
from threading import Lock
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.files.base import File as Content
from django.core.files.storage import default_storage

from apps.core.errors import Unavailable
from apps.core.ids import uuid7
from apps.core.sql import Row
from apps.files import discarding, statements
from apps.files.models import File
from cango_portal import database

log = logging.getLogger(__name__)

BUFFER = 256 * 1024
NAME_LENGTH = 200
TYPE_LENGTH = 100
JSONL = "application/jsonl"
BY_DEFAULT = -1  # as long as files of this purpose are kept


def readable(name: str) -> str:
    """The last part of a name, without control characters."""
    printable = "".join(character for character in PurePath(name).name if character.isprintable())
    return printable[-NAME_LENGTH:] or "file"


def lifetime_seconds(purpose: str) -> int | None:
    """How long a file of this purpose is kept where nobody says so; None: until it is deleted."""
    if purpose == File.Purpose.INPUT:
        return settings.FILE_RETENTION_SECONDS
    if purpose in {File.Purpose.BATCH, File.Purpose.BATCH_OUTPUT}:
        return settings.BATCH_FILE_RETENTION_SECONDS
    return None


class Draft:
    """A file without a name in the file system, so that nothing is left of it, however the process ends."""

    def __init__(
        self, *, organization_id: UUID, name: str, purpose: str, content_type: str, expires_after_seconds: int | None
    ) -> None:
        self.id = uuid7()
        self.organization_id = organization_id
        self.describe(
            name=name, purpose=purpose, content_type=content_type, expires_after_seconds=expires_after_seconds
        )
        self.size_bytes = 0
        self.digest = hashlib.sha256()
        self.buffer = bytearray()
        settings.UPLOADS.mkdir(parents=True, exist_ok=True)
        self.using = Lock()  # a door that is cut off leaves its thread behind, which still writes here
        self.file = tempfile.TemporaryFile(dir=settings.UPLOADS, buffering=0)  # noqa: SIM115  # closed by `close`

    def describe(self, *, name: str, purpose: str, content_type: str, expires_after_seconds: int | None) -> None:
        self.name = readable(name)
        self.purpose = purpose
        self.content_type = content_type[:TYPE_LENGTH]
        by_default = expires_after_seconds == BY_DEFAULT
        self.seconds = lifetime_seconds(purpose) if by_default else expires_after_seconds

    def add(self, part: bytes) -> bool:
        """Take bytes; True: call `flush`."""
        self.size_bytes += len(part)
        self.buffer += part
        return len(self.buffer) >= BUFFER

    def flush(self) -> None:
        with self.using, reached():
            self.digest.update(self.buffer)
            view = memoryview(self.buffer)
            while view:
                view = view[self.file.write(view) :]
            self.buffer = bytearray()

    def row(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "purpose": self.purpose,
            "name": self.name,
            "content_type": self.content_type,
            "size": self.size_bytes,
            "sha256": self.digest.hexdigest(),
            "path": self.path,
        }

    def store(self) -> str:
        """Put the bytes where they stay. Returns their path."""
        with self.using, reached():
            self.file.seek(0)
            return default_storage.save(self.path, Content(self.file))

    def close(self) -> None:
        with self.using:
            self.file.close()

    @property
    def path(self) -> str:
        return f"{self.organization_id}/{self.id}"

    @property
    def limit_bytes(self) -> int | None:
        return None if self.purpose == File.Purpose.BATCH_OUTPUT else settings.ORGANIZATION_STORAGE_BYTES


@contextmanager
def reached() -> Iterator[None]:
    """What a disk or a store may answer, as the one refusal a customer can act on. Raises Unavailable."""
    try:
        yield
    except Exception as error:
        log.exception("a file cannot be stored")
        raise Unavailable(
            "The portal cannot store files just now. Nothing was kept; try again in a moment.", retry_after_seconds=5
        ) from error


def kept(row: Row | None) -> File:
    if row is None:
        raise Unavailable("The file could not be stored in time. Nothing was kept; send it again.")
    return File(**row)


class Writer:
    """Writes one file; `commit` keeps it, and leaving without it keeps nothing."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.path = draft.path

    @property
    def size_bytes(self) -> int:
        return self.draft.size_bytes

    def write(self, part: bytes) -> None:
        if self.draft.add(part):
            self.draft.flush()

    def commit(self) -> File:
        """Keep what was written. Call it outside of a transaction: it needs two of its own.

        Raises StorageFull, but never for a `batch_output`, and Unavailable where the store is away; then nothing is kept.
        """
        self.store()
        return self.show()

    def store(self) -> None:
        """The first half of `commit`: the bytes are where they stay, and nobody sees them."""
        draft = self.draft
        draft.flush()
        database.run(statements.admit(draft.organization_id, limit_bytes=draft.limit_bytes, file=draft.row()))
        try:
            self.path = draft.store()
        except Unavailable:
            with suppress(Exception):  # else the sweep removes both
                self.withdraw()
            raise

    def show(self) -> File:
        """The second half, for a transaction of the caller's: from its commit on there is the file. Raises Unavailable."""
        return kept(database.run(statements.keep(self.draft.id, path=self.path, seconds=self.draft.seconds)))

    def withdraw(self) -> None:
        """Instead of `show`: keep nothing. Safe to repeat."""
        discarding.discard(self.draft.id, self.path)


class AsyncWriter:
    """`Writer` for an event loop."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft

    @property
    def size_bytes(self) -> int:
        return self.draft.size_bytes

    def describe(self, *, name: str, purpose: str, content_type: str, expires_after_seconds: int | None) -> None:
        """What the file is, where that arrived after its bytes: before `commit`."""
        self.draft.describe(
            name=name, purpose=purpose, content_type=content_type, expires_after_seconds=expires_after_seconds
        )

    async def write(self, part: bytes) -> None:
        if self.draft.add(part):
            await asyncio.to_thread(self.draft.flush)

    async def commit(self) -> File:
        draft = self.draft
        await asyncio.to_thread(draft.flush)
        await database.run_async(
            statements.admit(draft.organization_id, limit_bytes=draft.limit_bytes, file=draft.row())
        )
        try:
            path = await asyncio.to_thread(draft.store)
        except Unavailable:  # a cancelled store may still be at work: then the sweep removes both
            with suppress(Exception):
                await discarding.discard_async(draft.id, draft.path)
            raise
        return kept(await database.run_async(statements.keep(draft.id, path=path, seconds=draft.seconds)))


@contextmanager
def writer(
    *,
    organization_id: UUID,
    name: str,
    purpose: str,
    content_type: str = JSONL,
    expires_after_seconds: int | None = BY_DEFAULT,
) -> Iterator[Writer]:
    """A new file, written piece by piece.

    >>> with files.writer(organization_id=…, name="batch_output.jsonl", purpose=File.Purpose.BATCH_OUTPUT) as out:
    ...     for row in rows:
    ...         out.write(row)
    ...     file = out.commit()
    """
    draft = Draft(
        organization_id=organization_id,
        name=name,
        purpose=purpose,
        content_type=content_type,
        expires_after_seconds=expires_after_seconds,
    )
    try:
        yield Writer(draft)
    finally:
        draft.close()


@asynccontextmanager
async def writer_async(
    *,
    organization_id: UUID,
    name: str,
    purpose: str,
    content_type: str = JSONL,
    expires_after_seconds: int | None = BY_DEFAULT,
) -> AsyncIterator[AsyncWriter]:
    draft = await asyncio.to_thread(
        Draft,
        organization_id=organization_id,
        name=name,
        purpose=purpose,
        content_type=content_type,
        expires_after_seconds=expires_after_seconds,
    )
    try:
        yield AsyncWriter(draft)
    finally:
        await asyncio.shield(asyncio.to_thread(draft.close))
