"""Probabilities of tokens, written alike whether they come from an engine or from what was kept of it.

The database keeps neither the order of an object's fields nor the sign of zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FIELDS = ("token", "logprob", "bytes", "top_logprobs")  # OpenAI API reference, "The chat completion object"


def written(logprobs: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Of one choice: a chat's lists of tokens, or the lists of a completion, in their order."""
    if not logprobs:
        return None
    if "tokens" in logprobs:
        names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
        return {
            name: logprobs[name] and [likely(each) for each in logprobs[name]] for name in names if name in logprobs
        }
    return {name: logprobs[name] and [token(each) for each in logprobs[name]] for name in sorted(logprobs)}


def token(given: Any) -> Any:
    if not isinstance(given, Mapping):
        return given
    told = {name: given[name] for name in (*FIELDS, *sorted(given.keys() - set(FIELDS))) if name in given}
    if isinstance(told.get("logprob"), float):
        told["logprob"] += 0.0
    if isinstance(told.get("top_logprobs"), list):
        told["top_logprobs"] = [token(each) for each in told["top_logprobs"]]
    return told


def likely(given: Any) -> Any:
    """Of a completion: a token, its probability or its place; or the likeliest tokens by name, the likeliest first."""
    if isinstance(given, Mapping):
        ranked = sorted(given.items(), key=lambda each: (-(each[1] or 0), each[0]))
        return {name: likely(value) for name, value in ranked}
    return given + 0.0 if isinstance(given, float) else given
