"""A file and its fields out of multipart/form-data (RFC 7578), taken piece by piece as they arrive."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from uuid import UUID

from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser, parse_options_header

from apps.core.asgi import BodyTooLarge, BodyTooSlow, Disconnected, Request, UnsupportedMediaType
from apps.core.errors import InvalidRequest, PortalError
from apps.files.services import AsyncWriter

IDLE_SECONDS = 30  # of an upload that sends nothing
START_SECONDS = 60  # and for all of it so long, and what its bytes take at the least rate
LEAST_BYTES_PER_SECOND = 16 * 1024
FORM_BYTES = 64 * 1024  # the form around the largest file
FIELD_BYTES = 1024
PARTS = 16
HEADERS = 8  # of one part; RFC 7578 knows three
HEADER_BYTES = 4096
AT_ONCE = 32  # in one process: each holds a file on the disk
AT_ONCE_OF_ONE = 8  # of one organization
SHOWN = 100  # characters of a name from the form that an error repeats


class TooManyUploads(PortalError):
    code, status, type = "too_many_uploads", 429, "rate_limit_error"


_running: Counter[UUID] = Counter()


@contextmanager
def turn(organization_id: UUID) -> Iterator[None]:
    """Raises TooManyUploads."""
    if _running.total() >= AT_ONCE or _running[organization_id] >= AT_ONCE_OF_ONE:
        raise TooManyUploads(
            f"Too many files arrive at once: {AT_ONCE_OF_ONE} of one organization are the most. "
            "Nothing was stored; try again when one is done.",
            retry_after_seconds=5,
        )
    _running[organization_id] += 1
    try:
        yield
    finally:
        _running[organization_id] -= 1
        if not _running[organization_id]:
            del _running[organization_id]


class Upload:
    """One form with one file. `fields` has the other parts; `name` and `content_type` are the file's, as they were sent.

    `over`: the whole body has arrived.
    """

    def __init__(self, request: Request, *, fields: frozenset[str], limit: int) -> None:
        """Raises UnsupportedMediaType, InvalidRequest and BodyTooLarge for what its headers say already."""
        self.request = request
        self.known = fields
        self.limit = limit
        self.over = False
        self.fields: dict[str, str] = {}
        self.name: str | None = None
        self.content_type = ""
        self.size = 0  # of the body so far
        self.waited = 0.0  # for it, in seconds: what storing it takes is not the client's
        self.part: MultipartSegment | None = None  # the one that arrives now, or the last
        self.text = bytearray()  # of that part, where it is a field
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding != "identity":
            raise UnsupportedMediaType(
                f"The request body is encoded ({encoding[:SHOWN]}). Send the form as it is, without Content-Encoding."
            )
        media_type, options = parse_options_header(request.headers.get("content-type", ""))
        if media_type != "multipart/form-data":
            raise UnsupportedMediaType(
                "Send multipart/form-data with the parts 'purpose' and 'file': with curl, -F purpose=batch -F file=@rows.jsonl."
            )
        boundary = options.get("boundary", "")
        if not 1 <= len(boundary) <= 70 or not boundary.isascii():  # RFC 2046, 5.1.1
            raise malformed("its header Content-Type has no boundary of 1 to 70 characters")
        self.boundary = boundary
        if self.declared > limit + FORM_BYTES:
            raise self.too_large()

    @property
    def declared(self) -> int:
        """How many bytes the request says it has; 0 where it does not say."""
        return int(self.request.headers.get("content-length") or 0)

    def too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"A file may have at most {self.limit:,} bytes. Nothing was stored.", param="file")

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises BodyTooLarge, BodyTooSlow, Disconnected."""
        while not self.over:
            left = START_SECONDS + self.size / LEAST_BYTES_PER_SECOND - self.waited
            began = time.monotonic()
            try:
                async with asyncio.timeout(min(IDLE_SECONDS, left)):
                    message = await self.request.receive()
            except TimeoutError:
                raise BodyTooSlow(
                    f"Nothing of the request body arrived for {IDLE_SECONDS} seconds. Nothing was stored."
                    if left > IDLE_SECONDS
                    else f"The request body arrives too slowly: {LEAST_BYTES_PER_SECOND:,} bytes a second are the least. "
                    "Nothing was stored."
                ) from None
            self.waited += time.monotonic() - began
            if message["type"] == "http.disconnect":
                raise Disconnected
            piece = message.get("body", b"")
            self.over = not message.get("more_body")
            self.size += len(piece)
            if self.size > self.limit + FORM_BYTES:
                raise self.too_large()
            if piece:
                yield piece

    async def into(self, file: AsyncWriter) -> None:
        """Read the form, and write the file's bytes as they come. Raises InvalidRequest for a form that is not whole."""
        parser = PushMultipartParser(
            self.boundary,
            max_header_size=HEADER_BYTES,
            max_header_count=HEADERS,
            max_segment_count=PARTS,
        )
        try:
            async for piece in self.pieces():
                for event in parser.parse(piece):
                    await self.take(event, file)
                if self.part is None and self.size > FORM_BYTES:
                    break
        except ParserLimitReached:
            raise malformed(
                f"a form has at most {PARTS} parts, each with at most {HEADERS} headers of {HEADER_BYTES:,} bytes"
            ) from None
        except MultipartError:
            raise malformed("a part, a header or a boundary is not as it should be") from None
        try:
            parser.close()
        except MultipartError:
            raise malformed(
                "the upload was cut off before its last boundary"
                if self.part is not None
                else "the boundary that its header names is not in it"
            ) from None

    async def take(self, event: MultipartSegment | bytes | None, file: AsyncWriter) -> None:
        """One event of the parser: a part's headers, some of its bytes, or its end."""
        if isinstance(event, MultipartSegment):
            self.part = event
            self.text.clear()
            self.begin(event)
        elif self.part is None:
            return
        elif self.part.name == "file":
            if event is not None:
                await file.write(event)
                if file.size_bytes > self.limit:
                    raise self.too_large()
        elif event is None:
            self.end(self.part)
        else:
            self.text += event
            if len(self.text) > FIELD_BYTES:
                raise self.invalid(self.part, f"it has more than {FIELD_BYTES:,} bytes")

    def begin(self, part: MultipartSegment) -> None:
        """A part begins: its headers are known."""
        name = part.name or ""
        if (part.header("Content-Transfer-Encoding") or "binary").strip().lower() not in {"binary", "8bit", "7bit"}:
            raise self.invalid(part, "Content-Transfer-Encoding is not supported: send the bytes as they are")
        if name == "file":
            if self.name is not None:
                raise self.invalid(part, "send one file a request")
            if part.filename is None:
                raise self.invalid(part, "it is a text and not a file. With curl, write file=@path")
            self.name, self.content_type = part.filename, part.content_type or ""
        elif name not in self.known:
            raise InvalidRequest(
                f"Unrecognized request argument supplied: {name[:SHOWN]}.", param=name[:SHOWN], code="unknown_parameter"
            )
        elif name in self.fields:
            raise self.invalid(part, "it is there twice")

    def end(self, part: MultipartSegment) -> None:
        """A field is complete."""
        try:
            value = self.text.decode()
        except UnicodeDecodeError:
            raise self.invalid(part, "it is not UTF-8") from None
        if "\0" in value:
            raise self.invalid(part, "it contains the character U+0000")
        self.fields[part.name or ""] = value

    def invalid(self, part: MultipartSegment, why: str) -> InvalidRequest:
        name = part.name or ""
        return InvalidRequest(f"Invalid value for '{name}': {why}.", param=name or None, code="invalid_value")


def malformed(why: str) -> InvalidRequest:
    return InvalidRequest(
        f"The request body is not a form that can be read: {why}. Nothing was stored.", code="invalid_multipart"
    )
