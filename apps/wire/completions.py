"""The answers of /v1/chat/completions, whole and in chunks, and what an answer says of its cost.

Beyond the official shape: `usage` has `cost_microusd`, `energy_wh`, `energy_quality`, `carbon_gco2e` and `carbon_market_gco2e`, and an answer
has `site`, as soon as they are known. OpenAI clients keep unknown fields (`model_extra`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from apps.core.ids import public
from apps.wire.logprobs import written

Choices = list[dict[str, Any]]
REASONING = ("reasoning_content", "reasoning")  # vLLM and SGLang; newer vLLM
TEXTS = ("content", "refusal", *REASONING)
EXTRA = ("cost_microusd", "energy_wh", "energy_quality", "carbon_gco2e", "carbon_market_gco2e")


def completion_id(job_id: UUID) -> str:
    return public("chatcmpl", job_id).replace("_", "-", 1)


def created(job_id: UUID) -> int:
    """Unix seconds: a job's id begins with its milliseconds (RFC 9562, version 7)."""
    return (job_id.int >> 80) // 1000


def usage(
    *,
    prompt_tokens: int,
    completion_tokens: int,
    cached_prompt_tokens: int = 0,
    settled: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The cached tokens are part of the prompt's. `settled` may hold the fields named in EXTRA; those that are None are left out."""
    counted: dict[str, Any] = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": min(cached_prompt_tokens, prompt_tokens), "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
    for name in EXTRA:
        value = (settled or {}).get(name)
        if value is not None and value != "":
            counted[name] = value
    return counted


class Completion:
    """One answer: writes its chunks, or gathers them into the whole."""

    def __init__(self, *, job_id: UUID, model: str, include_usage: bool = False, service_tier: str = "default") -> None:
        self.id = completion_id(job_id)
        self.created = created(job_id)
        self.model = model
        self.include_usage = include_usage
        self.service_tier = service_tier
        self.parts: dict[int, dict[str, Any]] = {}
        self.delivered = 0

    def head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "service_tier": self.service_tier,
            "system_fingerprint": None,  # sites do not tell how their engines are made up
        }

    def chunk(self, choices: Choices) -> dict[str, Any]:
        """One chunk as the client sees it: index, delta and finish_reason always there, usage null where it comes later."""
        self.delivered += 1
        shown = [
            {
                "index": choice.get("index", 0),
                "delta": numbered(choice.get("delta") or {}),
                "logprobs": written(choice.get("logprobs")),
                "finish_reason": choice.get("finish_reason"),
            }
            for choice in choices
        ]
        return self.head("chat.completion.chunk") | {"choices": shown} | ({"usage": None} if self.include_usage else {})

    def last(self, usage: Mapping[str, Any], site: str | None) -> dict[str, Any]:
        """The chunk with the usage, before [DONE]."""
        return (
            self.head("chat.completion.chunk")
            | {"choices": [], "usage": dict(usage)}
            | ({"site": site} if site else {})
        )

    def gather(self, chunks: Iterable[Choices]) -> None:
        for choices in chunks:
            self.delivered += 1
            for choice in choices:
                self._gather(choice)

    def _gather(self, choice: Mapping[str, Any]) -> None:
        part = self.parts.setdefault(
            int(choice.get("index", 0)), {"texts": {}, "tool_calls": {}, "logprobs": None, "finish_reason": None}
        )
        delta = choice.get("delta") or {}
        for name in TEXTS:
            if delta.get(name) is not None:
                part["texts"].setdefault(name, []).append(delta[name])
        for call in delta.get("tool_calls") or ():
            kept = part["tool_calls"].setdefault(
                call.get("index", 0), {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
            )
            function = call.get("function") or {}
            kept["id"] = call.get("id") or kept["id"]
            kept["function"]["name"] += function.get("name") or ""
            kept["function"]["arguments"] += function.get("arguments") or ""
        for name, items in (written(choice.get("logprobs")) or {}).items():
            if items is not None:
                part["logprobs"] = part["logprobs"] or {"content": None, "refusal": None}
                part["logprobs"][name] = [*(part["logprobs"].get(name) or []), *items]
        part["finish_reason"] = choice.get("finish_reason") or part["finish_reason"]

    def whole(self, usage: Mapping[str, Any], site: str | None) -> dict[str, Any]:
        choices = [
            {
                "index": index,
                "message": message(part),
                "logprobs": part["logprobs"],
                "finish_reason": part["finish_reason"] or "stop",
            }
            for index, part in sorted(self.parts.items())
        ]
        return (
            self.head("chat.completion") | {"choices": choices, "usage": dict(usage)} | ({"site": site} if site else {})
        )


def numbered(delta: dict[str, Any]) -> dict[str, Any]:
    """Clients put the pieces of calls together by `index`, which some engines leave out."""
    calls = delta.get("tool_calls")
    if not calls or all("index" in call for call in calls):
        return delta
    return {**delta, "tool_calls": [{"index": place, **call} for place, call in enumerate(calls)]}


def message(part: Mapping[str, Any]) -> dict[str, Any]:
    joined = {name: "".join(pieces) for name, pieces in part["texts"].items()}
    calls = [part["tool_calls"][index] for index in sorted(part["tool_calls"])]
    return {
        "role": "assistant",
        "content": joined.get("content") or (None if calls or joined.get("refusal") else ""),
        "refusal": joined.get("refusal"),
        "annotations": [],
        **{name: joined[name] for name in REASONING if name in joined},
        **({"tool_calls": calls} if calls else {}),
    }
