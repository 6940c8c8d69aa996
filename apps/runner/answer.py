"""What the chunks of a stream add up to: the text of choice 0, and the messages where text is not all."""

from __future__ import annotations

from typing import Any

from apps.runner.engines.engine import Choices

TEXTS = ("content", "reasoning_content", "reasoning", "refusal")


def says(choice: dict[str, Any]) -> bool:
    """Whether a choice of a chunk carries something generated."""
    delta = choice.get("delta") or {}
    return any(delta.get(name) for name in (*TEXTS, "tool_calls"))


class Answer:
    def __init__(self) -> None:
        self.choices: dict[int, Choice] = {}

    def add(self, choices: Choices) -> None:
        for given in choices:
            index = given.get("index", 0)
            if index not in self.choices:
                self.choices[index] = Choice()
            self.choices[index].add(given)

    @property
    def text(self) -> str:
        return "".join(self.choices[0].texts["content"]) if 0 in self.choices else ""

    @property
    def finish_reason(self) -> str:
        return self.choices[0].finish_reason if 0 in self.choices else ""

    def messages(self) -> list[dict[str, Any]] | None:
        """The messages in order of their choices; None where the text of choice 0 says it all."""
        ordered = [self.choices[index] for index in sorted(self.choices)]
        if len(ordered) <= 1 and not any(choice.more for choice in ordered):
            return None
        return [choice.message() for choice in ordered]


class Choice:
    def __init__(self) -> None:
        self.texts: dict[str, list[str]] = {name: [] for name in TEXTS}
        self.calls: dict[int, dict[str, Any]] = {}
        self.logprobs: dict[str, list[Any]] = {}
        self.finish_reason = ""

    def add(self, given: dict[str, Any]) -> None:
        delta = given.get("delta") or {}
        for name in TEXTS:
            if isinstance(text := delta.get(name), str) and text:
                self.texts[name].append(text)
        for part in delta.get("tool_calls") or []:
            call = self.calls.setdefault(part.get("index", 0), {"id": "", "type": "function", "function": {"name": "", "arguments": ""}})  # fmt: skip
            call["id"] = part.get("id") or call["id"]
            function = part.get("function") or {}
            for name in ("name", "arguments"):
                call["function"][name] += function.get(name) or ""
        for name, items in (given.get("logprobs") or {}).items():
            if items:
                self.logprobs.setdefault(name, []).extend(items)
        self.finish_reason = given.get("finish_reason") or self.finish_reason

    @property
    def more(self) -> bool:
        """Whether there is something beside `content`."""
        return bool(self.calls or self.logprobs) or any(self.texts[name] for name in TEXTS if name != "content")

    def message(self) -> dict[str, Any]:
        content = "".join(self.texts["content"])
        message: dict[str, Any] = {"role": "assistant", "content": content or (None if self.calls else "")}
        message |= {name: "".join(self.texts[name]) for name in TEXTS if name != "content" and self.texts[name]}
        if self.calls:
            message["tool_calls"] = [self.calls[index] for index in sorted(self.calls)]
        if self.logprobs:
            message["logprobs"] = self.logprobs
        if self.finish_reason:
            message["finish_reason"] = self.finish_reason
        return message
