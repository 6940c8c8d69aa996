"""POST /v1/completions."""

from __future__ import annotations

from apps.core.asgi import Request
from apps.dispatch import intake
from apps.dispatch.services import Submitted
from apps.gateway import answers
from apps.gateway.attending import attended, sent, situated, submitted
from apps.keys.door import authenticated
from apps.wire.ceilings import inputs
from apps.wire.text import TextCompletion, completion_request


async def create_completion(request: Request) -> None:
    caller = await authenticated(request)
    body = await sent(request)
    asked = completion_request(body)
    now = await situated(caller, asked.model, intake.tier_of(body))
    streaming = bool(asked.stream)
    work = intake.completion_work(now.offer, body, interactive=True, streaming=streaming)
    include_usage = bool(asked.stream_options and asked.stream_options.include_usage)
    echoed = inputs(body["prompt"]) if asked.echo and "echo" not in work.body else ()

    async def answer(accepted: Submitted) -> None:
        completion = TextCompletion(
            job_id=accepted.job_id,
            model=now.offer.name,
            include_usage=include_usage,
            service_tier=intake.service_tier(work),
            echoed=echoed,
            choices=asked.n or 1,
        )
        if streaming:
            await answers.stream(request, accepted, completion)
        else:
            await request.json(await answers.whole(accepted, completion))

    await attended(request, submitted(request, caller, work, now), answer)
