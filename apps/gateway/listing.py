"""GET /v1/models and GET /v1/models/{model}."""

from __future__ import annotations

from apps.catalog import offers
from apps.catalog.api import described
from apps.core.asgi import Request
from apps.gateway.attending import offered
from apps.keys.door import authenticated
from cango_portal import database


async def list_models(request: Request) -> None:
    await authenticated(request, scope=None)
    found = await database.run_async(offers.offers())
    await request.json({"object": "list", "data": [described(offer) for offer in found]})


async def retrieve_model(request: Request) -> None:
    await authenticated(request, scope=None)
    await request.json(described(await offered(request.scope["path_params"]["model"])))
