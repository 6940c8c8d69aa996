"""POST /v1/chat/completions: OpenAI API reference, "Create chat completion" (openapi.json f85dbe2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from apps.core.errors import InvalidRequest
from apps.wire import images
from apps.wire.bodies import Shape, fit
from apps.wire.ceilings import completion_tokens_limit, prompt_tokens_floor, texts

MAX_CHOICES = 128
MAX_TOOLS = 128
MAX_STOPS = 4

UNSUPPORTED = {
    "audio": "",
    "function_call": "Use 'tool_choice'.",
    "functions": "Use 'tools'.",
    "moderation": "",
    "prediction": "",
    "prompt_cache_options": "",
    "prompt_cache_retention": "",
    "web_search_options": "",
}
OTHER_PARTS = {
    "image_url": "only a user's message may have images",
    "input_audio": "no model here reads audio; send text",
    "file": "no model here reads files in messages; send text, or the file to a text recognition model through /api/v1/jobs",
}


def word(value: Any, name: str) -> str:
    """The text in a field that tells shapes apart; empty where it is missing or strange."""
    given = value.get(name) if isinstance(value, Mapping) else None
    return given if isinstance(given, str) else ""


def _text_or_parts(value: Any) -> str:
    return "<parts>" if isinstance(value, list) else "<text>"


class TextPart(Shape):
    type: Literal["text"]
    text: str


class RefusalPart(Shape):
    type: Literal["refusal"]
    refusal: str


class ImageURL(Shape):
    """A data URL; `detail` is a hint to the engine."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None

    @field_validator("url")
    @classmethod
    def is_an_image(cls, url: str) -> str:
        if wrong := images.wrong_with(url):
            raise PydanticCustomError("image", "{wrong}", {"wrong": wrong})  # its text may have braces of its own
        return url


class ImagePart(Shape):
    type: Literal["image_url"]
    image_url: ImageURL


class OtherPart(Shape):
    """A part of a kind that exists elsewhere: refused with a sentence that names it."""

    @model_validator(mode="before")
    @classmethod
    def refuse(cls, value: Any) -> Any:
        if instead := OTHER_PARTS.get(word(value, "type")):
            raise PydanticCustomError("unsupported", instead)  # one of ours, not a template
        raise PydanticCustomError("part_type", "a part should be an object with 'type' \"text\" and 'text'")


def _part(value: Any) -> str:
    kind = word(value, "type")
    return f"<{kind}>" if kind in {"text", "refusal"} else "<other>"


Part = Annotated[
    Annotated[TextPart, Tag("<text>")]
    | Annotated[RefusalPart, Tag("<refusal>")]
    | Annotated[SkipJsonSchema[OtherPart], Tag("<other>")],
    Discriminator(_part),
]
UserPart = Annotated[
    Annotated[TextPart, Tag("<text>")]
    | Annotated[ImagePart, Tag("<image_url>")]
    | Annotated[SkipJsonSchema[OtherPart], Tag("<other>")],
    Discriminator(lambda value: f"<{kind}>" if (kind := word(value, "type")) in {"text", "image_url"} else "<other>"),
]
Content = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[Part], Field(min_length=1), Tag("<parts>")],
    Discriminator(_text_or_parts),
]


UserContent = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[UserPart], Field(min_length=1), Tag("<parts>")],
    Discriminator(_text_or_parts),
]


class FunctionCall(Shape):
    name: str
    arguments: str


class ToolCall(Shape):
    id: str
    type: Literal["function"]
    function: FunctionCall


class SystemMessage(Shape):
    role: Literal["system", "developer"]
    content: Content
    name: str | None = None


class UserMessage(Shape):
    role: Literal["user"]
    content: UserContent
    name: str | None = None


class AssistantMessage(Shape):
    """The fields on reasoning come back from clients that repeat what an engine answered."""

    role: Literal["assistant"]
    content: Annotated[Content | None, Field()] = None
    name: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCall] | None = None
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None

    @model_validator(mode="after")
    def says_something(self) -> AssistantMessage:
        if self.content is None and not self.tool_calls and self.refusal is None:
            raise PydanticCustomError("empty", "an assistant message needs 'content' or 'tool_calls'")
        return self


class ToolMessage(Shape):
    role: Literal["tool"]
    content: Content
    tool_call_id: str
    name: str | None = None


class OtherMessage(Shape):
    @model_validator(mode="before")
    @classmethod
    def refuse(cls, value: Any) -> Any:
        raise PydanticCustomError(
            "message_type", "a message should be an object whose 'role' is system, developer, user, assistant or tool"
        )


def _message(value: Any) -> str:
    role = word(value, "role")
    if role in {"system", "developer"}:
        return "<system>"
    return f"<{role}>" if role in {"user", "assistant", "tool"} else "<other>"


Message = Annotated[
    Annotated[SystemMessage, Tag("<system>")]
    | Annotated[UserMessage, Tag("<user>")]
    | Annotated[AssistantMessage, Tag("<assistant>")]
    | Annotated[ToolMessage, Tag("<tool>")]
    | Annotated[SkipJsonSchema[OtherMessage], Tag("<other>")],
    Discriminator(_message),
]


class Function(Shape):
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Shape):
    type: Literal["function"]
    function: Function


class NamedFunction(Shape):
    name: str


class NamedTool(Shape):
    type: Literal["function"]
    function: NamedFunction


class AllowedTools(Shape):
    mode: Literal["auto", "required"]
    tools: list[NamedTool] = Field(min_length=1, max_length=MAX_TOOLS)


class AllowedToolChoice(Shape):
    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


class JSONSchema(Shape):
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class TextFormat(Shape):
    type: Literal["text"]


class JSONObjectFormat(Shape):
    type: Literal["json_object"]


class JSONSchemaFormat(Shape):
    type: Literal["json_schema"]
    json_schema: JSONSchema


class StreamOptions(Shape):
    """Obfuscation pads chunks against listeners on the wire; false is what happens, true is accepted and not done."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("<word>")]
    | Annotated[NamedTool, Tag("<named>")]
    | Annotated[AllowedToolChoice, Tag("<allowed>")],
    Discriminator(
        lambda value: (
            ("<allowed>" if word(value, "type") == "allowed_tools" else "<named>")
            if isinstance(value, dict)
            else "<word>"
        )
    ),
]
ResponseFormat = Annotated[
    Annotated[TextFormat, Tag("<text>")]
    | Annotated[JSONObjectFormat, Tag("<json_object>")]
    | Annotated[JSONSchemaFormat, Tag("<json_schema>")],
    Discriminator(
        lambda value: f"<{word(value, 'type')[:20]}>",
        custom_error_type="format_type",
        custom_error_message="it should be an object whose 'type' is text, json_object or json_schema",
    ),
]
Stop = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[str], Field(max_length=MAX_STOPS), Tag("<parts>")],
    Discriminator(_text_or_parts),
]
LogitBias = Annotated[
    dict[Annotated[str, Field(pattern=r"^[0-9]{1,10}$")], Annotated[float, Field(ge=-100, le=100)]],
    Field(max_length=1024),
]
MetadataKey = Annotated[str, Field(max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)]


class ChatRequest(Shape):
    model: str = Field(min_length=1, max_length=100)
    messages: list[Message] = Field(min_length=1, max_length=10_000)
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    stop: Stop | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    tools: list[Tool] | None = Field(default=None, min_length=1, max_length=MAX_TOOLS)
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    modalities: list[Literal["text"]] | None = None
    logit_bias: LogitBias | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    user: str | None = Field(default=None, max_length=512)
    safety_identifier: str | None = Field(default=None, max_length=512)
    prompt_cache_key: str | None = Field(default=None, max_length=512)
    metadata: Metadata | None = None
    store: bool | None = None
    service_tier: Literal["auto", "default", "standard", "flex"] | None = None


class StoredChanges(Shape):
    """POST /v1/chat/completions/{completion_id}."""

    metadata: Metadata | None


# What the engine gets. The rest is between the customer and the portal.
FORWARDED = (
    "messages",
    "n",
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "stop",
    "logprobs",
    "top_logprobs",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "logit_bias",
    "reasoning_effort",
    "verbosity",
)


def chat_request(body: Mapping[str, Any]) -> ChatRequest:
    """Raises InvalidRequest for the first thing that is wrong, with the parameter's name."""
    request = fit(ChatRequest, body, unsupported=UNSUPPORTED)
    pictures = sum(1 for _ in images.parts(body["messages"]))
    if pictures > images.MAX_IMAGES:
        raise InvalidRequest(
            f"A request may have at most {images.MAX_IMAGES} images and this has {pictures:,}. Send several.",
            param="messages",
            code="invalid_value",
        )
    if not pictures and not any(
        text.strip() for message in body["messages"] for text in texts({**message, "role": ""})
    ):
        raise InvalidRequest("The messages are empty. Send at least one with text.", param="messages", code="empty")
    if request.top_logprobs is not None and not request.logprobs:
        raise InvalidRequest("'top_logprobs' needs 'logprobs' to be true.", param="top_logprobs", code="invalid_value")
    if request.stream_options is not None and not request.stream:
        raise InvalidRequest(
            "'stream_options' needs 'stream' to be true.", param="stream_options", code="invalid_value"
        )
    if request.tool_choice is not None and request.tools is None:
        raise InvalidRequest("'tool_choice' needs 'tools'.", param="tool_choice", code="invalid_value")
    if request.parallel_tool_calls is not None and request.tools is None:
        raise InvalidRequest("'parallel_tool_calls' needs 'tools'.", param="parallel_tool_calls", code="invalid_value")
    known = {tool.function.name for tool in request.tools or ()}
    if not named(request.tool_choice) <= known:
        raise InvalidRequest(
            "'tool_choice' names a function that is not in 'tools'.", param="tool_choice", code="invalid_value"
        )
    return request


def named(choice: Any) -> set[str]:
    """The functions a tool choice names."""
    if isinstance(choice, AllowedToolChoice):
        return {tool.function.name for tool in choice.allowed_tools.tools}
    return {choice.function.name} if isinstance(choice, NamedTool) else set()


def check_limits(body: Mapping[str, Any], *, context_tokens: int, max_output_tokens: int) -> None:
    """Refuse what cannot fit the model's context, or asks for more than it may write. 0 means no limit is known."""
    floor = prompt_tokens_floor(body)
    if context_tokens and floor > context_tokens:
        raise InvalidRequest(
            f"This model's context is {context_tokens:,} tokens and the messages have at least {floor:,}. Shorten them.",
            param="messages",
            code="context_length_exceeded",
        )
    if max_output_tokens and completion_tokens_limit(body, max_output_tokens) > max_output_tokens:
        param = "max_tokens" if body.get("max_completion_tokens") is None else "max_completion_tokens"
        raise InvalidRequest(
            f"This model writes at most {max_output_tokens:,} tokens; ask for that or less in '{param}'.",
            param=param,
            code="invalid_value",
        )


def engine_body(body: Mapping[str, Any], *, max_output_tokens: int) -> dict[str, Any]:
    """What the order carries: only fields the engine answers for, the limit of each choice always named.

    Engines of this kind know `max_tokens` and the role `system`; `developer` is its newer name.
    """
    forwarded = {name: body[name] for name in FORWARDED if body.get(name) is not None}
    forwarded["messages"] = [
        {**message, "role": "system"} if message["role"] == "developer" else message for message in body["messages"]
    ]
    choice = forwarded.get("tool_choice")
    if isinstance(choice, dict) and choice["type"] == "allowed_tools":  # engines do not know it: they get those alone
        allowed = {tool["function"]["name"] for tool in choice["allowed_tools"]["tools"]}
        forwarded["tools"] = [tool for tool in forwarded["tools"] if tool["function"]["name"] in allowed]
        forwarded["tool_choice"] = choice["allowed_tools"]["mode"]
    limit = completion_tokens_limit(body, max_output_tokens)
    if limit:
        forwarded["max_tokens"] = limit
    return forwarded
