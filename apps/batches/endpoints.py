"""Which of /v1 a batch may be for, and what a row of each answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from apps.catalog.models import Model
from apps.catalog.offers import Offer
from apps.core.errors import InvalidRequest
from apps.dispatch import intake
from apps.dispatch.work import Work
from apps.runner.protocol import RowResult, Usage
from apps.wire import chat as chats
from apps.wire import completions, embeddings
from apps.wire.completions import Completion


@dataclass(frozen=True, slots=True)
class Answered:
    """A row that succeeded, and what its answer is made of. `usage` is the official object with our additions."""

    row_id: UUID
    model: str
    result: RowResult
    usage: Mapping[str, Any]
    site: str | None


@dataclass(frozen=True, slots=True)
class Endpoint:
    kind: str
    work: Callable[[Offer, Mapping[str, Any]], Work]
    answer: Callable[[Answered], dict[str, Any]]


def chat_work(offer: Offer, body: Mapping[str, Any]) -> Work:
    if body.get("store"):
        raise InvalidRequest(
            "Answers of a batch are in its file. Leave 'store' out.", param="store", code="invalid_value"
        )
    chats.chat_request(body)
    return intake.chat_work(offer, body, interactive=False, streaming=False)


def embeddings_work(offer: Offer, body: Mapping[str, Any]) -> Work:
    embeddings.embeddings_request(body)
    return intake.embeddings_work(offer, body, interactive=False)


def chat(row: Answered) -> dict[str, Any]:
    completion = Completion(job_id=row.row_id, model=row.model, service_tier="default")
    completion.gather([row.result.choices or []])
    return completion.whole(row.usage, row.site)


def vectors(row: Answered) -> dict[str, Any]:
    """Files hold vectors as numbers, whatever the line asked: so does the official output."""
    usage = {name: value for name, value in row.usage.items() if not name.startswith("completion_")}
    data = (row.result.result or {}).get("data") or []
    return embeddings.answer(model=row.model, data=data, usage=usage, encoding_format="float")


ENDPOINTS = {
    "/v1/chat/completions": Endpoint(Model.Kind.CHAT, chat_work, chat),
    "/v1/embeddings": Endpoint(Model.Kind.EMBEDDINGS, embeddings_work, vectors),
}


def usage_of(counted: Usage, settled: Mapping[str, Any]) -> dict[str, Any]:
    return completions.usage(**counted.model_dump(exclude={"pages"}), settled=settled)
