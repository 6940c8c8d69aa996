"""POST /v1/completions: OpenAI API reference, "Create completion" (openapi.json f85dbe2), the legacy of chat.

Its answers are of the kind `text_completion`: every choice has an index over all prompts, prompt by prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Discriminator, Field, Tag

from apps.core.errors import InvalidRequest
from apps.core.ids import public
from apps.wire.bodies import Shape, fit
from apps.wire.capabilities import Capability, asked_of_sampling
from apps.wire.ceilings import LONGEST_TOKEN_BYTES, MESSAGE_TOKENS, capped, input_bytes, inputs
from apps.wire.chat import MAX_CHOICES, LogitBias, Metadata, Stop, StreamOptions
from apps.wire.completions import Choices, created
from apps.wire.embeddings import Token, input_kind
from apps.wire.logprobs import written
from apps.wire.vocabulary import check_tokens

MAX_PROMPTS = 128
MAX_PROMPT_TOKENS = 300_000
DEFAULT_TOKENS = 16  # the official default of max_tokens
MAX_LOGPROBS = 5

Prompt = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS), Tag("<texts>")]
    | Annotated[list[Token], Field(min_length=1, max_length=MAX_PROMPT_TOKENS), Tag("<tokens>")]
    | Annotated[
        list[Annotated[list[Token], Field(min_length=1)]],
        Field(min_length=1, max_length=MAX_PROMPTS),
        Tag("<token_lists>"),
    ],
    Discriminator(input_kind),
]


class CompletionRequest(Shape):
    model: str = Field(min_length=1, max_length=100)
    prompt: Prompt
    best_of: int | None = Field(default=None, ge=1, le=20)
    echo: bool | None = None
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: LogitBias | None = None
    logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS)
    max_tokens: int | None = Field(default=None, ge=0)
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    stop: Stop | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    suffix: str | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    user: str | None = Field(default=None, max_length=512)
    # Not in the official shape; as chat has them.
    metadata: Metadata | None = None
    service_tier: Literal["auto", "default", "standard", "flex"] | None = None


FORWARDED = (
    "prompt",
    "n",
    "best_of",
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "seed",
    "stop",
    "logprobs",
    "suffix",
)


def completion_request(body: Mapping[str, Any]) -> CompletionRequest:
    """Raises InvalidRequest for the first thing that is wrong, with the parameter's name."""
    request = fit(CompletionRequest, body)
    for number, prompt in enumerate(inputs(body["prompt"])):
        if prompt == "":
            raise InvalidRequest(
                "A prompt is empty. Send text.",
                param="prompt" if isinstance(body["prompt"], str) else f"prompt[{number}]",
                code="empty",
            )
    if request.stream_options is not None and not request.stream:
        raise InvalidRequest(
            "'stream_options' needs 'stream' to be true.", param="stream_options", code="invalid_value"
        )
    written = request.best_of or request.n or 1
    if written < (request.n or 1):
        raise InvalidRequest("'best_of' may not be less than 'n'.", param="best_of", code="invalid_value")
    if written > (request.n or 1) and request.stream:
        raise InvalidRequest(
            "'best_of' above 'n' cannot be streamed: the best is known at the end.",
            param="best_of",
            code="invalid_value",
        )
    if request.max_tokens == 0 and not request.echo:
        raise InvalidRequest(
            "'max_tokens' 0 writes nothing; it needs 'echo'.", param="max_tokens", code="invalid_value"
        )
    return request


def needed(body: Mapping[str, Any]) -> Iterator[tuple[str, Capability, str]]:
    """What the engine has to be able to do. Text is echoed without it, its probabilities are not."""
    yield "model", Capability.COMPLETIONS, "Use /v1/chat/completions."
    yield from asked_of_sampling(body)
    in_tokens = not isinstance(inputs(body["prompt"])[0], str)
    if in_tokens:
        yield "prompt", Capability.TOKEN_INPUT, "Send text."
    if body.get("logprobs") is not None:
        yield "logprobs", Capability.LOGPROBS, ""
    if body.get("echo") and (in_tokens or body.get("logprobs") is not None or body.get("max_tokens") == 0):
        yield "echo", Capability.ECHO, "It can echo text, without 'logprobs' and with tokens to write."
    if body.get("suffix"):
        yield "suffix", Capability.SUFFIX, ""
    if (body.get("best_of") or 1) > (body.get("n") or 1):
        yield "best_of", Capability.BEST_OF, ""


def check_limits(
    body: Mapping[str, Any], *, context_tokens: int, vocabulary_tokens: int, max_output_tokens: int
) -> None:
    """Refuse what cannot fit. 0 means no limit is known."""
    for prompt in inputs(body["prompt"]):
        floor = len(prompt) if isinstance(prompt, list) else input_bytes(prompt) // LONGEST_TOKEN_BYTES
        if context_tokens and floor > context_tokens:
            raise InvalidRequest(
                f"This model's context is {context_tokens:,} tokens and a prompt has at least {floor:,}. Shorten it.",
                param="prompt",
                code="context_length_exceeded",
            )
    check_tokens(body["prompt"], vocabulary_tokens, param="prompt")
    if max_output_tokens and (body.get("max_tokens") or 0) > max_output_tokens:
        raise InvalidRequest(
            f"This model writes at most {max_output_tokens:,} tokens; ask for that or less in 'max_tokens'.",
            param="max_tokens",
            code="invalid_value",
        )


def tokens_limit(body: Mapping[str, Any], max_output_tokens: int) -> int:
    """The most tokens of one choice."""
    asked = body.get("max_tokens")
    if asked is not None:
        return int(asked)
    return min(DEFAULT_TOKENS, max_output_tokens) if max_output_tokens else DEFAULT_TOKENS


def prompt_tokens_ceiling(body: Mapping[str, Any], context_tokens: int) -> int:
    """At most this many prompt tokens: each prompt counts once, however many choices it has."""
    suffix = len((body.get("suffix") or "").encode())
    return sum(
        capped(input_bytes(prompt) + suffix + MESSAGE_TOKENS, context_tokens) for prompt in inputs(body["prompt"])
    )


def completion_tokens_ceiling(body: Mapping[str, Any], max_output_tokens: int) -> int:
    """The most tokens of all choices of all prompts, those that `best_of` throws away too."""
    written = body.get("best_of") or body.get("n") or 1
    return tokens_limit(body, max_output_tokens) * int(written) * len(inputs(body["prompt"]))


def engine_body(body: Mapping[str, Any], *, max_output_tokens: int, echoes: bool) -> dict[str, Any]:
    """What the order carries. The limit of each choice is always named. `echoes`: the engine repeats prompts itself."""
    forwarded = {name: body[name] for name in FORWARDED if body.get(name) is not None}
    if echoes and body.get("echo"):
        forwarded["echo"] = True
    return forwarded | {"max_tokens": tokens_limit(body, max_output_tokens)}


class TextCompletion:
    """One answer: writes its chunks, or gathers them into the whole. A job's stream has the choices in chat's shape.

    `echoed` are the prompts to repeat before their choices, where the engine does not.
    """

    def __init__(
        self,
        *,
        job_id: UUID,
        model: str,
        include_usage: bool = False,
        service_tier: str = "default",
        echoed: Sequence[str] = (),
        choices: int = 1,
    ) -> None:
        self.id = public("cmpl", job_id).replace("_", "-", 1)
        self.created = created(job_id)
        self.model = model
        self.include_usage = include_usage
        self.service_tier = service_tier
        self.echoed = dict(enumerate(echoed))
        self.choices = choices  # of one prompt
        self.begun: set[int] = set()
        self.parts: dict[int, dict[str, Any]] = {}
        self.delivered = 0

    def head(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "service_tier": self.service_tier,
        }

    def chunk(self, choices: Choices) -> dict[str, Any]:
        self.delivered += 1
        shown = [
            {
                "index": choice.get("index", 0),
                "text": self.text(choice),
                "logprobs": written(choice.get("logprobs")),
                "finish_reason": choice.get("finish_reason"),
            }
            for choice in choices
        ]
        return self.head() | {"choices": shown} | ({"usage": None} if self.include_usage else {})

    def text(self, choice: Mapping[str, Any]) -> str:
        """Of one chunk; before the first of a choice the prompt, if it is to be echoed."""
        index = int(choice.get("index", 0))
        said = str((choice.get("delta") or {}).get("content") or "")
        if index not in self.begun:
            self.begun.add(index)
            said = self.echoed.get(index // self.choices, "") + said
        return said

    def last(self, usage: Mapping[str, Any], site: str | None) -> dict[str, Any]:
        """The chunk with the usage, before [DONE]."""
        return self.head() | {"choices": [], "usage": dict(usage)} | ({"site": site} if site else {})

    def gather(self, chunks: Iterable[Choices]) -> None:
        for choices in chunks:
            self.delivered += 1
            for choice in choices:
                part = self.parts.setdefault(
                    int(choice.get("index", 0)), {"texts": [], "logprobs": None, "finish_reason": None}
                )
                part["texts"].append(str((choice.get("delta") or {}).get("content") or ""))
                part["finish_reason"] = choice.get("finish_reason") or part["finish_reason"]
                if told := written(choice.get("logprobs")):
                    kept = part["logprobs"] = part["logprobs"] or {}
                    for name, items in told.items():
                        kept[name] = [*(kept.get(name) or []), *items] if items is not None else kept.get(name)

    def whole(self, usage: Mapping[str, Any], site: str | None) -> dict[str, Any]:
        choices = [
            {
                "index": index,
                "text": self.echoed.get(index // self.choices, "") + "".join(part["texts"]),
                "logprobs": part["logprobs"],
                "finish_reason": part["finish_reason"] or "stop",
            }
            for index, part in sorted(self.parts.items())
        ]
        return self.head() | {"choices": choices, "usage": dict(usage)} | ({"site": site} if site else {})
