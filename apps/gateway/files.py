"""/v1/files: OpenAI API reference, "Files". Uploads and downloads pass through a piece at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Mapping
from uuid import UUID

from django.conf import settings
from django.utils.http import content_disposition_header

from apps.accounts.scopes import Scope
from apps.core import ids, queries
from apps.core.asgi import BodyTooLarge, BodyTooSlow, Request
from apps.core.errors import InvalidRequest, NotFound, PortalError, Unavailable
from apps.core.sql import Row
from apps.files import services as files
from apps.files import statements
from apps.files.models import File
from apps.files.sealing import Unreadable
from apps.gateway.uploads import FORM_BYTES, Upload, turn
from apps.keys.door import authenticated
from apps.keys.services import Caller
from cango_portal import database

PURPOSES = (File.Purpose.BATCH.value, File.Purpose.USER_DATA.value)
LISTED = (*PURPOSES, File.Purpose.BATCH_OUTPUT.value)
OTHERS = {
    "assistants": "There are no assistants here; 'user_data' keeps a file until you delete it",
    "fine-tune": "Models are not fine-tuned here; 'user_data' keeps a file until you delete it",
    "vision": "Send images inside the messages of a chat, or to /api/v1/jobs",
    "evals": "There are no evals here; 'batch' is for requests that may wait a day",
}
FIELDS = frozenset({"purpose", "expires_after[anchor]", "expires_after[seconds]"})
SECONDS = range(3600, 2_592_001)
MOST_LISTED = 10_000
MEDIA_TYPE = re.compile(r"[\w.+-]{1,40}/[\w.+-]{1,59}", re.ASCII)
BINARY = "application/octet-stream"

log = logging.getLogger(__name__)


async def create_file(request: Request) -> None:
    """POST /v1/files. Nothing is kept of an upload that is refused, breaks off or goes quiet."""
    upload = None
    try:
        caller = await authenticated(request, Scope.BATCHES.value)
        with turn(caller.organization_id):
            upload = Upload(request, fields=FIELDS, limit=max(settings.MAX_UPLOAD_BYTES, settings.MAX_BATCH_FILE_BYTES))
            file = await stored(upload, caller)
    except PortalError as error:
        unread = not isinstance(error, BodyTooSlow) and (upload is None or not upload.over)
        return await request.refuse(error, discard=unread)
    return await request.json(described(file))


async def stored(upload: Upload, caller: Caller) -> File:
    await database.run_async(
        statements.check_room(
            caller.organization_id,
            size_bytes=max(upload.declared - FORM_BYTES, 0),
            limit_bytes=settings.ORGANIZATION_STORAGE_BYTES,
        )
    )
    async with files.writer_async(
        organization_id=caller.organization_id, name="", purpose=File.Purpose.USER_DATA, content_type=BINARY
    ) as file:
        await upload.into(file)
        purpose = purpose_of(upload.fields)
        seconds = expires_after_seconds(upload.fields)
        if upload.name is None:
            raise missing("file")
        if not file.size_bytes:
            raise InvalidRequest("The file is empty.", param="file", code="invalid_file")
        if file.size_bytes > limit_of(purpose):
            raise BodyTooLarge(
                f"A file for '{purpose}' may have at most {limit_of(purpose):,} bytes; this one has {file.size_bytes:,}. "
                "Nothing was stored.",
                param="file",
            )
        file.describe(
            name=upload.name,
            purpose=purpose,
            content_type=upload.content_type if MEDIA_TYPE.fullmatch(upload.content_type) else BINARY,
            expires_after_seconds=seconds,
        )
        return await file.commit()


def limit_of(purpose: str) -> int:
    return settings.MAX_BATCH_FILE_BYTES if purpose == File.Purpose.BATCH else settings.MAX_UPLOAD_BYTES


def missing(name: str) -> InvalidRequest:
    return InvalidRequest(f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")


def purpose_of(fields: Mapping[str, str]) -> str:
    purpose = fields.get("purpose")
    if not purpose:
        raise missing("purpose")
    if purpose in OTHERS:
        raise InvalidRequest(
            f"Files for '{purpose}' are not supported here. {OTHERS[purpose]}.",
            param="purpose",
            code="unsupported_parameter",
        )
    if purpose not in PURPOSES:
        raise InvalidRequest(
            f"Invalid value for 'purpose': it should be one of {', '.join(PURPOSES)}.",
            param="purpose",
            code="invalid_value",
        )
    return purpose


def expires_after_seconds(fields: Mapping[str, str]) -> int | None:
    """As the form says; else as long as files of its purpose are kept."""
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return files.BY_DEFAULT
    if anchor is None or seconds is None:
        raise missing("expires_after.anchor" if anchor is None else "expires_after.seconds")
    if anchor != "created_at":
        raise InvalidRequest(
            "Invalid value for 'expires_after.anchor': it should be 'created_at'.",
            param="expires_after.anchor",
            code="invalid_value",
        )
    if not (seconds.isascii() and seconds.isdecimal() and len(seconds) <= 9 and int(seconds) in SECONDS):
        raise InvalidRequest(
            f"Invalid value for 'expires_after.seconds': it should be a number from {SECONDS[0]} to {SECONDS[-1]}.",
            param="expires_after.seconds",
            code="invalid_value",
        )
    return int(seconds)


async def list_files(request: Request) -> None:
    """GET /v1/files."""
    caller = await authenticated(request, Scope.BATCHES.value)
    query = request.query
    part = queries.part(query, most=MOST_LISTED, usual=MOST_LISTED)
    purpose = query.get("purpose")
    if purpose is not None and purpose not in {*LISTED, *OTHERS}:
        raise queries.wrong("purpose", f"it should be one of {', '.join(LISTED)}")
    after = ids.parse("file", part.after) if part.after else None
    if part.after and after is None:
        raise queries.wrong("after", "it should be the id of a file")
    rows = await database.run_async(
        statements.listed(
            caller.organization_id,
            purpose=purpose,
            after=after,
            newest_first=part.newest_first,
            limit=part.limit + 1,
        )
    )
    shown = [described(File(**row)) for row in rows[: part.limit]]
    await request.json(queries.page(shown, more=len(rows) > part.limit))


def named(request: Request) -> UUID | None:
    return ids.parse("file", request.scope["path_params"]["file"])


async def retrieve_file(request: Request) -> None:
    """GET /v1/files/{file}."""
    caller = await authenticated(request, Scope.BATCHES.value)
    row = await database.run_async(statements.found(caller.organization_id, named(request)))
    await request.json(described(File(**row)))


async def file_content(request: Request) -> None:
    """GET /v1/files/{file}/content: the bytes as they were sent, always as an attachment."""
    caller = await authenticated(request, Scope.BATCHES.value)
    row = await database.run_async(statements.found(caller.organization_id, named(request)))
    pieces = files.parts(row["path"])
    async with contextlib.aclosing(pieces):
        try:
            piece = await anext(pieces, b"")
        except FileNotFoundError:
            log.exception("a file's bytes are gone", extra={"file": ids.public("file", row["id"])})
            raise NotFound("The content of this file is no longer kept.", code="file_not_found") from None
        except Unreadable:
            log.exception("a file does not open", extra={"file": ids.public("file", row["id"])})
            raise
        except Exception as error:
            log.exception("a file cannot be read", extra={"file": ids.public("file", row["id"])})
            raise Unavailable("The portal cannot read files just now; try again.", retry_after_seconds=5) from error
        await request.start(
            200,
            {
                "content-type": row["content_type"],
                "content-length": str(row["size_bytes"]),
                "content-disposition": str(content_disposition_header(True, row["name"])),
            },
        )
        hanging_up = asyncio.create_task(request.hung_up(), name="gateway.hung_up")
        try:
            while piece and request.method != "HEAD" and not hanging_up.done():
                await request.send({"type": "http.response.body", "body": piece, "more_body": True})
                piece = await anext(pieces, b"")
        finally:
            hanging_up.cancel()
    await request.send({"type": "http.response.body", "body": b""})


async def delete_file(request: Request) -> None:
    """DELETE /v1/files/{file}: gone with the answer; the sweep finishes what fails."""
    caller = await authenticated(request, Scope.BATCHES.value)
    row = await database.run_async(statements.delete(caller.organization_id, named(request)))
    try:
        await files.discard_async(row["id"], row["path"])
    except Exception:
        log.exception("a deleted file waits for the sweep", extra={"file": ids.public("file", row["id"])})
    await request.json({"id": ids.public("file", row["id"]), "object": "file", "deleted": True})


def described(file: File) -> Row:
    """The official object. `status` is for old clients: a file is listed when it is complete."""
    return {
        "id": file.public_id,
        "object": "file",
        "bytes": file.size_bytes,
        "created_at": int(file.created_at.timestamp()),
        "expires_at": int(file.expires_at.timestamp()) if file.expires_at else None,
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }
