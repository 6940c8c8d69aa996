import base64
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.core.errors import InvalidRequest
from apps.core.ids import public, uuid7
from apps.wire import ceilings, chat, embeddings, images, responses
from apps.wire.bodies import check_storable, parse
from apps.wire.completions import Completion, completion_id, usage

ASK = [{"role": "user", "content": "Hello"}]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)


def test_everything_the_engines_can_do_is_taken():
    body = {
        "model": "acme/chat",
        "messages": [
            {"role": "developer", "content": "Be brief.", "name": "boss"},
            {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
            },
            {"role": "tool", "content": "Sun", "tool_call_id": "c"},
            {"role": "assistant", "content": "Sun.", "refusal": None, "reasoning_content": "…", "annotations": []},
            {"role": "user", "content": "And now?"},
        ],
        "n": 2,
        "temperature": 1,
        "top_p": 0.5,
        "presence_penalty": -2,
        "frequency_penalty": 2,
        "seed": -1,
        "stop": ["a", "b"],
        "logprobs": True,
        "top_logprobs": 20,
        "tools": [
            {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}, "strict": True}}
        ],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "parallel_tool_calls": False,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "w", "schema": {"type": "object"}, "strict": True},
        },
        "max_completion_tokens": 5,
        "stream": True,
        "stream_options": {"include_usage": True},
        "modalities": ["text"],
        "logit_bias": {"50256": -100},
        "reasoning_effort": "low",
        "verbosity": "high",
        "user": "u",
        "safety_identifier": "s",
        "prompt_cache_key": "p",
        "metadata": {"a": "b"},
        "store": False,
        "service_tier": "auto",
    }
    chat.chat_request(body)
    sent = chat.engine_body(body, max_output_tokens=100)
    assert set(sent) == {*chat.FORWARDED, "max_tokens"}
    assert sent["max_tokens"] == 5
    assert sent["messages"][0] == {"role": "system", "content": "Be brief.", "name": "boss"}
    assert sent["messages"][1:] == body["messages"][1:]
    for name in ("user", "metadata", "model", "stream"):
        assert name not in sent


def test_null_asks_for_nothing():
    """Frameworks write every field they know."""
    chat.chat_request({"model": "acme/chat", "messages": ASK, **dict.fromkeys([*chat.UNSUPPORTED, "tools", "stop"])})
    responses.responses_request(
        {"model": "acme/chat", "input": ASK, **dict.fromkeys([*responses.UNSUPPORTED, "tools", "reasoning"])}
    )
    for name in chat.UNSUPPORTED:
        with pytest.raises(InvalidRequest) as refused:
            chat.chat_request({"model": "acme/chat", "messages": ASK, "unheard_of": None, name: "x"})
        assert (refused.value.param, refused.value.reason) == (name, "unsupported_parameter")
    with pytest.raises(InvalidRequest) as refused:
        chat.chat_request({"model": "acme/chat", "messages": ASK, "unheard_of": None})
    assert refused.value.reason == "unknown_parameter"


def test_allowed_tools_are_the_only_ones_an_engine_gets():
    tools = [{"type": "function", "function": {"name": name}} for name in ("a", "b", "c")]
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [tools[0], tools[2]]}}
    body = {"model": "m", "messages": ASK, "tools": tools, "tool_choice": choice}
    chat.chat_request(body)
    sent = chat.engine_body(body, max_output_tokens=0)
    assert (sent["tools"], sent["tool_choice"]) == ([tools[0], tools[2]], "required")
    choice["allowed_tools"]["tools"] = [{"type": "function", "function": {"name": "d"}}]
    with pytest.raises(InvalidRequest) as refused:
        chat.chat_request(body)
    assert refused.value.param == "tool_choice"


PNG = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"x" * 3000).decode()


def pictured(url, *, role="user", **fields):
    part = {"type": "image_url", "image_url": {"url": url, **fields}}
    return {"model": "m", "messages": [{"role": role, "content": [{"type": "text", "text": "What is it?"}, part]}]}


def test_an_image_costs_its_tokens_and_not_its_bytes():
    body = pictured(PNG, detail="low")
    chat.chat_request(body)
    chat.chat_request({"model": "m", "messages": [{"role": "user", "content": body["messages"][0]["content"][1:]}]})
    plain = {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is it?"}]}]}
    ceiling = ceilings.prompt_tokens_ceiling(plain, 0)
    assert ceilings.prompt_tokens_ceiling(body, 0, image_tokens=1200) == ceiling + 1200
    assert ceilings.prompt_tokens_floor(body) == ceilings.prompt_tokens_floor(plain)
    assert chat.engine_body(body, max_output_tokens=0)["messages"] == body["messages"]
    assert len(images.shortened(json.dumps(body))) < 300


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (pictured("https://example.org/cat.png"), "not fetched"),
        (pictured("HTTP://169.254.169.254/"), "not fetched"),
        (pictured("file:///etc/passwd"), "data URL"),
        (pictured("data:image/svg+xml;base64,PHN2Zz4="), "data URL"),
        (pictured("data:image/png;base64,!!"), "data URL"),
        (pictured("data:image/png;base64,abc"), "broken"),
        (pictured(PNG.replace("png", "jpeg")), "no JPEG image"),
        (pictured(PNG, detail="huge"), "detail"),
        (pictured(PNG, role="system"), "only a user's message"),
        ({"model": "m", "messages": pictured(PNG)["messages"] * 51}, "at most 50 images"),
    ],
)
def test_images_that_are_none(body, says):
    with pytest.raises(InvalidRequest) as refused:
        chat.chat_request(body)
    assert says in refused.value.message
    assert refused.value.param.startswith("messages")


def test_pieces_of_calls_have_a_place():
    calls = [{"id": "a", "function": {"name": "f", "arguments": ""}}, {"id": "b"}]
    chunk = Completion(job_id=uuid7(), model="m").chunk([{"index": 0, "delta": {"tool_calls": calls}}])
    assert [call["index"] for call in chunk["choices"][0]["delta"]["tool_calls"]] == [0, 1]


def test_null_means_left_out():
    body = {"model": "acme/chat", "messages": ASK, "stop": None, "tools": None, "max_tokens": None, "stream": None}
    chat.chat_request(body)
    assert chat.engine_body(body, max_output_tokens=100) == {"messages": ASK, "max_tokens": 100}


@pytest.mark.parametrize(
    ("schema", "param"),
    [
        ({"name": "a b"}, "response_format.json_schema.name"),
        ({"name": "x" * 65}, "response_format.json_schema.name"),
        ({}, "response_format.json_schema.name"),
        ({"name": "x", "schema": 5}, "response_format.json_schema.schema"),
    ],
)
def test_a_deep_parameter_has_its_whole_path(schema, param):
    with pytest.raises(InvalidRequest) as refused:
        chat.chat_request(
            {"model": "a", "messages": ASK, "response_format": {"type": "json_schema", "json_schema": schema}}
        )
    assert refused.value.param == param


def test_names_from_the_request_are_shortened():
    with pytest.raises(InvalidRequest) as refused:
        chat.chat_request({"model": "a", "messages": ASK, "x" * 10_000: 1})
    assert len(refused.value.message) < 300


@pytest.mark.story
@given(JSON)
def test_what_parses_can_be_stored(value):
    raw = json.dumps({"x": value}).encode()
    try:
        body = parse(raw)
    except InvalidRequest:
        return
    check_storable(body)
    text = json.dumps(body, ensure_ascii=False).encode().decode()
    assert "\\u0000" not in text
    assert json.loads(text) == body


@given(st.binary())
def test_no_bytes_break_the_parser(raw):
    try:
        assert isinstance(parse(raw), dict)
    except InvalidRequest as refused:
        assert refused.status == 400  # noqa: PT017


@given(st.lists(st.lists(st.tuples(st.integers(0, 2), st.text(max_size=5)), max_size=3), max_size=10))
def test_the_whole_is_the_sum_of_its_chunks(chunks):
    completion = Completion(job_id=uuid7(), model="m")
    completion.gather([[{"index": index, "delta": {"content": text}} for index, text in chunk] for chunk in chunks])
    whole = completion.whole(usage(prompt_tokens=1, completion_tokens=2), None)
    for choice in whole["choices"]:
        said = [text for chunk in chunks for index, text in chunk if index == choice["index"]]
        assert choice["message"]["content"] == "".join(said)
    assert [choice["index"] for choice in whole["choices"]] == sorted({index for chunk in chunks for index, _ in chunk})


def test_ids_belong_to_the_job():
    job_id = uuid7()
    assert completion_id(job_id).removeprefix("chatcmpl-") == public("job", job_id).removeprefix("job_")


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=8))
def test_vectors_keep_their_bits(values):
    packed = base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
    data = [{"index": 0, "embedding": packed}]
    as_floats = embeddings.answer(model="m", data=data, usage={}, encoding_format=None)
    as_text = embeddings.answer(model="m", data=data, usage={}, encoding_format="base64")
    assert as_floats["data"][0]["embedding"] == values
    assert as_text["data"][0]["embedding"] == packed


@pytest.mark.parametrize(
    "raw",
    [
        rb'{"a": "\ud800"}',
        rb'{"a": "\ud800x"}',
        rb'{"a": "\udc00x"}',
        rb'{"\ud800\ud800": 1}',
        rb'{"a": "\ud800\u0041"}',
    ],
)
def test_half_a_surrogate_pair_is_called_that(raw):
    with pytest.raises(InvalidRequest) as refused:
        parse(raw)
    assert refused.value.reason == "invalid_json"
    assert "half a surrogate pair, which is no character" in refused.value.message


@pytest.mark.parametrize("raw", [b"{", b'{"a": "\xff"}', rb'{"a": "\ud8"}', rb'{"a": "\u12'])
def test_what_is_no_json_is_called_that(raw):
    with pytest.raises(InvalidRequest) as refused:
        parse(raw)
    assert "not valid JSON in UTF-8" in refused.value.message
