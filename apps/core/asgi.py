"""The little of HTTP that the lean doors (`/v1`, `/agent/v1`) need: a request with a bounded body, and three answers.

Django's ASGI handler costs about ten times the processor time of these lines on a short request.
"""

import asyncio
import contextlib
import hashlib
import logging
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from apps.core import jsons
from apps.core.errors import InvalidRequest, NotAuthenticated, NotFound, PortalError
from apps.core.logging import request_id

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger(__name__)

BODY_SECONDS = 30  # a body that takes longer than this to arrive is refused
NOTED = "cango.headers"  # in the scope: what handlers noted for the answer
DISCARD_BYTES = 64 * 1024 * 1024  # so much of a refused body is read, unkept, so that its sender gets to the answer


class BodyTooLarge(PortalError):
    code, status = "request_too_large", 413


class BodyTooSlow(PortalError):
    code, status = "request_timeout", 408


class UnsupportedMediaType(PortalError):
    """The body is in a form that is not read here. It is refused before a byte of it is looked at."""

    code, status = "unsupported_media_type", 415


class MethodNotAllowed(PortalError):
    code, status = "method_not_allowed", 405

    def __init__(self, message: str, *, allowed: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.allowed = sorted(allowed)


class ServerError(PortalError):
    code, status, type = "server_error", 500, "server_error"


class Disconnected(Exception):
    """The client hung up."""


class Request:
    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[str, str] = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }  # a server lower-cases the names
        self.id = f"req_{secrets.token_hex(16)}"
        self.digest = b""  # SHA-256 of method, path and body, once the body was read
        self.began = False  # the response has started

    def note(self, **headers: str) -> None:
        """Headers for whatever answer comes: `x_job_id="…"` is `x-job-id`. A door sends them, refusals too."""
        self.scope.setdefault(NOTED, {}).update({name.replace("_", "-"): value for name, value in headers.items()})

    def noted(self, name: str) -> bool:
        return name in self.scope.get(NOTED, {})

    @property
    def query(self) -> dict[str, str]:
        return {name: values[-1] for name, values in self.query_lists.items()}

    @property
    def query_lists(self) -> dict[str, list[str]]:
        return parse_qs(self.scope["query_string"].decode("latin-1"))

    @property
    def bearer(self) -> str | None:
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" and token.strip() else None

    def check_json(self) -> None:
        """Raises UnsupportedMediaType for a body that says it is no JSON."""
        given = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if given and given != "application/json" and not given.endswith("+json"):
            raise UnsupportedMediaType(
                f"This takes application/json and the header Content-Type says {given[:60]}. "
                "Send one JSON object with Content-Type: application/json."
            )

    async def body(self, *, limit: int) -> bytes:
        """The whole body. Raises BodyTooLarge above `limit` bytes, UnsupportedMediaType, BodyTooSlow, Disconnected."""
        self.check_length(limit)
        encoding = self.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):  # unpacking could make anything of a few bytes
            raise UnsupportedMediaType(
                "Compressed request bodies are not read here. Send it without the header Content-Encoding."
            )
        parts: list[bytes] = []
        size = 0
        sha256 = hashlib.sha256(f"{self.method} {self.path}\n".encode())
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while True:
                    message = await self.receive()
                    if message["type"] == "http.disconnect":
                        raise Disconnected
                    part = message.get("body", b"")
                    size += len(part)
                    if size > limit:
                        raise BodyTooLarge(f"The request body may have at most {limit:,} bytes.")
                    parts.append(part)
                    sha256.update(part)
                    if not message.get("more_body"):
                        self.digest = sha256.digest()
                        return b"".join(parts)
        except TimeoutError:
            raise BodyTooSlow(f"The request body did not arrive within {BODY_SECONDS} seconds.") from None

    def check_length(self, limit: int) -> None:
        """Raises BodyTooLarge for a body that says so, InvalidRequest for a length that is no number."""
        declared = self.headers.get("content-length", "0").strip() or "0"
        if not declared.isascii() or not declared.isdigit():
            raise InvalidRequest("The header Content-Length should be a number of bytes.", code="invalid_value")
        if len(declared) > 18 or int(declared) > limit:
            raise BodyTooLarge(f"The request body may have at most {limit:,} bytes.")

    async def discard(self) -> None:
        """Read what is left of a refused body and keep none of it, for BODY_SECONDS and DISCARD_BYTES at most.

        A browser looks for an answer only after it has sent everything; a connection closed before that is all it sees.
        """
        size = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BODY_SECONDS):
                while size < DISCARD_BYTES:
                    message = await self.receive()
                    size += len(message.get("body", b""))
                    if message["type"] == "http.disconnect" or not message.get("more_body"):
                        return

    async def hung_up(self) -> None:
        """Returns when the client has gone. Call it only after the body was read."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        self.began = True
        every = {"x-request-id": self.id, **headers}
        await self.send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in every.items()],
            }
        )

    async def answer(
        self,
        body: bytes,
        *,
        status: int = 200,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
        discard: bool = False,
    ) -> None:
        """The whole answer; to HEAD without its body. With `discard` what is left of the request is read after it."""
        await self.start(status, {"content-type": content_type, "content-length": str(len(body)), **(headers or {})})
        shown = b"" if self.method == "HEAD" else body
        if discard:
            await self.send({"type": "http.response.body", "body": shown, "more_body": True})
            await self.discard()
            shown = b""
        await self.send({"type": "http.response.body", "body": shown})

    async def json(
        self, value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None, discard: bool = False
    ) -> None:
        await self.answer(jsons.encoded(value), status=status, headers=headers, discard=discard)

    async def refuse(self, error: PortalError, *, discard: bool | None = None) -> None:
        """The refusal in the official shape. `discard`: is there more of the body to read? By itself: if it is too large."""
        headers: dict[str, str] = {}
        if error.retryable is not None:
            headers["x-should-retry"] = "true" if error.retryable else "false"
        if error.retry_after_seconds is not None:
            headers["retry-after"] = str(error.retry_after_seconds)
            headers["retry-after-ms"] = str(error.retry_after_ms)
        if isinstance(error, NotAuthenticated):
            headers["www-authenticate"] = "Bearer"
        if isinstance(error, MethodNotAllowed) and error.allowed:
            headers["allow"] = ", ".join(error.allowed)
        unread = isinstance(error, BodyTooLarge) if discard is None else discard
        await self.json(error.body(), status=error.status, headers=headers, discard=unread)

    async def events(self, lines: AsyncIterator[bytes], *, headers: Mapping[str, str] | None = None) -> None:
        """Send server-sent events; `lines` are whole events, ready to write."""
        await self.start(
            200,
            {
                "content-type": "text/event-stream; charset=utf-8",
                "cache-control": "no-cache",
                "x-accel-buffering": "no",
                **(headers or {}),
            },
        )
        async for line in lines:
            await self.send({"type": "http.response.body", "body": line, "more_body": True})
        await self.send({"type": "http.response.body", "body": b""})


Handler = Callable[[Request], Awaitable[None]]
Routes = Mapping[tuple[str, str], Handler]


def door(routes: Routes, *, hint: str = "Check the path and the base URL.") -> Application:
    """An application that calls the handler of (method, path) and answers every refusal in the official shape.

    A path may have `{name}` for one segment, and last `{name:path}` for all that are left; the values are put into
    `scope["path_params"]`. `hint` ends the answer to a path that is not there. HEAD is GET without the body. A bug
    becomes a 500 with the request's id and nothing else.
    """
    methods: dict[str, set[str]] = {}
    for method, path in routes:
        methods.setdefault(path, set()).update({method, "HEAD"} if method == "GET" else {method})
    patterns = [(pattern_of(path), path) for path in methods if "{" in path]

    def placed(path: str) -> tuple[str, dict[str, str]]:
        if path not in methods:
            for pattern, template in patterns:
                if found := pattern.fullmatch(path):
                    return template, found.groupdict()
        return path, {}

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        token = request_id.set(request.id)
        try:
            path, scope["path_params"] = placed(request.path)
            if path not in methods:
                raise NotFound(f"Unknown request URL: {request.method} {request.path}. {hint}", code="unknown_url")
            handler = routes.get(("GET" if request.method == "HEAD" else request.method, path))
            if handler is None:
                raise MethodNotAllowed(f"{request.method} is not allowed on {request.path}.", allowed=methods[path])
            await handler(request)
        except Disconnected:
            pass
        except PortalError as error:
            if request.began:
                raise
            await request.refuse(error)
        except Exception:
            log.exception("request failed", extra={"path": request.path})
            if not request.began:
                await request.refuse(
                    ServerError(f"The portal made a mistake. Quote {request.id} when you ask about it.")
                )
        finally:
            request_id.reset(token)

    return application


def pattern_of(path: str) -> re.Pattern[str]:
    """`/v1/files/{file}/content`, `/v1/models/{model:path}`."""
    parts = re.split(r"\{(\w+)(:path)?\}", path)
    pattern = re.escape(parts[0])
    for name, rest, literal in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        pattern += f"(?P<{name}>{'.+' if rest else '[^/]+'}){re.escape(literal)}"
    return re.compile(pattern, re.DOTALL)
