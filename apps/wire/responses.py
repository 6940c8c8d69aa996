"""POST /v1/responses: OpenAI API reference, "Create a model response" (openai-python 3.52.0, types/responses)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from apps.core.errors import InvalidRequest
from apps.wire.bodies import Shape, fit
from apps.wire.chat import MAX_TOOLS, JSONObjectFormat, Metadata, RefusalPart, TextFormat, word

MAX_ITEMS = 10_000
LOGPROBS = "message.output_text.logprobs"
IMAGE_URLS = "message.input_image.image_url"  # input items have them whether asked for or not
ENCRYPTED = "reasoning.encrypted_content"  # no reasoning here is: asked for, and not there, as of models without any

UNSUPPORTED = {
    "access_programs": "",
    "context_management": "",
    "conversation": "Use 'previous_response_id', or send the items again.",
    "image": "",
    "max_tool_calls": "It counts calls of built-in tools, and there are none here.",
    "moderation": "",
    "prompt": "Send 'instructions' and 'input'.",
    "prompt_cache_options": "",
    "prompt_cache_retention": "",
}


def _text_or_parts(value: Any) -> str:
    return "<parts>" if isinstance(value, list) else "<text>"


class InputText(Shape):
    type: Literal["input_text"]
    text: str


class InputImage(Shape):
    """By URL (a data URL); stored files are no images here."""

    type: Literal["input_image"]
    image_url: str
    detail: Literal["auto", "low", "high", "original"] | None = None
    file_id: None = None


class OutputText(Shape):
    """Comes back from clients that repeat what was answered; only its text is read again."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class OtherPart(Shape):
    @model_validator(mode="before")
    @classmethod
    def refuse(cls, value: Any) -> Any:
        kind = word(value, "type")[:40]
        if kind in {"input_file", "input_audio"}:
            raise PydanticCustomError("unsupported", "parts of type '{kind}' are not supported here", {"kind": kind})
        raise PydanticCustomError(
            "part_type",
            'a part should be an object with \'type\' "input_text" or "input_image", or of the assistant '
            '"output_text" or "refusal"',
        )


def _given(value: Any) -> str:
    kind = word(value, "type")
    return f"<{kind}>" if kind in {"input_text", "input_image"} else "<other>"


def _answered(value: Any) -> str:
    kind = word(value, "type")
    return f"<{kind}>" if kind in {"output_text", "refusal"} else "<other>"


GivenPart = Annotated[
    Annotated[InputText, Tag("<input_text>")]
    | Annotated[InputImage, Tag("<input_image>")]
    | Annotated[SkipJsonSchema[OtherPart], Tag("<other>")],
    Discriminator(_given),
]
AnsweredPart = Annotated[
    Annotated[OutputText, Tag("<output_text>")]
    | Annotated[RefusalPart, Tag("<refusal>")]
    | Annotated[SkipJsonSchema[OtherPart], Tag("<other>")],
    Discriminator(_answered),
]
Given = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[GivenPart], Field(min_length=1), Tag("<parts>")],
    Discriminator(_text_or_parts),
]
Answered = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[AnsweredPart], Field(min_length=1), Tag("<parts>")],
    Discriminator(_text_or_parts),
]
ItemId = Annotated[str, Field(min_length=1, max_length=128)]
Status = Literal["in_progress", "completed", "incomplete"]


class InputMessage(Shape):
    role: Literal["user", "system", "developer"]
    content: Given
    type: Literal["message"] | None = None
    id: ItemId | None = None
    status: Status | None = None


class AnsweredMessage(Shape):
    role: Literal["assistant"]
    content: Answered
    type: Literal["message"] | None = None
    id: ItemId | None = None
    status: Status | None = None
    phase: None = None


class FunctionCallItem(Shape):
    type: Literal["function_call"]
    call_id: str = Field(min_length=1, max_length=128)
    name: str = Field(min_length=1, max_length=64)
    arguments: str
    id: ItemId | None = None
    status: Status | None = None


class FunctionCallOutputItem(Shape):
    type: Literal["function_call_output"]
    call_id: str = Field(min_length=1, max_length=128)
    output: Given
    id: ItemId | None = None
    status: Status | None = None


class SummaryText(Shape):
    type: Literal["summary_text"]
    text: str


class ReasoningText(Shape):
    type: Literal["reasoning_text"]
    text: str


class ReasoningItem(Shape):
    """The text of an engine's reasoning goes back to it; what is encrypted only its maker can read."""

    type: Literal["reasoning"]
    summary: list[SummaryText] = []
    content: list[ReasoningText] | None = None
    encrypted_content: None = None
    id: ItemId | None = None
    status: Status | None = None


class CustomToolCallItem(Shape):
    type: Literal["custom_tool_call"]
    call_id: str = Field(min_length=1, max_length=128)
    name: str = Field(min_length=1, max_length=64)
    input: str
    id: ItemId | None = None
    status: Status | None = None


class CustomToolCallOutputItem(Shape):
    type: Literal["custom_tool_call_output"]
    call_id: str = Field(min_length=1, max_length=128)
    output: Given
    id: ItemId | None = None
    status: Status | None = None


class OtherItem(Shape):
    @model_validator(mode="before")
    @classmethod
    def refuse(cls, value: Any) -> Any:
        kind = word(value, "type")[:40]
        if kind and kind != "message":
            raise PydanticCustomError(
                "unsupported",
                "items of type '{kind}' are not supported here; send messages, reasoning, and function_call or "
                "custom_tool_call with its output",
                {"kind": kind},
            )
        raise PydanticCustomError(
            "item_type", "a message should be an object whose 'role' is user, assistant, system or developer"
        )


ITEMS = {"function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output", "reasoning"}


def _item(value: Any) -> str:
    kind = word(value, "type")
    if kind in ITEMS:
        return f"<{kind}>"
    role = word(value, "role")
    if kind not in {"", "message"} or role not in {"user", "system", "developer", "assistant"}:
        return "<other>"
    return "<answered>" if role == "assistant" else "<message>"


Item = Annotated[
    Annotated[InputMessage, Tag("<message>")]
    | Annotated[AnsweredMessage, Tag("<answered>")]
    | Annotated[FunctionCallItem, Tag("<function_call>")]
    | Annotated[FunctionCallOutputItem, Tag("<function_call_output>")]
    | Annotated[CustomToolCallItem, Tag("<custom_tool_call>")]
    | Annotated[CustomToolCallOutputItem, Tag("<custom_tool_call_output>")]
    | Annotated[ReasoningItem, Tag("<reasoning>")]
    | Annotated[SkipJsonSchema[OtherItem], Tag("<other>")],
    Discriminator(_item),
]
Input = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[Item], Field(min_length=1, max_length=MAX_ITEMS), Tag("<parts>")],
    Discriminator(_text_or_parts),
]


class FunctionTool(Shape):
    type: Literal["function"]
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class CustomTool(Shape):
    """A tool that takes free text: to an engine it is a function of one text. A grammar no engine here would keep to."""

    type: Literal["custom"]
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    format: TextFormat | None = None

    @field_validator("format", mode="before")
    @classmethod
    def is_text(cls, value: Any) -> Any:
        if word(value, "type") == "grammar":
            raise PydanticCustomError(
                "unsupported",
                "no engine here keeps to a grammar; leave 'format' out, or offer a tool of type \"function\"",
            )
        return value


class OtherTool(Shape):
    """What runs at the provider elsewhere, or is known to its models alone."""

    type: str

    @field_validator("type", mode="before")
    @classmethod
    def refuse(cls, value: Any) -> Any:
        raise PydanticCustomError(
            "unsupported",
            'the tool \'{kind}\' is not offered here; only tools of type "function" and "custom", which the client runs, are',
            {"kind": str(value)[:40]},
        )


class ChosenFunction(Shape):
    type: Literal["function", "custom"]
    name: str


class OtherChoice(Shape):
    @model_validator(mode="before")
    @classmethod
    def refuse(cls, value: Any) -> Any:
        raise PydanticCustomError(
            "unsupported",
            'it should be "none", "auto", "required" or an object with \'type\' "function" or "custom" and \'name\'',
        )


Tool = Annotated[
    Annotated[FunctionTool, Tag("<function>")]
    | Annotated[CustomTool, Tag("<custom>")]
    | Annotated[SkipJsonSchema[OtherTool], Tag("<other>")],
    Discriminator(lambda value: f"<{kind}>" if (kind := word(value, "type")) in {"function", "custom"} else "<other>"),
]


def _choice(value: Any) -> str:
    if isinstance(value, str):
        return "<word>"
    return "<named>" if word(value, "type") in {"function", "custom"} else "<other>"


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("<word>")]
    | Annotated[ChosenFunction, Tag("<named>")]
    | Annotated[SkipJsonSchema[OtherChoice], Tag("<other>")],
    Discriminator(_choice),
]


class SchemaFormat(Shape):
    type: Literal["json_schema"]
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


Format = Annotated[
    Annotated[TextFormat, Tag("<text>")]
    | Annotated[JSONObjectFormat, Tag("<json_object>")]
    | Annotated[SchemaFormat, Tag("<json_schema>")],
    Discriminator(
        lambda value: f"<{word(value, 'type')[:20]}>",
        custom_error_type="format_type",
        custom_error_message="it should be an object whose 'type' is text, json_object or json_schema",
    ),
]


class TextConfig(Shape):
    format: Format | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class Reasoning(Shape):
    """A summary may be asked for. None is made: an engine here gives its reasoning as it is, or none, and `summary` is empty."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    summary: Literal["auto", "concise", "detailed", "none"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


class ResponseStreamOptions(Shape):
    """Obfuscation pads events against listeners on the wire; false is what happens, true is accepted and not done."""

    include_obfuscation: bool | None = None


# What Codex says about itself; it changes nothing and is not kept.
ClientMetadata = Annotated[dict[str, str], Field(max_length=64)]


class ResponsesRequest(Shape):
    model: str = Field(min_length=1, max_length=100)
    input: Input
    instructions: str | None = None
    previous_response_id: str | None = Field(default=None, min_length=1, max_length=128)
    max_output_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    include: (
        list[Literal["message.output_text.logprobs", "message.input_image.image_url", "reasoning.encrypted_content"]]
        | None
    ) = None
    tools: list[Tool] | None = Field(default=None, max_length=MAX_TOOLS)
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    truncation: Literal["disabled"] | None = None
    background: bool | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    service_tier: Literal["auto", "default", "standard", "flex"] | None = None
    metadata: Metadata | None = None
    user: str | None = Field(default=None, max_length=512)
    safety_identifier: str | None = Field(default=None, max_length=512)
    prompt_cache_key: str | None = Field(default=None, max_length=512)
    client_metadata: ClientMetadata | None = None

    @property
    def kept(self) -> bool:
        """Can it be had again by its id?"""
        return self.store is not False


def custom_names(body: Mapping[str, Any]) -> frozenset[str]:
    """The tools of a request that take free text."""
    return frozenset(tool["name"] for tool in body.get("tools") or () if tool["type"] == "custom")


def responses_request(body: Mapping[str, Any]) -> ResponsesRequest:
    """Raises InvalidRequest for the first thing that is wrong, with the parameter's name."""
    request = fit(ResponsesRequest, body, unsupported=UNSUPPORTED)
    if request.stream_options is not None and not request.stream:
        raise InvalidRequest(
            "'stream_options' needs 'stream' to be true.", param="stream_options", code="invalid_value"
        )
    if request.top_logprobs and LOGPROBS not in (request.include or ()):
        raise InvalidRequest(
            f"'top_logprobs' needs '{LOGPROBS}' in 'include'.", param="top_logprobs", code="invalid_value"
        )
    names = [tool.name for tool in request.tools or () if not isinstance(tool, OtherTool)]
    if custom_names(body) and (twice := next((name for name in names if names.count(name) > 1), None)):
        raise InvalidRequest(
            f"Two tools have the name '{twice}'. Each must have its own.", param="tools", code="invalid_value"
        )
    if request.background and not request.kept:
        raise InvalidRequest(
            "'background' needs 'store': the answer is fetched by its id.", param="background", code="invalid_value"
        )
    return request
