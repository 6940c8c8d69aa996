"""POST /v1/rerank: as Jina's and Cohere's clients send it, and as vLLM serves it. OpenAI has no such endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from pydantic import Discriminator, Field, Tag

from apps.core.errors import InvalidRequest
from apps.core.ids import public
from apps.wire.bodies import Shape, fit
from apps.wire.ceilings import LONGEST_TOKEN_BYTES, MESSAGE_TOKENS, capped

MAX_DOCUMENTS = 1000
PAIR_TOKENS = 2 * MESSAGE_TOKENS  # separators around a query and a document that are read together


class TextDocument(Shape):
    text: str


Document = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[TextDocument, Tag("<object>")],
    Discriminator(lambda value: "<object>" if isinstance(value, dict) else "<text>"),
]


class RerankRequest(Shape):
    model: str = Field(min_length=1, max_length=100)
    query: str
    documents: list[Document] = Field(min_length=1, max_length=MAX_DOCUMENTS)
    top_n: int | None = Field(default=None, ge=1)
    return_documents: bool | None = None
    user: str | None = Field(default=None, max_length=512)


def rerank_request(body: Mapping[str, Any]) -> RerankRequest:
    """Raises InvalidRequest for the first thing that is wrong, with the parameter's name."""
    request = fit(RerankRequest, body)
    if not request.query.strip():
        raise InvalidRequest("The query is empty. Send text.", param="query", code="empty")
    for number, text in enumerate(texts(body)):
        if not text.strip():
            raise InvalidRequest("A document is empty. Send text.", param=f"documents[{number}]", code="empty")
    return request


def texts(body: Mapping[str, Any]) -> list[str]:
    return [document if isinstance(document, str) else document["text"] for document in body["documents"]]


def check_limits(body: Mapping[str, Any], *, context_tokens: int) -> None:
    """Refuse what cannot fit. 0 means no limit is known."""
    for param, text in [("query", body["query"]), *((f"documents[{n}]", text) for n, text in enumerate(texts(body)))]:
        floor = len(text.encode()) // LONGEST_TOKEN_BYTES
        if context_tokens and floor > context_tokens:
            raise InvalidRequest(
                f"This model reads at most {context_tokens:,} tokens at a time and this has at least {floor:,}. Split it.",
                param=param,
                code="context_length_exceeded",
            )


def prompt_tokens_ceiling(body: Mapping[str, Any], context_tokens: int, *, in_pairs: bool) -> int:
    """At most so many tokens are read. `in_pairs`: the query anew with every document; else each text once."""
    query, documents = len(body["query"].encode()), [len(text.encode()) for text in texts(body)]
    if in_pairs:
        return sum(capped(query + document + PAIR_TOKENS, context_tokens) for document in documents)
    return sum(capped(size + MESSAGE_TOKENS, context_tokens) for size in (query, *documents))


def engine_body(body: Mapping[str, Any]) -> dict[str, Any]:
    """Every document is ranked; how many are shown is for the answer."""
    return {"query": body["query"], "documents": texts(body)}


def answer(
    *,
    job_id: UUID,
    model: str,
    results: list[dict[str, Any]],
    documents: list[str] | None,
    top_n: int | None,
    usage: Mapping[str, Any],
) -> dict[str, Any]:
    """`results` as the runner gives them: [{index, relevance_score}], the best first. `documents` None: not returned."""
    return {
        "id": public("rerank", job_id).replace("_", "-", 1),
        "object": "list",
        "model": model,
        "results": shown(results, documents=documents, top_n=top_n),
        "usage": dict(usage),
        "meta": {"billed_units": {"input_tokens": usage["prompt_tokens"]}},
    }


def shown(results: list[dict[str, Any]], *, documents: list[str] | None, top_n: int | None) -> list[dict[str, Any]]:
    """The best `top_n` of them, with their texts where `documents` are given."""
    return [
        {
            "index": item["index"],
            "relevance_score": item["relevance_score"],
            **({"document": {"text": documents[item["index"]]}} if documents is not None else {}),
        }
        for item in results[: top_n or None]
    ]
