"""Completions, stored chats and the demo's refusals with the official client; rerank by HTTP, for it has no such call."""

import openai
import pytest

from tests.compat.conftest import CHAT, EMBEDDINGS, MOCK

ASK = [{"role": "user", "content": "Tell me about the site."}]


def test_prompts_are_continued_by_a_real_engine(client):
    answer = client.completions.create(model=CHAT, prompt=["The site", "A model"], n=2, max_tokens=5, logprobs=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert all(choice.text and choice.logprobs.tokens for choice in answer.choices)
    assert 0 < answer.usage.completion_tokens <= 20
    stream = client.completions.create(model=CHAT, prompt="The site", echo=True, max_tokens=5, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream if chunk.choices).startswith("The site")
    assert client.completions.create(model=CHAT, prompt=[277, 278], max_tokens=3).usage.prompt_tokens == 2


def test_documents_are_ranked_by_real_vectors(client, portal):
    with portal.client() as http:
        body = {"model": EMBEDDINGS, "query": "cat", "documents": ["invoice", "feline", {"text": "a power bill"}]}
        answer = http.post("/v1/rerank", json=body).json()
    first, *_ = answer["results"]
    assert (first["index"], first["document"]) == (1, {"text": "feline"})
    assert first["relevance_score"] == pytest.approx(0.69754, abs=0.002)
    assert answer["usage"]["cost_microusd"] > 0


def test_a_stored_chat_can_be_asked_for_again(client):
    made = client.chat.completions.create(model=CHAT, messages=ASK, max_tokens=8, store=True, metadata={"job": "7"})
    again = client.chat.completions.retrieve(made.id)
    assert again.choices[0].message.content == made.choices[0].message.content
    assert [each.id for each in client.chat.completions.list(metadata={"job": "7"})] == [made.id]
    assert client.chat.completions.delete(made.id).deleted


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"tools": [{"type": "function", "function": {"name": "stop"}}]}, "tools"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"n": 9}, "n"),
    ],
)
def test_what_the_demo_engine_cannot_do_is_named(client, asked, param):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=CHAT, messages=ASK, **asked)
    assert refused.value.param == param


def test_an_engine_by_its_address_continues_too(client):
    answer = client.completions.create(model=MOCK, prompt="one two", max_tokens=4)
    assert (answer.choices[0].text, answer.usage.completion_tokens) == ("the site sells its", 4)
