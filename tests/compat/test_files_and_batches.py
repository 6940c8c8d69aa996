"""Files and batches with the official client for Python, by real engines."""

import json

import openai
import pytest

from tests.compat.conftest import CHAT, EMBEDDINGS


def lines(*rows: dict) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def row(number: int, **body) -> dict:
    return {
        "custom_id": f"row-{number}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": CHAT, "messages": [{"role": "user", "content": f"Row {number}."}], "max_tokens": 4, **body},
    }


def finished(client, portal, batch_id: str, seconds: float = 90):
    portal.wait_until(
        lambda: client.batches.retrieve(batch_id).status in {"completed", "failed", "expired", "cancelled"},
        seconds=seconds,
    )
    return client.batches.retrieve(batch_id)


def test_a_file_is_kept_listed_read_and_deleted(client):
    content = lines(row(1), row(2))
    made = client.files.create(file=("rows.jsonl", content), purpose="batch")
    assert (made.object, made.bytes, made.filename, made.purpose) == ("file", len(content), "rows.jsonl", "batch")
    assert made.id in [file.id for file in client.files.list(purpose="batch")]
    assert client.files.retrieve(made.id) == made
    assert client.files.content(made.id).read() == content
    assert client.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(made.id)


def test_a_batch_of_chats_ends_with_a_line_for_each(client, portal):
    file = client.files.create(file=("rows.jsonl", lines(*(row(n) for n in range(40)))), purpose="batch")
    made = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"run": "7"}
    )
    assert (made.object, made.endpoint, made.metadata) == ("batch", "/v1/chat/completions", {"run": "7"})
    assert made.id in [batch.id for batch in client.batches.list()]
    batch = finished(client, portal, made.id)
    assert batch.status == "completed", batch
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (40, 40, 0)
    answers = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    assert {answer["custom_id"] for answer in answers} == {f"row-{n}" for n in range(40)}
    assert all(answer["response"]["status_code"] == 200 and answer["error"] is None for answer in answers)
    body = answers[0]["response"]["body"]
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"]["content"]


def test_a_batch_of_embeddings(client, portal):
    rows = [
        {
            "custom_id": f"text-{n}",
            "method": "POST",
            "url": "/v1/embeddings",
            "body": {"model": EMBEDDINGS, "input": f"Text {n}"},
        }
        for n in range(5)
    ]
    file = client.files.create(file=("rows.jsonl", lines(*rows)), purpose="batch")
    made = client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
    batch = finished(client, portal, made.id)
    answers = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    assert len(answers) == 5
    assert len(answers[0]["response"]["body"]["data"][0]["embedding"]) == 384


def test_every_bad_line_is_named_and_nothing_is_charged(client, portal):
    with portal.client() as http:
        before = http.get("/api/v1/balance").json()
        bad = lines(row(1), row(1), row(3, temperature=9)) + b"{not json\n"
        file = client.files.create(file=("rows.jsonl", bad), purpose="batch")
        made = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        batch = finished(client, portal, made.id)
        assert batch.status == "failed"
        assert [error.line for error in batch.errors.data] == [2, 3, 4]
        assert http.get("/api/v1/balance").json() == before


def test_a_cancelled_batch_keeps_what_was_done(client, portal):
    file = client.files.create(
        file=("rows.jsonl", lines(*(row(n, max_tokens=400) for n in range(300)))), purpose="batch"
    )
    made = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    portal.wait_until(lambda: client.batches.retrieve(made.id).status == "in_progress", seconds=60)
    assert client.batches.cancel(made.id).status in {"cancelling", "cancelled"}
    batch = finished(client, portal, made.id)
    assert batch.status == "cancelled"
    with portal.client() as http:
        portal.wait_until(lambda: http.get("/api/v1/balance").json()["held_microusd"] == 0)


@pytest.mark.parametrize(
    ("endpoint", "body", "kind"),
    [
        ("/v1/completions", {"model": CHAT, "prompt": "One,", "max_tokens": 4}, "text_completion"),
        ("/v1/responses", {"model": CHAT, "input": "Say one.", "max_output_tokens": 16}, "response"),
        ("/v1/embeddings", {"model": EMBEDDINGS, "input": "one"}, "list"),
        ("/v1/rerank", {"model": EMBEDDINGS, "query": "one", "documents": ["two", "one"]}, "list"),
    ],
)
def test_a_batch_for_each_endpoint(client, portal, endpoint, body, kind):
    rows = [{"custom_id": f"row-{n}", "method": "POST", "url": endpoint, "body": body} for n in range(3)]
    file = client.files.create(file=("rows.jsonl", lines(*rows)), purpose="batch")
    made = client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h")
    batch = finished(client, portal, made.id)
    assert (batch.status, batch.request_counts.completed) == ("completed", 3), batch
    answers = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    assert [answer["response"]["body"]["object"] for answer in answers] == [kind] * 3
    if endpoint == "/v1/rerank":
        best = answers[0]["response"]["body"]["results"][0]
        assert (best["index"], best["document"]) == (1, {"text": "one"})


def test_a_batch_of_a_file_that_is_not_there(client):
    with pytest.raises(openai.APIStatusError) as refused:
        client.batches.create(
            input_file_id="file_00000000000000000000000000", endpoint="/v1/chat/completions", completion_window="24h"
        )
    assert refused.value.status_code in {400, 404}
    assert refused.value.param == "input_file_id"
