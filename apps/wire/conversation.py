"""From the items of a response to the messages of a chat, which is how engines here take them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from apps.core.errors import InvalidRequest
from apps.wire.responses import LOGPROBS

# What a chat calls differently.
RENAMED = {
    "max_completion_tokens": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
    "logprobs": "include",
}
SAME = (
    "model",
    "temperature",
    "top_p",
    "stream",
    "service_tier",
    "metadata",
    "user",
    "safety_identifier",
    "prompt_cache_key",
)
MESSAGE = re.compile(r"messages\[(\d+)\](.*)", re.DOTALL)

FREE_TEXT = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}

Message = dict[str, Any]


@dataclass
class Conversation:
    """`sources` names for each message the parameter of the request it came from."""

    messages: list[Message] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)

    def add(self, message: Message, source: str) -> None:
        self.messages.append(message)
        self.sources.append(source)

    def read(self, items: Iterable[Mapping[str, Any]], sources: Iterable[str]) -> None:
        """What the assistant thought, said and called in a row is one message of a chat."""
        said: Message | None = None
        for item, source in zip(items, sources, strict=True):
            kind = item.get("type") or "message"
            if kind in ("function_call_output", "custom_tool_call_output"):
                said = None
                self.answer(item, source)
            elif kind == "message" and item["role"] != "assistant":
                said = None
                self.add({"role": item["role"], "content": given(item["content"])}, source)
            else:
                part = answered(item)
                if said is None or begins_anew(said, part):
                    said = {"role": "assistant"}
                    self.add(said, source)
                said |= {**part, **joined_calls(said, part)}
        kept = [n for n, message in enumerate(self.messages) if message.keys() - {"role", "reasoning_content"}]
        self.messages, self.sources = [self.messages[n] for n in kept], [self.sources[n] for n in kept]

    def answer(self, item: Mapping[str, Any], source: str) -> None:
        called = {call["id"] for message in self.messages for call in message.get("tool_calls") or ()}
        if item["call_id"] not in called:
            raise InvalidRequest(
                f"No tool call found for function call output with call_id {item['call_id']}.",
                param=source,
                code="invalid_value",
            )
        self.add({"role": "tool", "tool_call_id": item["call_id"], "content": given(item["output"])}, source)

    def refused(self, error: InvalidRequest) -> InvalidRequest:
        """A refusal of the chat in the words of the request it was made from."""
        message, param = error.message, error.param
        if param is not None:
            named = RENAMED.get(param, param)
            if found := MESSAGE.fullmatch(param):
                source, rest = (
                    self.sources[int(found[1])],
                    found[2].replace(".image_url.url", ".image_url").replace(".image_url.detail", ".detail"),
                )
                named = source + (rest if source.startswith("input[") and rest.startswith(".content[") else "")
            elif param == "messages":
                named = "input"
            message, param = message.replace(f"'{param}'", f"'{named}'"), named
        return InvalidRequest(message, param=param, code=error.reason)


def begins_anew(said: Message, part: Message) -> bool:
    """Thoughts come before words, and words before calls."""
    if "reasoning_content" in part:
        return True
    return ("content" in part or "refusal" in part) and bool(said.keys() & {"content", "refusal", "tool_calls"})


def joined_calls(said: Message, part: Message) -> Message:
    calls = [*said.get("tool_calls", ()), *part.get("tool_calls", ())]
    return {"tool_calls": calls} if calls else {}


def answered(item: Mapping[str, Any]) -> Message:
    if item.get("type") == "function_call":
        function = {"name": item["name"], "arguments": item["arguments"]}
        return {"tool_calls": [{"id": item["call_id"], "type": "function", "function": function}]}
    if item.get("type") == "custom_tool_call":
        function = {"name": item["name"], "arguments": json.dumps({"input": item["input"]}, ensure_ascii=False)}
        return {"tool_calls": [{"id": item["call_id"], "type": "function", "function": function}]}
    if item.get("type") == "reasoning":
        text = "".join(part["text"] for part in item.get("content") or ())
        return {"reasoning_content": text} if text else {}
    if isinstance(item["content"], str):
        return {"content": item["content"]}
    message = {}
    for name, kind in (("text", "output_text"), ("refusal", "refusal")):
        texts = [part[name] for part in item["content"] if part["type"] == kind]
        if texts:
            message["content" if name == "text" else name] = "".join(texts)
    return message


def given(content: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """One text stays a text: some chat templates know nothing else."""
    if isinstance(content, str):
        return content
    if len(content) == 1 and content[0]["type"] == "input_text":
        return str(content[0]["text"])
    return [part_of(part) for part in content]


def part_of(part: Mapping[str, Any]) -> dict[str, Any]:
    if part["type"] == "input_text":
        return {"type": "text", "text": part["text"]}
    image = {"url": part["image_url"], **({"detail": part["detail"]} if part.get("detail") else {})}
    return {"type": "image_url", "image_url": image}


def conversation(body: Mapping[str, Any], earlier: Iterable[Message] = ()) -> Conversation:
    """All that the model reads: instructions, what was said in earlier responses, the input.

    `body` has passed `responses.responses_request`. Raises InvalidRequest.
    """
    talk = Conversation()
    if body.get("instructions") is not None:
        talk.add({"role": "system", "content": body["instructions"]}, "instructions")
    for message in earlier:
        talk.add(message, "previous_response_id")
    if isinstance(body["input"], str):
        talk.add({"role": "user", "content": body["input"]}, "input")
    else:
        talk.read(body["input"], [f"input[{number}]" for number in range(len(body["input"]))])
    return talk


def chat_body(body: Mapping[str, Any], messages: list[Message]) -> dict[str, Any]:
    """The same request as a chat. `body` has passed `responses.responses_request`."""
    chat = {name: body[name] for name in SAME if body.get(name) is not None}
    chat["messages"] = messages
    if body.get("max_output_tokens") is not None:
        chat["max_completion_tokens"] = body["max_output_tokens"]
    if LOGPROBS in (body.get("include") or ()):
        chat |= {"logprobs": True, "top_logprobs": body.get("top_logprobs") or 0}
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        choice = {"type": "function", "function": {"name": choice["name"]}}
    if body.get("tools"):
        chat["tools"] = [{"type": "function", "function": function_of(tool)} for tool in body["tools"]]
        if body.get("parallel_tool_calls") is not None:
            chat["parallel_tool_calls"] = body["parallel_tool_calls"]
        if choice is not None:
            chat["tool_choice"] = choice
    elif choice not in (None, "auto", "none"):
        chat["tool_choice"] = choice  # asks for what is not there: the chat refuses it
    if effort := (body.get("reasoning") or {}).get("effort"):
        chat["reasoning_effort"] = effort
    verbosity = (body.get("text") or {}).get("verbosity")
    if verbosity not in (None, "medium"):  # that is what leaving it out means
        chat["verbosity"] = verbosity
    if form := (body.get("text") or {}).get("format"):
        chat["response_format"] = format_of(form)
    return chat


def function_of(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A custom tool is a function of one text, `items.free_text` its way back."""
    function = {name: value for name, value in tool.items() if name not in ("type", "format")}
    return {**function, "parameters": FREE_TEXT} if tool["type"] == "custom" else function


def format_of(form: Mapping[str, Any]) -> dict[str, Any]:
    if form["type"] != "json_schema":
        return dict(form)
    return {"type": "json_schema", "json_schema": {name: value for name, value in form.items() if name != "type"}}
