"""Choices of `/completions` in the shape of chat's, with their probabilities as the legacy API gives them."""

from __future__ import annotations

from typing import Any


class Texts:
    """`top`: so many of the likeliest tokens are told beside the chosen one; None: no probabilities."""

    def __init__(self, *, top: int | None) -> None:
        self.top = top
        self.written: dict[int, int] = {}  # characters of each choice so far

    def as_chat(self, choice: dict[str, Any], *, first: int) -> dict[str, Any]:
        """`first` is the index of the prompt's first choice among all."""
        index = first + (choice.get("index") or 0)
        text = choice.get("text") or ""
        given = choice.get("logprobs")
        logprobs = self.logprobs(given, self.written.get(index, 0)) if given and self.top is not None else None
        self.written[index] = self.written.get(index, 0) + len(text)
        return {
            "index": index,
            "delta": {"content": text} if text else {},
            "logprobs": logprobs,
            "finish_reason": choice.get("finish_reason"),
        }

    def logprobs(self, given: dict[str, Any], offset: int) -> dict[str, Any]:
        """llama.cpp gives chat's shape ({content: [{token, logprob, top_logprobs}]}), others the legacy one."""
        top = self.top or 0
        if "content" not in given:
            ranked = [best(each, top) for each in given.get("top_logprobs") or ()]
            return {
                "tokens": given.get("tokens") or [],
                "token_logprobs": given.get("token_logprobs") or [],
                "top_logprobs": ranked or None,
                "text_offset": given.get("text_offset") or [],
            }
        items = given["content"] or []
        offsets = []
        for item in items:
            offsets.append(offset)
            offset += len(item["token"])
        return {
            "tokens": [item["token"] for item in items],
            "token_logprobs": [item["logprob"] for item in items],
            "top_logprobs": [
                best({each["token"]: each["logprob"] for each in item.get("top_logprobs") or ()}, top)
                | {item["token"]: item["logprob"]}
                for item in items
            ],
            "text_offset": offsets,
        }


def best(given: dict[str, float] | None, top: int) -> dict[str, float]:
    return dict(sorted((given or {}).items(), key=lambda item: -item[1])[:top])
