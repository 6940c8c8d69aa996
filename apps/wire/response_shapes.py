"""What /v1/responses answers, for the OpenAPI document: openai-python 3.52.0, types/responses, and what is ours."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from apps.wire.responses import CustomTool, FunctionTool, SummaryText, ToolChoice

Status = Literal["in_progress", "completed", "incomplete"]


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class OutputTextPart(Answer):
    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[dict[str, Any]] = Field(description="Where `include` asked for them, in the first answer alone")


class OutputRefusalPart(Answer):
    type: Literal["refusal"]
    refusal: str


class OutputReasoningPart(Answer):
    type: Literal["reasoning_text"]
    text: str


class OutputMessage(Answer):
    id: str
    type: Literal["message"]
    status: Status
    role: Literal["assistant"]
    content: list[OutputTextPart | OutputRefusalPart]


class OutputFunctionCall(Answer):
    id: str
    type: Literal["function_call"]
    status: Status
    call_id: str
    name: str
    arguments: str


class OutputCustomToolCall(Answer):
    id: str
    type: Literal["custom_tool_call"]
    status: Status
    call_id: str
    name: str
    input: str


class OutputReasoning(Answer):
    """What an engine writes before its answer. It counts as output."""

    id: str
    type: Literal["reasoning"]
    status: Status
    summary: list[SummaryText]
    content: list[OutputReasoningPart]


class InputTokensDetails(Answer):
    cached_tokens: int
    cache_write_tokens: int


class OutputTokensDetails(Answer):
    reasoning_tokens: int


class ResponseUsage(Answer):
    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int
    cost_microusd: int | None = Field(default=None, description="What this was charged; 1,000,000 are one dollar")
    energy_wh: float | None = None
    energy_quality: str | None = None
    carbon_gco2e: float | None = None
    carbon_market_gco2e: float | None = None


class ResponseError(Answer):
    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str
    param: str | None
    reason: str = Field(description="The code of the same failure elsewhere here: `no_capacity`, `site_lost`, …")


class IncompleteDetails(Answer):
    reason: Literal["max_output_tokens", "content_filter"]


class ResponseReasoning(Answer):
    effort: str | None
    summary: Literal["auto", "concise", "detailed", "none"] | None


class Response(Answer):
    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
    error: ResponseError | None
    incomplete_details: IncompleteDetails | None
    output: list[OutputMessage | OutputFunctionCall | OutputCustomToolCall | OutputReasoning]
    usage: ResponseUsage | None
    background: bool
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: None
    metadata: dict[str, str]
    model: str
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: ResponseReasoning
    safety_identifier: str | None
    service_tier: Literal["default", "flex"]
    store: bool
    temperature: float | None
    text: dict[str, Any]
    tool_choice: ToolChoice
    tools: list[FunctionTool | CustomTool]
    top_logprobs: int
    top_p: float | None
    truncation: Literal["disabled"]
    user: str | None
    site: str | None = Field(default=None, description="Where it ran")


class DeletedResponse(Answer):
    id: str
    object: Literal["response"]
    deleted: Literal[True]


class InputItems(Answer):
    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool
