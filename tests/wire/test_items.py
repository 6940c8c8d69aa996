"""The output of a response: whatever comes in whatever pieces, events and items say the same."""

from typing import Any

import openai
import pydantic
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent

from apps.core.ids import public, uuid7
from apps.wire.items import Output, stored
from apps.wire.response_object import ResponseObject

JOB = uuid7()
EVENT = pydantic.TypeAdapter(ResponseStreamEvent)
TEXT = st.text(max_size=3)
CALL = st.fixed_dictionaries(
    {"index": st.integers(0, 2)},
    optional={
        "id": st.just("call_1"),
        "function": st.fixed_dictionaries({}, optional={"name": st.sampled_from(["", "f"]), "arguments": TEXT}),
    },
)
DELTA = st.fixed_dictionaries(
    {},
    optional={
        "content": TEXT | st.none(),
        "refusal": TEXT,
        "reasoning_content": TEXT,
        "reasoning": TEXT,
        "tool_calls": st.lists(CALL, max_size=2) | st.none(),
    },
)


def replayed(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items as a client puts them together: added, grown by deltas, and then what is said to be done."""
    items: dict[int, dict[str, Any]] = {}
    done = {}
    for event in events:
        index, kind = event["output_index"], event["type"].removeprefix("response.")
        if kind == "output_item.added":
            assert index == len(items)
            items[index] = {**event["item"], "content": []} if "content" in event["item"] else dict(event["item"])
        elif kind == "output_item.done":
            assert index not in done
            done[index] = event["item"]
        else:
            assert index not in done
            assert event["item_id"] == items[index]["id"]
            if kind == "content_part.added":
                assert event["content_index"] == len(items[index]["content"])
                items[index]["content"].append(dict(event["part"]))
            elif kind == "content_part.done":
                assert event["part"] == items[index]["content"][event["content_index"]]
            elif kind.endswith(".delta") and kind.startswith("function_call"):
                items[index]["arguments"] += event["delta"]
            elif kind.endswith(".delta"):
                part = items[index]["content"][event["content_index"]]
                part["refusal" if part["type"] == "refusal" else "text"] += event["delta"]
    assert {n: {**item, "status": done[n]["status"]} for n, item in items.items()} == done
    return [done[n] for n in sorted(done)]


@limits(deadline=None)
@given(st.lists(DELTA, max_size=8), st.sampled_from(["stop", "length", None]))
def test_events_tell_the_items(deltas, reason):
    output = Output(JOB)
    events = output.take([[{"index": 0, "delta": delta}] for delta in deltas])
    events += output.take(
        [[{"index": 0, "delta": {}, "finish_reason": reason}, {"index": 1, "delta": {"content": "x"}}]]
    )
    events += output.end()
    assert replayed(events) == output.items
    assert reason == "length" or {item["status"] for item in output.items} <= {"completed"}
    said = "".join(delta.get("content") or "" for delta in deltas)
    assert said == "".join(
        part["text"] for item in output.items if item["type"] == "message" for part in item["content"] if "text" in part
    )


@pytest.mark.story
@limits(deadline=None, max_examples=30)  # the first validation builds the official types
@given(st.lists(DELTA, max_size=6))
def test_the_official_client_reads_them(deltas):
    response = ResponseObject(job_id=JOB, model="acme/m", asked={"input": "Hello"})
    output = Output(JOB)
    events = [{"type": "response.created", "response": response.open("in_progress")}]
    events += output.take([[{"index": 0, "delta": delta}] for delta in deltas])
    events += output.end()
    events.append({"type": "response.completed", "response": response.ended(output, usage=None, site=None)})
    state: ResponseStreamState[None] = ResponseStreamState(input_tools=openai.omit, text_format=openai.omit)
    for number, event in enumerate(events):
        state.handle_event(EVENT.validate_python({**event, "sequence_number": number}))
    assert state._completed_response is not None
    assert [item.id for item in state._completed_response.output] == [item["id"] for item in output.items]


def test_two_calls_of_one_id_are_two():
    output = Output(JOB)
    calls = [{"index": n, "id": "call_1", "function": {"name": "f", "arguments": "{}"}} for n in range(2)]
    output.take([[{"index": 0, "delta": {"tool_calls": calls}}]])
    assert [item["call_id"] == "call_1" for item in output.items] == [True, False]


def test_pieces_of_calls_in_any_order():
    def piece(index: int, **function: str) -> list[dict[str, Any]]:
        return [{"index": 0, "delta": {"tool_calls": [{"index": index, "function": function}]}}]

    output = Output(JOB)
    output.take(
        [
            piece(0, arguments='{"a"'),
            piece(0, name="f"),
            piece(1, name="g"),
            piece(0, arguments=":1}"),
            piece(1, arguments="{}"),
        ]
    )
    output.end()
    assert [(item["name"], item["arguments"], item["call_id"]) for item in output.items] == [
        ("f", '{"a":1}', f"{public('call', JOB)}_0"),
        ("g", "{}", f"{public('call', JOB)}_1"),
    ]


@pytest.mark.parametrize("state", ["succeeded", "cancelled"])
def test_what_was_kept_gives_the_same_items(state):
    calls = [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    message = {"role": "assistant", "content": "So", "reasoning_content": "Hm", "tool_calls": calls}
    output = Output(JOB)
    for name in ("reasoning_content", "content"):
        output.take([[{"index": 0, "delta": {name: letter}}] for letter in message[name]])
    output.take([[{"index": 0, "delta": {"tool_calls": [{"index": 0, **calls[0]}]}, "finish_reason": "tool_calls"}]])
    output.end(complete=state == "succeeded")
    job = {"id": JOB, "state": state, "text": "So", "result": {"choices": [message]}, "finish_reason": "tool_calls"}
    assert stored(job).items == output.items
    empty = stored({**job, "text": "", "result": None}).items
    assert [part["text"] for item in empty for part in item["content"]] == ([""] if state == "succeeded" else [])
