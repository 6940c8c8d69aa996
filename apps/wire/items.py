"""The items of a response: what the model answered, grown from a chat's chunks, and what it was given.

Ids are made from the job's, so an item has the same one in the stream, in the answer and whenever it is asked for again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any
from uuid import UUID

from apps.core.ids import public
from apps.wire.completions import REASONING, Choices, numbered
from apps.wire.logprobs import written

Event = dict[str, Any]
Item = dict[str, Any]

PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "reasoning": "rs",
}
# What a part of each kind says: its field, and the beginning of its events' names.
PARTS = {
    "output_text": ("text", "response.output_text"),
    "refusal": ("refusal", "response.refusal"),
    "reasoning_text": ("text", "response.reasoning_text"),
}


def item_id(kind: str, job_id: UUID, number: int | str) -> str:
    return f"{public(PREFIXES[kind], job_id)}_{number}"


class Output:
    """Grows by the deltas of a chat's first choice; each step tells the events it is to a client, still without numbers.

    Text and reasoning end where something else begins. Calls end with the answer: their pieces may come in any order.
    `custom` names the tools that take free text: an engine writes it as JSON, so it is told when it is whole.
    """

    def __init__(self, job_id: UUID, *, logprobs: bool = False, custom: Collection[str] = ()) -> None:
        self.job_id = job_id
        self.custom = custom
        self.logprobs = logprobs
        self.items: list[Item] = []
        self.writing: int | None = None  # the item that text is added to
        self.calls: dict[int, Call] = {}
        self.finish_reason = ""

    def take(self, chunks: Iterable[Choices]) -> list[Event]:
        events: list[Event] = []
        for choices in chunks:
            for choice in choices:
                if choice.get("index", 0) == 0:
                    events += self._take(choice)
        return events

    def _take(self, choice: Mapping[str, Any]) -> list[Event]:
        delta = numbered(choice.get("delta") or {})
        events: list[Event] = []
        thought = next((delta[name] for name in REASONING if delta.get(name)), "")
        if thought:
            events += self._write("reasoning", "reasoning_text", thought, [])
        if delta.get("content"):
            said = (written(choice.get("logprobs")) or {}).get("content") if self.logprobs else None
            events += self._write("message", "output_text", delta["content"], said or [])
        if delta.get("refusal"):
            events += self._write("message", "refusal", delta["refusal"], [])
        for piece in delta.get("tool_calls") or ():
            events += self._call(piece)
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        return events

    def _write(self, kind: str, part_kind: str, text: str, logprobs: list[Any]) -> list[Event]:
        events: list[Event] = []
        if self.writing is None or self.items[self.writing]["type"] != kind:
            events += self._end_text("completed")
            self.writing = len(self.items)
            own: Item = {"summary": []} if kind == "reasoning" else {"role": "assistant"}
            events.append(self._add({"type": kind, "status": "in_progress", **own, "content": []}))
        index, item = self.writing, self.items[self.writing]
        parts = item["content"]
        if not parts or parts[-1]["type"] != part_kind:
            if parts:
                events += self._end_part(index)
            parts.append(new_part(part_kind))
            events.append(self._of(index, "response.content_part.added", part=shown(parts[-1])))
        field, name = PARTS[part_kind]
        part = parts[-1]
        part[field] += text
        told: Event = {"delta": text}
        if part_kind == "output_text":
            part["logprobs"] += logprobs
            told["logprobs"] = logprobs
        return [*events, self._of(index, f"{name}.delta", **told)]

    def _call(self, piece: Mapping[str, Any]) -> list[Event]:
        events = self._end_text("completed")
        number = piece.get("index", 0)
        call = self.calls.setdefault(number, Call())
        function = piece.get("function") or {}
        arguments = function.get("arguments") or ""
        given = piece.get("id") or ""
        if not call.call_id and given not in {each.call_id for each in self.calls.values()}:
            call.call_id = given  # one that an engine gave to another call before is no identity
        if call.index is None:
            call.name += function.get("name") or ""
            call.early += arguments
            if not call.name:
                return events
            call.index, arguments = len(self.items), call.early
            call_id = call.call_id or item_id("function_call", self.job_id, number).replace("fc", "call", 1)
            own = {"call_id": call_id, "name": call.name}
            if call.name in self.custom:
                own |= {"type": "custom_tool_call", "input": ""}
            else:
                own |= {"type": "function_call", "arguments": ""}
            events.append(self._add({"status": "in_progress", **own}))
        if call.name in self.custom:
            call.written += arguments
        elif arguments:
            self.items[call.index]["arguments"] += arguments
            events.append(self._of(call.index, "response.function_call_arguments.delta", delta=arguments))
        return events

    def end(self, *, complete: bool = True) -> list[Event]:
        """Nothing more comes. An answer that says nothing is an empty message."""
        status = "completed" if complete and not self.cut else "incomplete"
        events: list[Event] = []
        if not self.items and complete:
            events += self._write("message", "output_text", "", [])
            events.pop()
        events += self._end_text(status)
        for call in self.calls.values():
            if call.index is not None and self.items[call.index]["status"] == "in_progress":
                item = self.items[call.index]
                item["status"] = status
                if call.name in self.custom:
                    item["input"] = free_text(call.written)
                    name = "response.custom_tool_call_input"
                    if item["input"]:
                        events.append(self._of(call.index, f"{name}.delta", delta=item["input"]))
                    events.append(self._of(call.index, f"{name}.done", input=item["input"]))
                else:
                    done = "response.function_call_arguments.done"
                    events.append(self._of(call.index, done, arguments=item["arguments"]))
                events.append(self._done(call.index))
        return events

    @property
    def cut(self) -> str | None:
        """Why the answer is shorter than the model meant it; None where it is whole."""
        return {"length": "max_output_tokens", "content_filter": "content_filter"}.get(self.finish_reason)

    def _add(self, item: Item) -> Event:
        number = len(self.items)
        self.items.append({"id": item_id(item["type"], self.job_id, number), **item})
        return {"type": "response.output_item.added", "output_index": number, "item": shown(self.items[number])}

    def _done(self, index: int) -> Event:
        return {"type": "response.output_item.done", "output_index": index, "item": shown(self.items[index])}

    def _end_part(self, index: int) -> list[Event]:
        part = self.items[index]["content"][-1]
        field, name = PARTS[part["type"]]
        told = {field: part[field], **({"logprobs": part["logprobs"]} if part["type"] == "output_text" else {})}
        return [
            self._of(index, f"{name}.done", **told),
            self._of(index, "response.content_part.done", part=shown(part)),
        ]

    def _end_text(self, status: str) -> list[Event]:
        if self.writing is None:
            return []
        index, self.writing = self.writing, None
        events = self._end_part(index)
        self.items[index]["status"] = status
        return [*events, self._done(index)]

    def _of(self, index: int, kind: str, **told: Any) -> Event:
        """An event of one item, or of its newest part."""
        item = self.items[index]
        place: Event = {"output_index": index, "item_id": item["id"]}
        if "content" in item:
            place["content_index"] = len(item["content"]) - 1
        return {"type": kind, **place, **told}


class Call:
    """One call of a function while its pieces come: its item is shown once its name is known."""

    def __init__(self) -> None:
        self.index: int | None = None
        self.call_id = ""
        self.name = ""
        self.early = ""
        self.written = ""  # of a tool that takes free text


def free_text(arguments: str) -> str:
    """What an engine wrote for a custom tool, `{"input": "…"}`; anything else as it wrote it."""
    try:
        given = json.loads(arguments)
    except ValueError:
        return arguments
    text = given.get("input") if isinstance(given, dict) and len(given) == 1 else None
    return text if isinstance(text, str) else arguments


def new_part(kind: str) -> dict[str, Any]:
    if kind == "output_text":
        return {"type": kind, "text": "", "annotations": [], "logprobs": []}
    return {"type": kind, PARTS[kind][0]: ""}


def shown(value: dict[str, Any]) -> dict[str, Any]:
    """A copy, since the original grows on."""
    return {
        name: [shown(part) if isinstance(part, dict) else part for part in kept] if isinstance(kept, list) else kept
        for name, kept in value.items()
    }


def stored(job: Mapping[str, Any], *, logprobs: bool = False, custom: Collection[str] = ()) -> Output:
    """The output of a job that has ended, made from what was kept of its answer.

    `job` has id, state, text, result and finish_reason, and in `unreadable` what is raised where it has no text.
    """
    if job.get("unreadable"):
        raise job["unreadable"]
    result = job["result"] if isinstance(job["result"], dict) else {}
    message = dict((result.get("choices") or [{}])[0])
    calls = [{"index": number, **call} for number, call in enumerate(message.pop("tool_calls", None) or ())]
    said = message.pop("logprobs", None)
    delta = {**message, "content": job["text"] or message.get("content"), "tool_calls": calls}
    output = Output(job["id"], logprobs=logprobs, custom=custom)
    output.take([[{"index": 0, "delta": delta, "logprobs": said, "finish_reason": job["finish_reason"]}]])
    output.end(complete=job["state"] == "succeeded")
    return output


def given(job_id: UUID, sent: str | list[dict[str, Any]]) -> list[Item]:
    """The input of a response as its list of items shows it: every content a list of parts, every item with an id."""
    if isinstance(sent, str):
        sent = [{"role": "user", "content": sent}]
    return [_given(job_id, number, item) for number, item in enumerate(sent)]


def _given(job_id: UUID, number: int, item: Mapping[str, Any]) -> Item:
    kind = item.get("type") or "message"
    made = {"id": item_id(kind, job_id, f"in{number}"), "type": kind, "status": "completed"}
    sent = {name: value for name, value in item.items() if value is not None}
    if kind == "message" and isinstance(sent["content"], str):
        part = {"type": "output_text", "annotations": []} if sent["role"] == "assistant" else {"type": "input_text"}
        sent["content"] = [{**part, "text": sent["content"]}]
    return {**made, **sent}
