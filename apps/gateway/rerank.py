"""POST /v1/rerank."""

from __future__ import annotations

from apps.core.asgi import Request
from apps.dispatch import intake
from apps.dispatch.services import Submitted
from apps.gateway import answers
from apps.gateway.attending import attended, sent, situated, submitted
from apps.keys.door import authenticated
from apps.wire import rerank


async def create_ranking(request: Request) -> None:
    caller = await authenticated(request)
    body = await sent(request)
    asked = rerank.rerank_request(body)
    now = await situated(caller, asked.model)
    work = intake.rerank_work(now.offer, body, interactive=True)
    documents = None if asked.return_documents is False else work.body["documents"]

    async def answer(accepted: Submitted) -> None:
        await request.json(
            await answers.ranking(accepted, model=now.offer.name, documents=documents, top_n=asked.top_n)
        )

    await attended(request, submitted(request, caller, work, now), answer)
