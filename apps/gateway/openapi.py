"""The paths of /v1 for the OpenAPI document: their shapes are pydantic's, so they are added to what DRF describes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from apps.wire.chat import ChatRequest
from apps.wire.embeddings import EmbeddingsRequest

PREFIX = "#/components/schemas/"
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
NAME = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}, "description": "publisher/name"}


def add_inference(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """A postprocessing hook of drf-spectacular."""
    shapes: list[tuple[type[BaseModel], Any]] = [(ChatRequest, "validation"), (EmbeddingsRequest, "validation")]
    _mapping, definitions = models_json_schema(shapes, ref_template=PREFIX + "{model}")
    schemas = result.setdefault("components", {}).setdefault("schemas", {})
    schemas |= {**definitions["$defs"], "Error": ERROR}
    result["paths"] = {
        "/v1/models": {"get": operation("list_models", "Models on offer")},
        "/v1/models/{model}": {"get": operation("retrieve_model", "One model") | {"parameters": [NAME]}},
        "/v1/chat/completions": {
            "post": operation(
                "chat_completions",
                "Chat, whole or as a stream of events",
                body="ChatRequest",
                description="As OpenAI's. Beyond it, `usage` has `cost_microusd`, `energy_wh`, `energy_quality` and "
                "`carbon_gco2e`, and the answer has `site`. Comments in a stream tell the place in the queue.",
            )
        },
        "/v1/embeddings": {"post": operation("embeddings", "Vectors of texts", body="EmbeddingsRequest")},
        **result["paths"],
    }
    for path in result["paths"].values():
        for described in path.values():
            described["responses"].setdefault("default", {"description": "A refusal", **content("Error")})
    return result


def operation(name: str, summary: str, *, body: str = "", description: str = "") -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "tags": ["inference"],
        "security": [{"apiKey": []}],
        "responses": {"200": {"description": "OpenAI API reference, the same path"}},
        **({"description": description} if description else {}),
        **({"requestBody": {"required": True, **content(body)}} if body else {}),
    }


def content(name: str) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": {"$ref": PREFIX + name}}}}
