"""One ASGI application: the lean doors by path, the socket by scheme, Django for everything else."""

import asyncio
import os
from collections.abc import MutableMapping
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit, urlunsplit

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cango_portal.settings")

from channels.db import database_sync_to_async
from csp.utils import build_policy
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.core.asgi import get_asgi_application
from django.http import parse_cookie
from django.template import loader
from django.utils import translation

pages: Any = get_asgi_application()  # loads the apps; what is imported below needs them

from apps.accounts import languages
from apps.agents import heartbeats
from apps.agents.door import application as agents
from apps.core import garbage
from apps.core.asgi import Application, BodyTooLarge, Receive, Request, Scope, Send
from apps.core.logging import request_id
from apps.gateway.door import application as gateway
from apps.live import bell, streams
from apps.live.routing import application as live
from cango_portal import checks, database

checks.refuse()  # uvicorn runs no system checks by itself
garbage.settle()
BATCH_PAGE = "/batches/new/"  # its file is a batch's, as large as the API takes it
FORM_BYTES = 1024 * 1024  # a form's other fields beside the largest file
MIB = 1024 * 1024
DOORS: tuple[tuple[str, Application], ...] = (("/v1", gateway), ("/agent/v1", agents))


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        for path, door in DOORS:
            if scope["path"] == path or scope["path"].startswith(f"{path}/"):
                return await door(scope, receive, send)
        return await numbered_pages(scope, receive, send)
    if scope["type"] == "websocket":
        return await live(scope, receive, send)
    return await lifespan(receive, send)


async def numbered_pages(scope: Scope, receive: Receive, send: Send) -> None:
    """Django, its answers and its log lines with the request's id."""
    request = Request(scope, receive, send)

    async def numbered(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"x-request-id", request.id.encode())]
            request.began = True
        await send(message)

    token = request_id.set(request.id)
    try:
        await bounded_pages(request, numbered)
    finally:
        request_id.reset(token)


async def bounded_pages(request: Request, send: Send) -> None:
    """Django, which spools a body of any size to disk before a view sees it: refuse a larger one before that."""
    most = settings.MAX_FILE_BYTES
    if request.method == "POST" and request.path == BATCH_PAGE and await database_sync_to_async(signed_in)(request):
        most = max(most, settings.MAX_BATCH_FILE_BYTES)
    limit = most + FORM_BYTES
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > limit:
        return await too_large(request, most)
    taken = 0

    async def counted() -> MutableMapping[str, Any]:
        nonlocal taken
        message = await request.receive()
        taken += len(message.get("body", b""))
        return message if taken <= limit else {"type": "http.disconnect"}  # a body that did not say how long it is

    await pages(request.scope, counted, send)
    if taken > limit and not request.began:
        await too_large(request, most)
    return None


def signed_in(request: Request) -> bool:
    """Has its session a user? What strangers send is not gathered on our disk."""
    key = parse_cookie(request.headers.get("cookie", "")).get(settings.SESSION_COOKIE_NAME)
    store: Any = import_module(settings.SESSION_ENGINE).SessionStore
    return key is not None and SESSION_KEY in store(key)


async def too_large(request: Request, most: int) -> None:
    """The refusal, as a page for browsers. Django's middleware has not run, so the headers it gives are given here."""
    size = f"{most / MIB:g} MiB"
    if request.path.startswith("/api/"):
        return await request.refuse(
            BodyTooLarge(f"A file may have at most {size}. Nothing was started or charged.", param="file")
        )
    cookies = parse_cookie(request.headers.get("cookie", ""))
    with translation.override(languages.of(None, cookies, request.headers.get("accept-language", ""))):
        page = loader.get_template("413.html").render({"size": size, "back": back(request)})
    return await request.answer(
        page.encode(),
        status=BodyTooLarge.status,
        content_type="text/html; charset=utf-8",
        headers={
            "content-security-policy": build_policy(),
            "referrer-policy": settings.SECURE_REFERRER_POLICY,
            "x-content-type-options": "nosniff",
            "x-frame-options": settings.X_FRAME_OPTIONS,
        },
        discard=True,
    )


def back(request: Request) -> str:
    """The address of the page the form stood on, where that was one of ours."""
    came = urlsplit(request.headers.get("referer", ""))
    ours = came.netloc == request.headers.get("host") and came.path.startswith("/") and not came.path.startswith("//")
    return urlunsplit(("", "", came.path, came.query, "")) if ours else "/models/"


async def lifespan(receive: Receive, send: Send) -> None:
    listening: asyncio.Task[None] | None = None
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            listening = asyncio.create_task(heartbeats.listen())
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            if listening is not None:
                listening.cancel()
            await streams.close()
            await bell.close()
            await database.close()
            await send({"type": "lifespan.shutdown.complete"})
            return
