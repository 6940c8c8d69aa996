"""The headers every answer of /v1 has: OpenAI API reference, "Debugging requests" and "Rate limits"."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from psycopg import OperationalError
from psycopg_pool import PoolTimeout

from apps.core.asgi import NOTED, Application, Receive, Scope, Send
from apps.dispatch import services as dispatch
from apps.keys import rates
from apps.keys.door import CALLER

VERSION = "2020-10-01"
WINDOWS = "cango.windows"  # in the scope: what the request's rate limits had counted at its admission


def with_headers(application: Application) -> Application:
    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                limits = await of_limits(scope)
                added = {
                    "openai-version": VERSION,
                    "openai-processing-ms": str(round((time.perf_counter() - began) * 1000)),
                    "cache-control": "no-store",
                    "x-content-type-options": "nosniff",
                    **limits,
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


async def of_limits(scope: Scope) -> dict[str, str]:
    """What the caller may still do, as soon as it is known who calls; nothing where that cannot be found out now."""
    windows, caller = scope.get(WINDOWS), scope.get(CALLER)
    if windows is None and caller is not None:
        with contextlib.suppress(OperationalError, PoolTimeout):
            windows = await dispatch.windows_async(caller)
    return rates.headers(windows or ())
