"""Chunks add up to what a non-streaming answer would have said."""

from typing import Any

from apps.runner.answer import Answer


def delta(index: int = 0, reason: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"index": index, "delta": fields, "finish_reason": reason}


def test_plain_text_needs_no_messages() -> None:
    answer = Answer()
    for chunk in (
        [delta(role="assistant", content=None)],
        [delta(content="Hel")],
        [delta(content="lo")],
        [delta(reason="stop")],
    ):
        answer.add(chunk)
    assert (answer.text, answer.finish_reason, answer.messages()) == ("Hello", "stop", None)


def test_probabilities_of_tokens_are_kept() -> None:
    answer = Answer()
    for token in ("Hel", "lo"):
        answer.add([{**delta(content=token), "logprobs": {"content": [{"token": token}], "refusal": None}}])
    answer.add([delta(reason="stop")])
    assert answer.messages() == [
        {
            "role": "assistant",
            "content": "Hello",
            "logprobs": {"content": [{"token": "Hel"}, {"token": "lo"}]},
            "finish_reason": "stop",
        }
    ]


def test_several_choices_are_kept_apart() -> None:
    answer = Answer()
    answer.add([delta(1, content="b"), delta(0, content="a")])
    answer.add([delta(1, content="B")])
    assert answer.text == "a"
    assert answer.messages() == [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "bB"}]


def test_tool_calls_arrive_in_pieces() -> None:
    answer = Answer()
    answer.add(
        [
            delta(
                tool_calls=[
                    {"index": 0, "id": "call_1", "type": "function", "function": {"name": "power", "arguments": ""}}
                ]
            )
        ]
    )
    answer.add([delta(tool_calls=[{"index": 0, "function": {"arguments": '{"site"'}}])])
    answer.add([delta(tool_calls=[{"index": 0, "function": {"arguments": ": 1}"}}, {"index": 1, "id": "call_2", "function": {"name": "stop", "arguments": "{}"}}])])  # fmt: skip
    answer.add([delta(reason="tool_calls")])
    assert answer.messages() == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "power", "arguments": '{"site": 1}'}},
                {"id": "call_2", "type": "function", "function": {"name": "stop", "arguments": "{}"}},
            ],
            "finish_reason": "tool_calls",
        }
    ]
    assert answer.finish_reason == "tool_calls"


def test_reasoning_and_refusal_stand_beside_the_text() -> None:
    answer = Answer()
    answer.add([delta(reasoning_content="hm")])
    answer.add([delta(refusal="no")])
    assert answer.messages() == [{"role": "assistant", "content": "", "reasoning_content": "hm", "refusal": "no"}]
