"""Chat completions with the official client for Python, by a real engine."""

import json

import openai
import pytest

from tests.compat.conftest import CHAT, MOCK

ASK = [{"role": "user", "content": "Tell me about the site."}]


def test_a_whole_answer_has_every_field(client):
    answer = client.chat.completions.create(model=CHAT, messages=ASK, max_completion_tokens=12, seed=7)
    assert answer.id.startswith("chatcmpl-")
    assert (answer.object, answer.model, answer.service_tier) == ("chat.completion", CHAT, "default")
    (choice,) = answer.choices
    assert (choice.index, choice.message.role, choice.message.refusal) == (0, "assistant", None)
    assert choice.message.content
    assert choice.finish_reason in {"stop", "length"}
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert 0 < usage.completion_tokens <= 12
    assert usage.prompt_tokens_details.cached_tokens >= 0
    assert usage.completion_tokens_details.reasoning_tokens == 0
    assert usage.model_extra["cost_microusd"] > 0
    assert usage.model_extra["energy_wh"] > 0
    assert answer.model_extra["site"] == "Georgia 1"


def test_a_stream_says_the_same_as_the_whole_answer(client):
    asked = {"model": CHAT, "messages": ASK, "max_tokens": 24, "seed": 11, "temperature": 0}
    whole = client.chat.completions.create(**asked)
    with client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}) as stream:
        chunks = list(stream)
    assert {(chunk.id, chunk.created, chunk.object) for chunk in chunks} == {
        (chunks[0].id, chunks[0].created, "chat.completion.chunk")
    }
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    assert text == whole.choices[0].message.content
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-1].usage.model_extra["energy_wh"] > 0


def test_the_clients_own_stream_helper_gathers_it(client):
    free = client.chat.completions.create(model=CHAT, messages=ASK, max_tokens=24, temperature=0)
    word = free.choices[0].message.content.split()[3]  # the helper takes an answer that ran out of tokens for an error
    with client.chat.completions.stream(model=CHAT, messages=ASK, temperature=0, stop=word) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content


def test_several_choices(client):
    answer = client.chat.completions.create(model=CHAT, messages=ASK, max_tokens=6, n=3, temperature=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert all(choice.message.content for choice in answer.choices)


def test_a_stop_word_ends_it(client):
    free = client.chat.completions.create(model=CHAT, messages=ASK, max_tokens=24, temperature=0).choices[0]
    word = free.message.content.split()[3]
    held = client.chat.completions.create(model=CHAT, messages=ASK, max_tokens=24, temperature=0, stop=[word]).choices[
        0
    ]
    assert held.finish_reason == "stop"
    assert free.message.content.startswith(held.message.content)
    assert word not in held.message.content


def test_log_probabilities_come_with_each_token(client):
    answer = client.chat.completions.create(model=CHAT, messages=ASK, max_tokens=4, logprobs=True, top_logprobs=2)
    items = answer.choices[0].logprobs.content
    assert len(items) == answer.usage.completion_tokens
    assert all(item.logprob <= 0 and len(item.top_logprobs) == 2 for item in items)


def test_json_by_a_schema(client):
    schema = {
        "type": "object",
        "properties": {"site": {"type": "string", "enum": ["Georgia 1", "Texas 2"]}, "racks": {"type": "integer"}},
        "required": ["site", "racks"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=CHAT,
        messages=ASK,
        max_tokens=60,
        response_format={"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": True}},
    )
    said = answer.choices[0].message.content
    if answer.choices[0].finish_reason == "stop":
        assert set(json.loads(said)) == {"site", "racks"}
    assert said.lstrip().startswith("{")


def test_a_client_that_hangs_up_pays_for_what_it_got(client, portal, engine):
    engine.control(tokens_per_second=10)
    try:
        with client.chat.completions.create(model=MOCK, messages=ASK, max_tokens=200, stream=True) as stream:
            job = stream.response.headers["x-job-id"]
            for _ in range(4):
                next(stream)
        with portal.client() as http:
            portal.wait_until(lambda: http.get(f"/api/v1/jobs/{job}").json()["state"] == "cancelled", seconds=10)
            ended = http.get(f"/api/v1/jobs/{job}").json()
    finally:
        engine.control(tokens_per_second=0)
    assert 0 < ended["usage"]["completion_tokens"] < 100
    assert ended["charge_microusd"] > 0


def test_a_failure_in_the_middle_of_a_stream_is_raised(client, engine):
    engine.control(cut_after=3)
    try:
        with pytest.raises(openai.APIError) as failed:
            list(client.chat.completions.create(model=MOCK, messages=ASK, max_tokens=20, stream=True))
    finally:
        engine.control(cut_after=None)
    assert failed.value.code == "engine_unavailable"
