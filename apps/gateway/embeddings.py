"""POST /v1/embeddings."""

from __future__ import annotations

from apps.core.asgi import Request
from apps.dispatch import intake
from apps.dispatch.services import Submitted
from apps.gateway import answers
from apps.gateway.attending import attended, sent, situated, submitted
from apps.keys.door import authenticated
from apps.wire.embeddings import embeddings_request


async def create_embeddings(request: Request) -> None:
    caller = await authenticated(request)
    body = await sent(request)
    asked = embeddings_request(body)
    now = await situated(caller, asked.model)
    work = intake.embeddings_work(now.offer, body, interactive=True)

    async def answer(accepted: Submitted) -> None:
        await request.json(await answers.vectors(accepted, model=now.offer.name, encoding_format=asked.encoding_format))

    await attended(request, submitted(request, caller, work, now), answer)
