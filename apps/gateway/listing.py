"""GET /v1/models and GET /v1/models/{model}."""

from __future__ import annotations

from apps.core.asgi import Request
from apps.dispatch.situation import unknown
from apps.keys.door import authenticated
from apps.scheduling.offered import listed
from cango_portal import database


async def list_models(request: Request) -> None:
    caller = await authenticated(request, scope=None)
    found = [model for model in await database.run_async(listed()) if caller.may_use(model["id"])]
    await request.json({"object": "list", "data": found})


async def retrieve_model(request: Request) -> None:
    caller = await authenticated(request, scope=None)
    name = request.scope["path_params"]["model"]
    found = await database.run_async(listed(name)) if name else []
    if not found:
        raise unknown(name)
    caller.require_model(name)
    await request.json(found[0])
