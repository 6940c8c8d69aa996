"""POST /v1/embeddings: OpenAI API reference, "Create embeddings" (openapi.json f85dbe2)."""

from __future__ import annotations

import base64
import struct
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from apps.core.errors import InvalidRequest
from apps.wire.bodies import Shape, fit
from apps.wire.ceilings import inputs, prompt_tokens_floor
from apps.wire.vocabulary import check_tokens

MAX_INPUTS = 2048
MAX_TOKENS = 300_000  # of one request, all inputs together

Token = Annotated[int, Field(ge=0, lt=2**31)]


def input_kind(value: Any) -> str:
    if not isinstance(value, list):
        return "<text>"
    first = value[0] if value else ""
    if isinstance(first, list):
        return "<token_lists>"
    return "<tokens>" if isinstance(first, int) else "<texts>"


Input = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[list[str], Field(min_length=1, max_length=MAX_INPUTS), Tag("<texts>")]
    | Annotated[list[Token], Field(min_length=1, max_length=MAX_TOKENS), Tag("<tokens>")]
    | Annotated[
        list[Annotated[list[Token], Field(min_length=1)]],
        Field(min_length=1, max_length=MAX_INPUTS),
        Tag("<token_lists>"),
    ],
    Discriminator(input_kind),
]


class EmbeddingsRequest(Shape):
    model: str = Field(min_length=1, max_length=100)
    input: Input
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(default=None, ge=1)
    user: str | None = Field(default=None, max_length=512)


def embeddings_request(body: Mapping[str, Any]) -> EmbeddingsRequest:
    """Raises InvalidRequest for the first thing that is wrong, with the parameter's name."""
    request = fit(EmbeddingsRequest, body)
    for number, item in enumerate(inputs(body["input"])):
        if isinstance(item, str) and not item.strip():
            raise InvalidRequest(
                "An input is empty. Send text.",
                param="input" if isinstance(body["input"], str) else f"input[{number}]",
                code="empty",
            )
    return request


def check_limits(
    body: Mapping[str, Any],
    *,
    context_tokens: int,
    vocabulary_tokens: int,
    dimensions: int,
    shorter_dimensions: Collection[int] = (),
) -> None:
    """Refuse what cannot fit. 0 means no limit is known. Vectors are cut only to sizes their model was made for."""
    floor = prompt_tokens_floor(body)
    if context_tokens and floor > context_tokens:
        raise InvalidRequest(
            f"This model reads at most {context_tokens:,} tokens an input and one has at least {floor:,}. Split it.",
            param="input",
            code="context_length_exceeded",
        )
    if sum(prompt_tokens_floor({"input": item}) for item in inputs(body["input"])) > MAX_TOKENS:
        raise InvalidRequest(
            f"A request may have at most {MAX_TOKENS:,} tokens in all inputs together. Send several.",
            param="input",
            code="invalid_value",
        )
    check_tokens(body["input"], vocabulary_tokens, param="input")
    asked = body.get("dimensions")
    if asked is not None and asked not in {dimensions, *shorter_dimensions}:
        sizes = ", ".join(str(size) for size in sorted({dimensions, *shorter_dimensions}))
        raise InvalidRequest(
            f"This model's vectors have {sizes} dimensions; leave 'dimensions' out or ask for that."
            if not shorter_dimensions
            else f"This model's vectors may have {sizes} dimensions; ask for one of these or leave 'dimensions' out.",
            param="dimensions",
            code="invalid_value",
        )


def engine_body(body: Mapping[str, Any], *, dimensions: int) -> dict[str, Any]:
    """`dimensions` only where the vectors are to be cut."""
    asked = body.get("dimensions")
    return {"input": body["input"]} | ({"dimensions": asked} if asked is not None and asked != dimensions else {})


def answer(
    *, model: str, data: list[dict[str, Any]], usage: Mapping[str, Any], encoding_format: str | None
) -> dict[str, Any]:
    """`data` as the runner gives it: [{index, embedding}], vectors in base64 of little-endian float32."""
    return {
        "object": "list",
        "model": model,
        "data": [
            {
                "object": "embedding",
                "index": item["index"],
                "embedding": item["embedding"] if encoding_format == "base64" else floats(item["embedding"]),
            }
            for item in sorted(data, key=lambda item: int(item["index"]))
        ],
        "usage": dict(usage),
    }


def floats(text: str) -> list[float]:
    raw = base64.b64decode(text)
    return list(struct.unpack(f"<{len(raw) // 4}f", raw))
