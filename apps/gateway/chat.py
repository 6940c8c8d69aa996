"""POST /v1/chat/completions."""

from __future__ import annotations

from apps.core.asgi import Request
from apps.dispatch import intake
from apps.dispatch.services import Submitted
from apps.gateway import answers
from apps.gateway.attending import attended, sent, situated, submitted
from apps.keys.door import authenticated
from apps.wire.chat import chat_request
from apps.wire.completions import Completion


async def chat_completions(request: Request) -> None:
    caller = await authenticated(request)
    body = await sent(request)
    chat = chat_request(body)
    now = await situated(caller, chat.model, intake.tier_of(body))
    streaming = bool(chat.stream)
    work = intake.chat_work(now.offer, body, interactive=True, streaming=streaming)
    include_usage = bool(chat.stream_options and chat.stream_options.include_usage)

    async def answer(accepted: Submitted) -> None:
        completion = Completion(
            job_id=accepted.job_id,
            model=now.offer.name,
            include_usage=include_usage,
            service_tier=intake.service_tier(work),
        )
        if streaming:
            await answers.stream(request, accepted, completion)
        else:
            await request.json(await answers.whole(accepted, completion))

    await attended(request, submitted(request, caller, work, now), answer)
