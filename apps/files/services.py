"""Take files in, hand them to runners by signed path, and let them go.

`writer`, `open_lines`, `begin_reading` and `end_reading` are what batches read and write files with.
"""

from __future__ import annotations

import hashlib
import logging
import time
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import UploadedFile
from django.utils import timezone

from apps.accounts.models import Organization
from apps.core import signing
from apps.core.errors import InvalidRequest
from apps.core.ids import uuid7
from apps.files import content, discarding, reading, statements, writing
from apps.files.models import File
from cango_portal import database

PATH = "/agent/v1/files/{id}"

discard = discarding.discard
discard_async = discarding.discard_async
readable = writing.readable
writer = writing.writer
writer_async = writing.writer_async
AsyncWriter = writing.AsyncWriter
BY_DEFAULT = writing.BY_DEFAULT
open_lines = reading.open_lines
parts = reading.parts

log = logging.getLogger(__name__)


def store(*, organization: Organization, upload: UploadedFile[Any]) -> File:
    """Keep an image (PNG, JPEG, WebP, TIFF) or a PDF; what it is decides its bytes, not its name.

    Raises InvalidRequest(param="file"); then nothing is kept.
    """
    if (upload.size or 0) > settings.MAX_FILE_BYTES:
        raise InvalidRequest(
            f"The file is larger than {settings.MAX_FILE_BYTES // 2**20} MiB. Send a smaller one.",
            param="file",
            code="file_too_large",
        )
    found = content.inspect(upload)
    digest = hashlib.sha256()
    for part in upload.chunks():
        digest.update(part)
    upload.seek(0)
    file_id = uuid7()
    path = default_storage.save(f"{organization.pk}/{file_id}", upload)
    try:
        return File.objects.create(
            id=file_id,
            organization=organization,
            name=readable(upload.name or ""),
            content_type=found.type,
            size_bytes=upload.size or 0,
            sha256=digest.hexdigest(),
            pages=found.pages,
            path=path,
            expires_at=timezone.now() + timedelta(seconds=settings.FILE_RETENTION_SECONDS),
        )
    except BaseException:
        default_storage.delete(path)
        raise


def begin_reading(*, organization_id: UUID, file_id: UUID | None, reader: str) -> File:
    """A file of the organization's that stays until `end_reading`, whatever its owner deletes and whenever it expires.

    `reader` names the work, `batch:<id>`; the row joins the caller's transaction. Raises NotFound. Safe to repeat. Plans
    of both are in `statements`.
    """
    return File(**database.run(statements.begin_reading(organization_id, file_id, reader=reader)))


def end_reading(*, reader: str) -> None:
    """Let go of every file this work read. Safe to repeat."""
    database.run(statements.end_reading(reader))


def sign(file_id: UUID, *, seconds: int) -> str:
    """A path that gives this one file to whoever holds it, for so long: `/agent/v1/files/<uuid>?expires=…&signature=…`."""
    return signing.sign(PATH.format(id=file_id), expires=int(time.time()) + seconds, secret=settings.SECRET_KEY)


def expire(*, batch: int = 500) -> int:
    """Delete files past their time that nothing reads any more. Returns how many; call again while it returns `batch`."""
    due = database.run(statements.past(batch))
    for row in due:
        discard(row["id"], row["path"])
    if due:
        log.info("files expired", extra={"files": len(due)})
    return len(due)
