"""The official OpenAI client, unchanged but for base URL and key, against the real engines."""

import math
import time

import openai
import pytest

from tests.started import ROOT


@pytest.fixture
def client(portal):
    with openai.OpenAI(base_url=f"{portal.base_url}/v1", api_key=portal.demo["api_key"], max_retries=0) as made:
        yield made


def test_it_lists_models_and_finds_one(client):
    names = [model.id for model in client.models.list()]
    assert {"cango/demo-chat", "sentence-transformers/all-minilm-l6-v2", "rapidocr/pp-ocrv6"} <= set(names)
    assert client.models.retrieve("cango/demo-chat").model_extra["pricing"]


def test_it_streams_a_chat_with_usage(client, portal):
    stream = client.chat.completions.create(
        model="cango/demo-chat",
        messages=[{"role": "user", "content": "Tell me about the site."}],
        max_tokens=40,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    usage = chunks[-1].usage
    assert len(text.split()) >= 3
    assert 0 < usage.completion_tokens <= 40
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.model_extra["cost_microusd"] > 0
    assert usage.model_extra["energy_wh"] > 0
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


def test_embeddings_know_a_cat_from_an_invoice(client):
    answer = client.embeddings.create(
        model="sentence-transformers/all-minilm-l6-v2", input=["cat", "feline", "invoice"]
    )
    cat, feline, invoice = (item.embedding for item in answer.data)

    def cosine(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)

    assert len(cat) == 384
    assert cosine(cat, feline) > 0.6 > 0.3 > cosine(cat, invoice)


def test_refusals_arrive_as_the_clients_own_errors(client, portal):
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="cango_wrong").models.list()
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="nobody/nothing", messages=[{"role": "user", "content": "x"}])
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as empty:
        client.chat.completions.create(model="cango/demo-chat", messages=[])
    assert empty.value.param == "messages"


@pytest.mark.parametrize(("name", "pages"), [("invoice.png", 1), ("invoice.pdf", 2)])
def test_a_job_reads_the_sample_invoice(portal, name, pages):
    with portal.client() as http, (ROOT / "docs" / "samples" / name).open("rb") as file:
        made = http.post("/api/v1/jobs", data={"model": "rapidocr/pp-ocrv6"}, files={"file": (name, file)})
        assert made.status_code == 202, made.text
        address = f"/api/v1/jobs/{made.json()['id']}"
        deadline = time.monotonic() + 90
        while (job := http.get(address).json())["state"] not in ("succeeded", "failed"):
            assert time.monotonic() < deadline, portal.story()
            time.sleep(0.2)
    assert job["state"] == "succeeded", job
    assert "HC-2026-0417" in job["text"]
    assert len(job["result"]["pages"]) == pages
    assert job["usage"]["pages"] == pages
