"""The shapes of answers, for the OpenAPI document and for whoever checks what they get. Extra fields are ours, and named.

Source: OpenAI API reference (openapi.json f85dbe2), CreateChatCompletionResponse and its neighbours.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]
ServiceTier = Literal["default", "flex"]


class Answer(BaseModel):
    """An engine may add to what it says: fields that are not named here stay."""

    model_config = ConfigDict(extra="allow")


class PromptDetails(Answer):
    cached_tokens: int
    audio_tokens: int


class CompletionDetails(Answer):
    reasoning_tokens: int
    audio_tokens: int
    accepted_prediction_tokens: int
    rejected_prediction_tokens: int


class InputUsage(Answer):
    """What work that writes no text used."""

    prompt_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    cost_microusd: int = Field(default=0, description="What was charged; left out until the job is settled")
    energy_wh: float = Field(default=0.0, description="Of this request, with the site's overhead")
    energy_quality: Literal["counter", "integrated", "modelled", "nameplate"] = "counter"
    carbon_gco2e: float = Field(default=0.0, description="By location: of the grid at its site")
    carbon_market_gco2e: float = Field(
        default=0.0, description="By market: of its site's contracts of supply; left out where it has none"
    )


class TokenUsage(InputUsage):
    completion_tokens: int
    completion_tokens_details: CompletionDetails


class AnsweredFunction(Answer):
    name: str
    arguments: str


class AnsweredToolCall(Answer):
    id: str
    type: Literal["function"]
    function: AnsweredFunction


class AnsweredMessage(Answer):
    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    annotations: list[dict[str, Any]]
    tool_calls: list[AnsweredToolCall] = []


class LikelyToken(Answer):
    token: str
    logprob: float
    bytes: list[int] | None = None


class TokenLogprob(LikelyToken):
    top_logprobs: list[LikelyToken]


class ChatLogprobs(Answer):
    content: list[TokenLogprob] | None
    refusal: list[TokenLogprob] | None = None


class ChatChoice(Answer):
    index: int
    message: AnsweredMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(Answer):
    id: str
    object: Literal["chat.completion"]
    created: int = Field(description="Unix seconds")
    model: str
    service_tier: ServiceTier
    system_fingerprint: str | None
    choices: list[ChatChoice]
    usage: TokenUsage
    site: str = Field(default="", description="Where it ran; left out where the answer came before that was known")


class StoredChat(ChatCompletion):
    metadata: dict[str, str]


class StoredChats(Answer):
    object: Literal["list"]
    data: list[StoredChat]
    first_id: str | None
    last_id: str | None
    has_more: bool


class StoredMessage(Answer):
    id: str
    role: str
    content: str | None
    content_parts: list[dict[str, Any]] | None
    name: str | None


class StoredMessages(Answer):
    object: Literal["list"]
    data: list[StoredMessage]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedChat(Answer):
    object: Literal["chat.completion.deleted"]
    id: str
    deleted: Literal[True]


class CallPiece(Answer):
    index: int


class Delta(Answer):
    role: str | None = None
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[CallPiece] | None = None


class ChunkChoice(Answer):
    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatCompletionChunk(Answer):
    """One `data:` line of a stream. With `stream_options.include_usage` the last has no choices and the usage."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    service_tier: ServiceTier
    system_fingerprint: str | None
    choices: list[ChunkChoice]
    usage: TokenUsage | None = None
    site: str = ""


class TextLogprobs(Answer):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class TextChoice(Answer):
    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: FinishReason | None


class TextCompletion(Answer):
    """An answer, or one `data:` line of a stream: there `usage` is null or left out until the end."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    service_tier: ServiceTier
    choices: list[TextChoice]
    usage: TokenUsage | None = None
    site: str = ""


class Embedding(Answer):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str = Field(description="Numbers, or with encoding_format base64 little-endian float32")


class Embeddings(Answer):
    object: Literal["list"]
    model: str
    data: list[Embedding]
    usage: InputUsage
    site: str = ""


class RankedText(Answer):
    text: str


class Ranked(Answer):
    index: int = Field(description="Of the document in the request")
    relevance_score: float = Field(description="The higher the better; by vectors their cosine, -1 to 1")
    document: RankedText | None = Field(default=None, description="Left out with return_documents false")


class BilledUnits(Answer):
    input_tokens: int


class RankingMeta(Answer):
    billed_units: BilledUnits


class Ranking(Answer):
    id: str
    object: Literal["list"]
    model: str
    results: list[Ranked]
    usage: InputUsage
    meta: RankingMeta
    site: str = ""
