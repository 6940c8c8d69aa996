"""What the engine behind a model can do, in closed terms, and the parameters of a request that need it.

A parameter that asks for nothing (`n` 1, a penalty of 0, `response_format` text) needs nothing: the answer is what it
would be without it. Everything else an engine cannot do is refused with the parameter's name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from apps.core.errors import InvalidRequest


class Capability(StrEnum):
    COMPLETIONS = "completions"
    TOOLS = "tools"
    PARALLEL_TOOL_CALLS = "parallel_tool_calls"
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"
    IMAGE_INPUT = "image_input"
    LOGPROBS = "logprobs"
    STOP = "stop"
    SEED = "seed"
    PENALTIES = "penalties"
    LOGIT_BIAS = "logit_bias"
    REASONING_EFFORT = "reasoning_effort"
    VERBOSITY = "verbosity"
    TOKEN_INPUT = "token_input"  # noqa: S105 - a term
    ECHO = "echo"
    SUFFIX = "suffix"
    BEST_OF = "best_of"
    RERANK = "rerank"


@dataclass(frozen=True, slots=True)
class Ability:
    """What a model can do: its capabilities, and how many choices of one answer at most."""

    capabilities: Collection[str]
    max_choices: int = 1

    def __contains__(self, capability: Capability) -> bool:
        return capability.value in self.capabilities


def check(body: Mapping[str, Any], ability: Ability, needed: Iterator[tuple[str, Capability, str]]) -> None:
    """Refuse the first parameter whose capability the model has not. `needed`: parameter, capability, advice."""
    for param, capability, advice in needed:
        if capability not in ability:
            raise lacking(param, advice)
    asked = body.get("n") or 1
    if asked > ability.max_choices:
        most = "one choice" if ability.max_choices == 1 else f"{ability.max_choices} choices"
        raise InvalidRequest(
            f"This model gives {most} of an answer at most; send the request again for more.",
            param="n",
            code="invalid_value" if ability.max_choices > 1 else "unsupported_parameter",
        )


def lacking(param: str, advice: str = "") -> InvalidRequest:
    return InvalidRequest(
        f"The engine behind this model cannot do what '{param}' asks for. "
        f"{advice or 'Leave it out, or choose a model whose capabilities in GET /v1/models have it.'}",
        param=param,
        code="unsupported_parameter",
    )


def asked_of_sampling(body: Mapping[str, Any]) -> Iterator[tuple[str, Capability, str]]:
    """What chat and completions share."""
    if body.get("stop"):
        yield "stop", Capability.STOP, ""
    if body.get("seed") is not None:
        yield "seed", Capability.SEED, ""
    for name in ("presence_penalty", "frequency_penalty"):
        if body.get(name):
            yield name, Capability.PENALTIES, ""
    if body.get("logit_bias"):
        yield "logit_bias", Capability.LOGIT_BIAS, ""


def asked_of_chat(body: Mapping[str, Any]) -> Iterator[tuple[str, Capability, str]]:
    yield from asked_of_sampling(body)
    if body.get("tools"):
        yield "tools", Capability.TOOLS, ""
    if body.get("parallel_tool_calls") is not None:
        yield "parallel_tool_calls", Capability.PARALLEL_TOOL_CALLS, ""
    kind = (body.get("response_format") or {}).get("type")
    if kind == "json_object":
        yield "response_format", Capability.JSON_OBJECT, ""
    if kind == "json_schema":
        yield "response_format", Capability.JSON_SCHEMA, ""
    if body.get("logprobs"):
        yield "logprobs", Capability.LOGPROBS, ""
    if body.get("reasoning_effort") is not None:
        yield "reasoning_effort", Capability.REASONING_EFFORT, ""
    if body.get("verbosity") is not None:
        yield "verbosity", Capability.VERBOSITY, ""
    for number, message in enumerate(body["messages"]):
        content = message.get("content")
        for place, part in enumerate(content if isinstance(content, list) else ()):
            if part["type"] == "image_url":
                yield (
                    f"messages[{number}].content[{place}]",
                    Capability.IMAGE_INPUT,
                    "It reads text only. Choose a model whose modalities have images, or send the image to a text "
                    "recognition model through /api/v1/jobs.",
                )


def asked_of_embeddings(body: Mapping[str, Any]) -> Iterator[tuple[str, Capability, str]]:
    given = body["input"]
    if not isinstance(given, str) and not isinstance(given[0], str):
        yield "input", Capability.TOKEN_INPUT, "Send text."
