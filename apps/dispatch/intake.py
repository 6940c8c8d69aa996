"""From what a customer sent to work: validated for the model it names, with the ceilings that bound its price."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from django.conf import settings

from apps.catalog.models import Model, Tier
from apps.catalog.offers import Offer
from apps.core.errors import InvalidRequest, PortalError
from apps.core.sql import Plan
from apps.dispatch.allowance import TooManyOpenJobs
from apps.dispatch.situation import unknown
from apps.dispatch.work import Work
from apps.files.models import File
from apps.jobs import refusals
from apps.jobs.models import Job
from apps.keys.services import Caller
from apps.ledger.statements import BudgetExceeded, InsufficientCredit, PaymentOwed
from apps.wire import capabilities, ceilings, chat, embeddings, rerank, text
from apps.wire.capabilities import Capability
from apps.wire.conversation import Message, chat_body, conversation


def found(offer: Offer | None, name: str) -> Offer:
    if offer is None:
        raise unknown(name)
    return offer


def of_kind(offer: Offer, kind: str) -> None:
    if offer.kind != kind:
        way = {
            "chat": "Use /v1/chat/completions.",
            "embeddings": "Use /v1/embeddings.",
            "rerank": "Use /v1/rerank.",
            "ocr": "Send a file to /api/v1/jobs.",
        }[offer.kind]
        raise InvalidRequest(
            f"The model '{offer.name}' does not do this; it is for {Model.Kind(offer.kind).label.lower()}. {way}",
            param="model",
            code="wrong_model_kind",
        )


def tier_of(body: Mapping[str, Any]) -> str:
    """OpenAI's word for flexible work is `flex`; every other word a request may use means standard."""
    return Tier.FLEXIBLE.value if body.get("service_tier") == "flex" else Tier.STANDARD.value


def chat_work(offer: Offer, body: Mapping[str, Any], *, interactive: bool, streaming: bool) -> Work:
    """`body` has passed `chat.chat_request`."""
    of_kind(offer, Model.Kind.CHAT)
    most = offer.max_output_tokens or offer.context_tokens
    capabilities.check(body, offer.ability, capabilities.asked_of_chat(body))
    chat.check_limits(body, context_tokens=offer.context_tokens, max_output_tokens=most)
    return Work(
        offer=offer,
        body=chat.engine_body(body, max_output_tokens=most),
        interactive=interactive,
        streaming=streaming,
        prompt_tokens_ceiling=ceilings.prompt_tokens_ceiling(
            body, offer.context_tokens, image_tokens=offer.image_tokens
        ),
        max_completion_tokens=ceilings.completion_tokens_ceiling(body, most),
        tier=tier_of(body),
        metadata=body.get("metadata") or {},
        stored=bool(body.get("store")),
    )


def service_tier(work: Work) -> str:
    """What answers say the work was, in OpenAI's words."""
    return "flex" if work.tier == Tier.FLEXIBLE else "default"


def completion_work(offer: Offer, body: Mapping[str, Any], *, interactive: bool, streaming: bool) -> Work:
    """`body` has passed `text.completion_request`."""
    of_kind(offer, Model.Kind.CHAT)
    most = offer.max_output_tokens or offer.context_tokens
    capabilities.check(body, offer.ability, text.needed(body))
    text.check_limits(
        body,
        context_tokens=offer.context_tokens,
        vocabulary_tokens=offer.vocabulary_tokens,
        max_output_tokens=most,
    )
    return Work(
        offer=offer,
        body=text.engine_body(body, max_output_tokens=most, echoes=Capability.ECHO in offer.ability),
        interactive=interactive,
        streaming=streaming,
        prompt_tokens_ceiling=text.prompt_tokens_ceiling(body, offer.context_tokens),
        max_completion_tokens=text.completion_tokens_ceiling(body, most),
        tier=tier_of(body),
        kind=Job.Kind.COMPLETION.value,
        metadata=body.get("metadata") or {},
    )


def response_work(
    offer: Offer,
    body: Mapping[str, Any],
    *,
    interactive: bool,
    streaming: bool = False,
    earlier: Sequence[Message] = (),
) -> Work:
    """A response as a chat, after the `earlier` messages. `body` has passed `responses.responses_request`."""
    talk = conversation(body, list(earlier))
    try:
        asked = chat_body(body, talk.messages)
        if earlier and len(json.dumps(asked, ensure_ascii=False).encode()) > settings.MAX_BODY_BYTES:
            raise InvalidRequest(
                f"With all that was said before, this is more than {settings.MAX_BODY_BYTES:,} bytes. Begin a new "
                "conversation, with a summary of this one.",
                param="previous_response_id",
                code="context_length_exceeded",
            )
        chat.chat_request(asked)
        return chat_work(offer, asked, interactive=interactive, streaming=streaming)
    except InvalidRequest as error:
        raise talk.refused(error) from None


def rerank_work(offer: Offer, body: Mapping[str, Any], *, interactive: bool) -> Work:
    """`body` has passed `rerank.rerank_request`. A model of vectors ranks by their likeness, where it says it does."""
    by_vectors = offer.kind == Model.Kind.EMBEDDINGS and Capability.RERANK in offer.ability
    if not by_vectors:
        of_kind(offer, Model.Kind.RERANK)
    rerank.check_limits(body, context_tokens=offer.context_tokens)
    return Work(
        offer=offer,
        body=rerank.engine_body(body),
        interactive=interactive,
        streaming=False,
        prompt_tokens_ceiling=rerank.prompt_tokens_ceiling(body, offer.context_tokens, in_pairs=not by_vectors),
        max_completion_tokens=0,
        kind=Job.Kind.RERANK.value,
    )


def embeddings_work(offer: Offer, body: Mapping[str, Any], *, interactive: bool) -> Work:
    """`body` has passed `embeddings.embeddings_request`."""
    of_kind(offer, Model.Kind.EMBEDDINGS)
    capabilities.check(body, offer.ability, capabilities.asked_of_embeddings(body))
    embeddings.check_limits(
        body,
        context_tokens=offer.context_tokens,
        vocabulary_tokens=offer.vocabulary_tokens,
        dimensions=offer.dimensions,
        shorter_dimensions=offer.shorter_dimensions,
    )
    return Work(
        offer=offer,
        body=embeddings.engine_body(body, dimensions=offer.dimensions),
        interactive=interactive,
        streaming=False,
        prompt_tokens_ceiling=ceilings.prompt_tokens_ceiling(body, offer.context_tokens),
        max_completion_tokens=0,
    )


def ocr_work(
    offer: Offer, file: File, *, deadline_seconds: float | None = None, tier: str = Tier.STANDARD.value
) -> Work:
    """Text recognition of a stored file: background work, charged by the page."""
    of_kind(offer, Model.Kind.OCR)
    pages = file.pages or 1
    if offer.max_pages and pages > offer.max_pages:
        raise InvalidRequest(
            f"The file has {pages:,} pages and this model takes {offer.max_pages:,} at most. Split it.",
            param="file",
            code="too_many_pages",
        )
    return Work(
        offer=offer,
        body={},
        interactive=False,
        streaming=False,
        prompt_tokens_ceiling=0,
        max_completion_tokens=0,
        pages=pages,
        file_id=file.pk,
        file_type=file.content_type,
        deadline_seconds=deadline_seconds,
        tier=tier,
    )


def background_work(
    offer: Offer, given: Mapping[str, Any], *, deadline_seconds: float | None = None, tier: str | None = None
) -> Work:
    """A chat, completions, embeddings or rerank request that stays queued until its deadline, nobody waiting. `given` has no `model`.

    `tier` None: as the request's own `service_tier` says.
    """
    if given.get("stream"):
        raise InvalidRequest("Jobs are not streamed. Use /v1/chat/completions.", param="stream", code="invalid_value")
    body = {**given, "model": offer.name}
    work = None
    if offer.kind == Model.Kind.CHAT:
        asks_for_text = "prompt" in body and "messages" not in body
        (text.completion_request if asks_for_text else chat.chat_request)(body)
        if tier and body.get("service_tier") in ("default", "standard", "flex") and tier_of(body) != tier:
            raise InvalidRequest(
                f"'tier' is {tier} and 'service_tier' in 'input' says otherwise. Send one of them.",
                param="tier",
                code="invalid_value",
            )
        make = completion_work if asks_for_text else chat_work
        work = make(offer, body, interactive=False, streaming=False)
    elif offer.kind == Model.Kind.RERANK or (offer.kind == Model.Kind.EMBEDDINGS and "documents" in body):
        rerank.rerank_request(body)
        work = rerank_work(offer, body, interactive=False)
    elif offer.kind == Model.Kind.EMBEDDINGS:
        embeddings.embeddings_request(body)
        work = embeddings_work(offer, body, interactive=False)
    if work is not None:
        return replace(work, deadline_seconds=deadline_seconds, tier=tier or work.tier)
    raise InvalidRequest(
        f"The model '{offer.name}' takes a file: send multipart/form-data with 'model' and 'file'.",
        param="file",
        code="missing_required_parameter",
    )


# Refusals for money or limits: kept for the customer's list.
NOTED = (InsufficientCredit, BudgetExceeded, PaymentOwed, TooManyOpenJobs)


def noted(caller: Caller, work: Work, refused: PortalError) -> Plan[None]:
    """Keep a refusal for money or limits for the customer's list."""
    yield from refusals.record(
        organization_id=caller.organization_id,
        api_key_id=caller.api_key_id,
        model_name=work.offer.name,
        code=refused.reason,
        message=refused.message,
    )
