"""The paths of /v1 for the OpenAPI document: their shapes are pydantic's, so they are added to what DRF describes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from apps.batches.door import MOST as MOST_BATCHES
from apps.batches.door import TIMES as BATCH_TIMES
from apps.batches.models import Batch
from apps.core.queries import USUAL
from apps.gateway.files import LISTED, MOST_LISTED, OTHERS, PURPOSES, SECONDS
from apps.gateway.stored import MOST_LISTED as MOST_CHATS
from apps.wire import answers
from apps.wire.batches import BatchRequest
from apps.wire.chat import ChatRequest, StoredChanges
from apps.wire.embeddings import EmbeddingsRequest
from apps.wire.rerank import RerankRequest
from apps.wire.response_shapes import DeletedResponse, InputItems, Response
from apps.wire.responses import ResponsesRequest
from apps.wire.text import CompletionRequest

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


CHAT_ID = {
    "name": "completion",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
    "description": "chatcmpl-…",
}
PAGE_QUERY = [
    {"name": "after", "in": "query", "schema": {"type": "string"}, "description": "The last id of the page before"},
    {
        "name": "limit",
        "in": "query",
        "schema": {"type": "integer", "minimum": 1, "maximum": MOST_CHATS, "default": USUAL},
    },
    {"name": "order", "in": "query", "schema": {"type": "string", "enum": ["asc", "desc"], "default": "asc"}},
]
CHATS_QUERY = [
    *PAGE_QUERY,
    {"name": "model", "in": "query", "schema": {"type": "string"}},
    {
        "name": "metadata",
        "in": "query",
        "style": "deepObject",
        "explode": True,
        "schema": {"type": "object", "additionalProperties": {"type": "string"}},
    },
]
REQUESTS: list[type[BaseModel]] = [
    ChatRequest,
    CompletionRequest,
    EmbeddingsRequest,
    RerankRequest,
    ResponsesRequest,
    StoredChanges,
    BatchRequest,
]
ANSWERS: list[type[BaseModel]] = [
    answers.ChatCompletion,
    answers.ChatCompletionChunk,
    answers.StoredChat,
    answers.StoredChats,
    answers.StoredMessages,
    answers.DeletedChat,
    answers.TextCompletion,
    answers.Embeddings,
    answers.Ranking,
    Response,
    DeletedResponse,
    InputItems,
]
REFUSALS = {
    "400": "A parameter is wrong, or the engine behind the model cannot do it: `param` names it",
    "401": "No key in force",
    "402": "No credit, or a budget is spent; do not try again",
    "403": "The key may not do this",
    "404": "No such model or thing",
    "408": "The body came too slowly",
    "409": "Cancelled, or the Idempotency-Key has another body",
    "413": "The body is too large",
    "415": "The body is not JSON, or is compressed",
    "422": "The form is right, but the content cannot be worked on: `param` names it",
    "429": "A limit is reached: the header Retry-After says how long",
    "500": "A mistake of ours",
    "503": "No free slot in time, or a part of the portal is away",
    "504": "It ran longer than a request may",
}


def add_inference(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """A postprocessing hook of drf-spectacular."""
    shapes: list[tuple[type[BaseModel], Any]] = [(shape, "validation") for shape in REQUESTS]
    shapes += [(shape, "serialization") for shape in ANSWERS]
    _mapping, definitions = models_json_schema(shapes, ref_template=PREFIX + "{model}")
    schemas = result.setdefault("components", {}).setdefault("schemas", {})
    ours = {**definitions["$defs"], "Error": ERROR, "File": FILE, "BatchObject": BATCH}
    if taken := ours.keys() & schemas.keys():
        raise ValueError(f"two shapes of one name: {sorted(taken)}")
    schemas |= ours
    result["paths"] = {
        "/v1/models": {"get": operation("list_models", "Models on offer", answer="Models")},
        "/v1/models/{model}": {
            "get": operation("retrieve_model", "One model", answer="Model") | {"parameters": [NAME]}
        },
        "/v1/chat/completions": {
            "post": operation(
                "chat_completions",
                "Chat, whole or as a stream of events",
                body="ChatRequest",
                answer="ChatCompletion",
                chunk="ChatCompletionChunk",
                description="As OpenAI's. Beyond it, `usage` has `cost_microusd`, `energy_wh`, `energy_quality` and "
                "`carbon_gco2e`, and the answer has `site`. Comments in a stream tell the place in the queue.",
            ),
            "get": operation("list_chat_completions", "Stored chats", answer="StoredChats")
            | {"parameters": CHATS_QUERY},
        },
        "/v1/chat/completions/{completion}": {
            "get": operation("retrieve_chat_completion", "A stored chat", answer="StoredChat")
            | {"parameters": [CHAT_ID]},
            "post": operation("update_chat_completion", "Its metadata", body="StoredChanges", answer="StoredChat")
            | {"parameters": [CHAT_ID]},
            "delete": operation(
                "delete_chat_completion", "Forget question and answer; the job stays", answer="DeletedChat"
            )
            | {"parameters": [CHAT_ID]},
        },
        "/v1/chat/completions/{completion}/messages": {
            "get": operation("list_chat_messages", "What was sent", answer="StoredMessages")
            | {"parameters": [CHAT_ID, *PAGE_QUERY]},
        },
        "/v1/completions": {
            "post": operation(
                "completions",
                "A text continued, whole or as a stream of events",
                body="CompletionRequest",
                answer="TextCompletion",
                chunk="TextCompletion",
                description="OpenAI's legacy shape, for models with the capability `completions`.",
            )
        },
        "/v1/embeddings": {
            "post": operation("embeddings", "Vectors of texts", body="EmbeddingsRequest", answer="Embeddings")
        },
        "/v1/rerank": {
            "post": operation(
                "rerank",
                "Documents by their relevance to a query",
                body="RerankRequest",
                answer="Ranking",
                description="As Jina's and Cohere's clients send it. For models of the kind `rerank`, and those of "
                "vectors with the capability `rerank`.",
            )
        },
        **RESPONSES,
        **FILES,
        **BATCHES,
        **result["paths"],
    }
    for path in result["paths"].values():
        for described in path.values():
            described["responses"].setdefault("default", {"description": "A refusal", **content("Error")})
    return result


def operation(
    name: str, summary: str, *, body: str = "", answer: str = "", chunk: str = "", description: str = ""
) -> dict[str, Any]:
    """`chunk` is the shape of the lines of a stream, where one may be asked for."""
    answered = {"description": "OpenAI API reference, the same path", **(content(answer) if answer else {})}
    if chunk:
        answered["content"]["text/event-stream"] = {
            "schema": {"type": "string", "description": f"Events whose `data` is a {chunk} each, then [DONE]"}
        }
    refusals = {status: {"description": words, **content("Error")} for status, words in REFUSALS.items()}
    return {
        "operationId": name,
        "summary": summary,
        "tags": ["inference"],
        "security": [{"apiKey": []}],
        "responses": {"200": answered, **(refusals if answer else {})},
        **({"description": description} if description else {}),
        **({"requestBody": {"required": True, **content(body)}} if body else {}),
    }


def content(name: str) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": {"$ref": PREFIX + name}}}}


PURPOSE = {"type": "string", "enum": list(LISTED)}
FILE = {
    "type": "object",
    "required": ["id", "object", "bytes", "created_at", "expires_at", "filename", "purpose", "status"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "file"},
        "bytes": {"type": "integer"},
        "created_at": {"type": "integer", "description": "Unix seconds"},
        "expires_at": {"type": ["integer", "null"], "description": "Unix seconds; null: until it is deleted"},
        "filename": {"type": "string"},
        "purpose": PURPOSE,
        "status": {"const": "processed"},
        "status_details": {"type": "null"},
    },
}
FILE_ID = {"name": "file", "in": "path", "required": True, "schema": {"type": "string"}, "description": "file_…"}
UPLOAD = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"type": "string", "enum": list(PURPOSES)},
        "expires_after[anchor]": {"const": "created_at"},
        "expires_after[seconds]": {"type": "integer", "minimum": SECONDS[0], "maximum": SECONDS[-1]},
    },
}
LISTING = {
    "type": "object",
    "required": ["object", "data", "first_id", "last_id", "has_more"],
    "properties": {
        "object": {"const": "list"},
        "data": {"type": "array", "items": {"$ref": f"{PREFIX}File"}},
        "first_id": {"type": ["string", "null"]},
        "last_id": {"type": ["string", "null"]},
        "has_more": {"type": "boolean"},
    },
}
DELETED = {
    "type": "object",
    "required": ["id", "object", "deleted"],
    "properties": {"id": {"type": "string"}, "object": {"const": "file"}, "deleted": {"const": True}},
}
LIST_QUERY = [
    {"name": "purpose", "in": "query", "schema": {"type": "string", "enum": [*LISTED, *OTHERS]}},
    {"name": "order", "in": "query", "schema": {"type": "string", "enum": ["asc", "desc"], "default": "desc"}},
    {"name": "after", "in": "query", "schema": {"type": "string"}, "description": "The last id of the page before"},
    {
        "name": "limit",
        "in": "query",
        "schema": {"type": "integer", "minimum": 1, "maximum": MOST_LISTED, "default": MOST_LISTED},
    },
]


def answering(described: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    answer = {"description": "As OpenAI's", "content": {"application/json": {"schema": schema}}}
    return described | {"tags": ["files"], "responses": {"200": answer}}


FILES = {
    "/v1/files": {
        "get": answering(operation("list_files", "Files, by time"), LISTING) | {"parameters": LIST_QUERY},
        "post": answering(operation("create_file", "Upload a file"), {"$ref": f"{PREFIX}File"})
        | {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": UPLOAD}}}},
    },
    "/v1/files/{file}": {
        "get": answering(operation("retrieve_file", "One file"), {"$ref": f"{PREFIX}File"}) | {"parameters": [FILE_ID]},
        "delete": answering(operation("delete_file", "Delete a file"), DELETED) | {"parameters": [FILE_ID]},
    },
    "/v1/files/{file}/content": {
        "get": operation("file_content", "The bytes of a file")
        | {
            "tags": ["files"],
            "parameters": [FILE_ID],
            "responses": {
                "200": {
                    "description": "As they were sent, in the media type they were sent with",
                    "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
                }
            },
        }
    },
}


def parameter(name: str, schema: dict[str, Any], *, place: str = "query", description: str = "") -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": schema, "description": description}


RESPONSE_ID = parameter("response", {"type": "string"}, place="path", description="resp_…")
RESPONSES: dict[str, Any] = {
    "/v1/responses": {
        "post": operation(
            "create_response",
            "A response: whole, as a stream of typed events, or in the background",
            body="ResponsesRequest",
            answer="Response",
            description="As OpenAI's. Work in the background is a job that waits; its answer is fetched by the id.",
        )
    },
    "/v1/responses/{response}": {
        "get": operation("retrieve_response", "A response that was stored, or its events again", answer="Response")
        | {
            "parameters": [
                RESPONSE_ID,
                parameter("stream", {"type": "boolean"}, description="Only what was made in the background"),
                parameter("starting_after", {"type": "integer", "minimum": 0}, description="A sequence_number"),
            ]
        },
        "delete": operation(
            "delete_response",
            "Delete the texts of a response",
            answer="DeletedResponse",
            description="What still runs is cancelled. The job keeps its times, charge and energy.",
        )
        | {"parameters": [RESPONSE_ID]},
    },
    "/v1/responses/{response}/cancel": {
        "post": operation("cancel_response", "Cancel a response in the background", answer="Response")
        | {"parameters": [RESPONSE_ID]}
    },
    "/v1/responses/{response}/input_items": {
        "get": operation("list_input_items", "What a response was sent", answer="InputItems")
        | {
            "parameters": [
                RESPONSE_ID,
                parameter("limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}),
                parameter("order", {"type": "string", "enum": ["desc", "asc"], "default": "desc"}),
                parameter("after", {"type": "string"}, description="The last id of the page before"),
            ]
        }
    },
}


COUNT = {"type": "integer", "minimum": 0}
AT = {"type": ["integer", "null"], "description": "Unix seconds"}
FILE_OR_NONE = {"type": ["string", "null"], "description": "file_…, once it has ended"}
BATCH = {
    "type": "object",
    "required": [
        "id",
        "object",
        "endpoint",
        "input_file_id",
        "completion_window",
        "status",
        "created_at",
        "expires_at",
        "request_counts",
        "usage",
    ],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "batch"},
        "endpoint": {"type": "string"},
        "model": {"type": ["string", "null"], "description": "Once the file was checked"},
        "errors": {"type": ["object", "null"], "description": "What is wrong with the file, line by line"},
        "input_file_id": {"type": "string"},
        "completion_window": {"type": "string"},
        "status": {"type": "string", "enum": list(Batch.State.values)},
        "output_file_id": FILE_OR_NONE,
        "error_file_id": FILE_OR_NONE,
        "created_at": {"type": "integer", "description": "Unix seconds"},
        **dict.fromkeys(BATCH_TIMES, AT),
        "request_counts": {
            "type": "object",
            "required": ["total", "completed", "failed"],
            "properties": {"total": COUNT, "completed": COUNT, "failed": COUNT},
        },
        "usage": {
            "type": "object",
            "description": "As OpenAI's, with cost_microusd, energy_wh, carbon_gco2e and carbon_market_gco2e",
        },
        "metadata": {"type": ["object", "null"]},
        "hold_microusd": COUNT,
        "max_power_usd_per_mwh": {"type": ["number", "null"]},
    },
}
BATCH_ID = {"name": "batch", "in": "path", "required": True, "schema": {"type": "string"}, "description": "batch_…"}
BATCH_LISTING = {
    **LISTING,
    "properties": {**LISTING["properties"], "data": {"type": "array", "items": {"$ref": f"{PREFIX}BatchObject"}}},  # type: ignore[dict-item]
}
BATCH_QUERY = [
    {"name": "after", "in": "query", "schema": {"type": "string"}, "description": "The last id of the page before"},
    {
        "name": "limit",
        "in": "query",
        "schema": {"type": "integer", "minimum": 1, "maximum": MOST_BATCHES, "default": USUAL},
    },
]


def of_batches(described: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    return answering(described, schema) | {"tags": ["batches"]}


BATCHES = {
    "/v1/batches": {
        "get": of_batches(operation("list_batches", "Batches, newest first"), BATCH_LISTING)
        | {"parameters": BATCH_QUERY},
        "post": of_batches(
            operation(
                "create_batch",
                "Run a file of requests within a day",
                body="BatchRequest",
                description="The file is checked after the answer; nothing is held before all of it was found good.",
            ),
            {"$ref": f"{PREFIX}BatchObject"},
        ),
    },
    "/v1/batches/{batch}": {
        "get": of_batches(operation("retrieve_batch", "One batch"), {"$ref": f"{PREFIX}BatchObject"})
        | {"parameters": [BATCH_ID]}
    },
    "/v1/batches/{batch}/cancel": {
        "post": of_batches(
            operation("cancel_batch", "Stop a batch: what was finished is kept and charged"),
            {"$ref": f"{PREFIX}BatchObject"},
        )
        | {"parameters": [BATCH_ID]}
    },
}
