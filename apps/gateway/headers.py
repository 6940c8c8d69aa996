"""The headers every answer of /v1 has: OpenAI API reference, "Debugging requests"."""

from __future__ import annotations

import time
from typing import Any

from apps.core.asgi import NOTED, Application, Receive, Scope, Send

VERSION = "2020-10-01"


def with_headers(application: Application) -> Application:
    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                added = {
                    "openai-version": VERSION,
                    "openai-processing-ms": str(round((time.perf_counter() - began) * 1000)),
                    "cache-control": "no-store",
                    "x-content-type-options": "nosniff",
                    **scope.get(NOTED, {}),
                }
                given = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in added.items() if k.encode() not in given),
                ]
            await send(message)

        await application(scope, receive, sending)

    return counted
