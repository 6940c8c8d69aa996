import pytest

from apps.core.errors import InvalidRequest
from apps.wire.chat import chat_request
from apps.wire.conversation import chat_body, conversation
from apps.wire.responses import responses_request


def as_chat(**body):
    body = {"model": "acme/chat", "input": "Hello", **body}
    responses_request(body)
    talk = conversation(body)
    chat = chat_body(body, talk.messages)
    chat_request(chat)
    return chat, talk


def test_everything_a_chat_can_do_is_asked_of_it():
    tool = {"name": "weather", "description": "…", "parameters": {"type": "object"}, "strict": True}
    chat, _ = as_chat(
        instructions="Be brief.",
        max_output_tokens=5,
        temperature=1,
        top_p=0.5,
        include=["message.output_text.logprobs", "message.input_image.image_url"],
        top_logprobs=3,
        tools=[{"type": "function", **tool}],
        tool_choice={"type": "function", "name": "weather"},
        parallel_tool_calls=False,
        text={
            "format": {"type": "json_schema", "name": "w", "schema": {"type": "object"}, "strict": True},
            "verbosity": "high",
        },
        stream=True,
        service_tier="flex",
        metadata={"a": "b"},
        user="u",
        safety_identifier="s",
        prompt_cache_key="k",
        truncation="disabled",
        reasoning={"effort": "low"},
        store=True,
        background=False,
        previous_response_id=None,
    )
    assert chat == {
        "model": "acme/chat",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
        "max_completion_tokens": 5,
        "temperature": 1,
        "top_p": 0.5,
        "logprobs": True,
        "top_logprobs": 3,
        "tools": [{"type": "function", "function": tool}],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "parallel_tool_calls": False,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "w", "schema": {"type": "object"}, "strict": True},
        },
        "reasoning_effort": "low",
        "verbosity": "high",
        "stream": True,
        "service_tier": "flex",
        "metadata": {"a": "b"},
        "user": "u",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
    }


def test_what_means_nothing_without_tools_is_not_asked_for():
    chat, _ = as_chat(tools=[], tool_choice="auto", parallel_tool_calls=True)
    assert set(chat) == {"model", "messages"}


def test_what_the_assistant_did_in_a_row_is_one_message():
    text = lambda words: [{"type": "output_text", "text": words, "annotations": [], "logprobs": []}]  # noqa: E731
    call = {"type": "function_call", "name": "f", "arguments": "{}", "status": "completed"}
    _, talk = as_chat(
        input=[
            {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm"}]},
            {"type": "message", "role": "assistant", "content": text("One"), "id": "msg_1", "status": "completed"},
            {**call, "call_id": "c1", "id": "fc_1"},
            {**call, "call_id": "c2", "id": "fc_2"},
            {"type": "function_call_output", "call_id": "c2", "output": "2"},
            {"type": "function_call_output", "call_id": "c1", "output": "1"},
            {"role": "assistant", "content": "Two"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "left out"}]},
            {"role": "user", "content": "c"},
        ]
    )
    function = {"name": "f", "arguments": "{}"}
    calls = [{"id": name, "type": "function", "function": function} for name in ("c1", "c2")]
    assert talk.messages == [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "reasoning_content": "Hm", "content": "One", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c2", "content": "2"},
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {"role": "assistant", "content": "Two"},
        {"role": "assistant", "refusal": "No."},
        {"role": "user", "content": "c"},
    ]
    assert talk.sources == [f"input[{n}]" for n in (0, 1, 5, 6, 7, 8, 10)]


def test_an_image_is_asked_of_the_chat_and_refused_in_the_words_of_the_request():
    body = {
        "input": [
            {"role": "user", "content": "Look:"},
            {"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "low"}]},
        ]
    }  # fmt: skip
    talk = conversation(body)
    image = {"url": "data:image/png;base64,AA", "detail": "low"}
    assert talk.messages[1]["content"] == [{"type": "image_url", "image_url": image}]
    refused = talk.refused(
        InvalidRequest(
            "Invalid value for 'messages[1].content[0]': text only.", param="messages[1].content[0]", code="c"
        )
    )
    assert (refused.message, refused.param, refused.reason) == (
        "Invalid value for 'input[1].content[0]': text only.", "input[1].content[0]", "c",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ("max_completion_tokens", "max_output_tokens"),
        ("response_format", "text.format"),
        ("messages", "input"),
        ("messages[0].name", "instructions"),
        ("messages[1].content[0]", "previous_response_id"),
        ("messages[2].role", "input[0]"),
        ("temperature", "temperature"),
        (None, None),
    ],
)
def test_a_refusal_names_the_parameter_that_was_sent(given, param):
    talk = conversation(
        {"instructions": "x", "input": [{"role": "user", "content": "y"}]}, [{"role": "user", "content": "z"}]
    )
    assert talk.refused(InvalidRequest("No.", param=given)).param == param


def test_an_answer_to_a_call_that_never_was():
    with pytest.raises(InvalidRequest) as refused:
        as_chat(input=[{"type": "function_call_output", "call_id": "c", "output": "1"}])
    assert (refused.value.param, refused.value.reason) == ("input[0]", "invalid_value")
