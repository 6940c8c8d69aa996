"""Every endpoint a batch may be for: what its lines may ask, what a site is given, and the rows in the output file."""

import base64
import struct
from typing import Any
from uuid import UUID

import pytest

from apps.batches.models import Batch
from apps.core.ids import public
from apps.runner.protocol import RowResult, Usage
from tests import make
from tests.batches.works import Works, deliver, nothing_written, report

pytestmark = pytest.mark.story
INPUT = Usage(prompt_tokens=10)


def lines(endpoint: str, *bodies: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"custom_id": f"row-{number}", "method": "POST", "url": endpoint, "body": body}
        for number, body in enumerate(bodies, start=1)
    ]


def run(works: Works, endpoint: str, *rows: tuple[dict[str, Any], dict[str, Any]]) -> list[dict[str, Any]]:
    """A batch of (body, what the engine gives) to its end. The bodies of its output, without what differs by the run."""
    batch = works.begin(lines(endpoint, *(body for body, _ in rows)), endpoint=endpoint)
    assert batch.errors == []
    (job,) = works.feed()
    results = [RowResult(line=n, **{"usage": INPUT, **given}) for n, (_, given) in enumerate(rows, start=1)]
    deliver(report(job, "finished", results))
    works.finalize(batch)
    assert (batch.state, batch.completed) == ("completed", len(rows))
    works.correct(batch)
    assert job.kind == {"/v1/rerank": "rerank", "/v1/completions": "completion", "/v1/embeddings": "embeddings"}.get(
        endpoint, "chat"
    )
    told = works.read(batch.output_file_id)
    assert [line["custom_id"] for line in told] == [f"row-{n}" for n in range(1, len(rows) + 1)]
    assert [line["response"]["status_code"] for line in told] == [200] * len(rows)
    assert [line["error"] for line in told] == [None] * len(rows)
    bodies = [line["response"]["body"] for line in told]
    site = works.pool.node.site.name
    for line, body in zip(told, bodies, strict=True):
        assert body.pop("site") == site
        identity = line["id"].removeprefix("batch_req_")
        if "id" in body:
            assert body.pop("id").endswith(identity)
    return bodies


def usage(*, read: int = 10, written: int | None = None, cost: int) -> dict[str, Any]:
    """As the official answers say it, and our cost."""
    told: dict[str, Any] = {
        "prompt_tokens": read,
        "total_tokens": read + (written or 0),
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "cost_microusd": cost,
    }
    if written is not None:
        told |= {
            "completion_tokens": written,
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }
    return told


def test_completions(works):
    name = works.model.name
    works.model.capabilities = ["completions", "logprobs"]
    works.model.save()

    def chosen(index: int, said: str, **more: Any) -> dict[str, Any]:
        return {"index": index, "delta": {"content": said}, "finish_reason": "stop", **more}

    likely = {"tokens": [" Paris"], "token_logprobs": [-0.5], "top_logprobs": None, "text_offset": [0]}
    first, second = run(
        works,
        "/v1/completions",
        (
            {"model": name, "prompt": ["France:", "Spain:"], "echo": True, "max_tokens": 4, "n": 2},
            {"choices": [chosen(n, f" {n}") for n in range(4)], "usage": Usage(prompt_tokens=10, completion_tokens=8)},
        ),
        (
            {"model": name, "prompt": "France:", "logprobs": 0},
            {
                "choices": [chosen(0, " Paris", logprobs=likely, finish_reason="length")],
                "usage": Usage(prompt_tokens=10, completion_tokens=1),
            },
        ),
    )
    created = first.pop("created")
    assert second.pop("created") == created
    assert first == {
        "object": "text_completion",
        "model": name,
        "service_tier": "default",
        "choices": [
            {"index": 0, "text": "France: 0", "logprobs": None, "finish_reason": "stop"},
            {"index": 1, "text": "France: 1", "logprobs": None, "finish_reason": "stop"},
            {"index": 2, "text": "Spain: 2", "logprobs": None, "finish_reason": "stop"},
            {"index": 3, "text": "Spain: 3", "logprobs": None, "finish_reason": "stop"},
        ],
        "usage": usage(written=8, cost=3),
    }
    assert second["choices"] == [{"index": 0, "text": " Paris", "logprobs": likely, "finish_reason": "length"}]


def test_responses(works):
    name = works.model.name
    call = {"index": 0, "id": "call_1", "function": {"name": "weather", "arguments": '{"in": "Asunción"}'}}
    tool = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}
    said, called = run(
        works,
        "/v1/responses",
        (
            {
                "model": name,
                "input": "Capital of France?",
                "instructions": "One word.",
                "max_output_tokens": 16,
                "metadata": {"a": "b"},
            },
            {
                "choices": [{"index": 0, "delta": {"content": "Paris"}, "finish_reason": "stop"}],
                "usage": Usage(prompt_tokens=10, completion_tokens=20),
            },
        ),
        (
            {"model": name, "input": [{"role": "user", "content": "Weather?"}], "tools": [tool], "store": False},
            {
                "choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}],
                "usage": Usage(prompt_tokens=10, completion_tokens=20),
            },
        ),
    )
    at = said.pop("created_at")
    (item,) = said["output"]
    assert item.pop("id").startswith("msg_")
    assert said == {
        "object": "response",
        "status": "completed",
        "completed_at": at,
        "error": None,
        "incomplete_details": None,
        "output": [
            {
                "type": "message",
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Paris", "annotations": [], "logprobs": []}],
            }
        ],
        "usage": {
            "input_tokens": 10,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 20,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 30,
            "cost_microusd": 5,
        },
        "background": False,
        "instructions": "One word.",
        "max_output_tokens": 16,
        "max_tool_calls": None,
        "metadata": {"a": "b"},
        "model": name,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "store": False,
        "temperature": None,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": None,
        "truncation": "disabled",
        "user": None,
    }
    (item,) = called["output"]
    assert item.pop("id").startswith("fc_")
    assert item == {
        "type": "function_call",
        "status": "completed",
        "call_id": "call_1",
        "name": "weather",
        "arguments": '{"in": "Asunción"}',
    }
    assert called["tools"] == [tool]


def test_embeddings_as_numbers_whatever_is_asked(works):
    vectors = make.model(kind="embeddings", input=20_000, output=0, dimensions=2)
    works.pool = make.pool(model=vectors, slots=4)
    packed = base64.b64encode(struct.pack("<2f", 0.5, -0.25)).decode()
    (body,) = run(
        works,
        "/v1/embeddings",
        (
            {"model": vectors.name, "input": ["a", "b"], "encoding_format": "base64"},
            {"result": {"data": [{"index": 1, "embedding": packed}, {"index": 0, "embedding": packed}]}},
        ),
    )
    assert body == {
        "object": "list",
        "model": vectors.name,
        "data": [{"object": "embedding", "index": n, "embedding": [0.5, -0.25]} for n in (0, 1)],
        "usage": usage(cost=1),
    }


@pytest.mark.parametrize("kind", ["rerank", "embeddings"])  # one of vectors ranks by their likeness
def test_rerank(works, kind):
    model = make.model(kind=kind, input=20_000, output=0)
    works.pool = make.pool(model=model, slots=4)
    asked = {"model": model.name, "query": "Capital?", "documents": ["Rome", {"text": "Paris"}, "Oslo"]}
    results = [{"index": 1, "relevance_score": 0.9}, {"index": 2, "relevance_score": 0.5}]
    given = {"result": {"results": [*results, {"index": 0, "relevance_score": 0.1}]}}
    cut, bare = run(
        works,
        "/v1/rerank",
        ({**asked, "top_n": 2}, given),
        ({**asked, "return_documents": False}, given),
    )
    assert cut == {
        "object": "list",
        "model": model.name,
        "results": [
            {"index": 1, "relevance_score": 0.9, "document": {"text": "Paris"}},
            {"index": 2, "relevance_score": 0.5, "document": {"text": "Oslo"}},
        ],
        "usage": usage(cost=1),
        "meta": {"billed_units": {"input_tokens": 10}},
    }
    assert bare["results"] == [*results, {"index": 0, "relevance_score": 0.1}]


def refused(works: Works, endpoint: str, *bodies: dict[str, Any]) -> list[tuple[str, str | None, int | None]]:
    batch: Batch = works.begin(lines(endpoint, *bodies), endpoint=endpoint)
    assert batch.state == "failed"
    nothing_written(batch)
    return [(error["code"], error["param"], error["line"]) for error in batch.errors]


def test_what_a_batch_cannot_do_is_refused_by_name(works):
    asked = {"model": works.model.name, "input": "Hi"}
    earlier = public("resp", UUID(int=1))
    assert refused(
        works,
        "/v1/responses",
        {**asked, "stream": True},
        {**asked, "background": True},
        {**asked, "previous_response_id": earlier},
        {**asked, "store": True},
        {**asked, "conversation": "conv_1"},
        {**asked, "max_output_tokens": 0},
        {**asked, "max_output_tokens": 5000},
    ) == [
        ("invalid_value", "body.stream", 1),
        ("unsupported_parameter", "body.background", 2),
        ("unsupported_parameter", "body.previous_response_id", 3),
        ("invalid_value", "body.store", 4),
        ("unsupported_parameter", "body.conversation", 5),
        ("invalid_value", "body.max_output_tokens", 6),
        ("invalid_value", "body.max_output_tokens", 7),
    ]
    name = works.model.name
    assert refused(
        works,
        "/v1/completions",
        {"model": name, "prompt": "Hi", "stream": True},
        {"model": name, "prompt": ""},
        {"model": name, "messages": []},
        {"model": name, "prompt": "Hi", "service_tier": "flex"},
    ) == [
        ("invalid_value", "body.stream", 1),
        ("empty", "body.prompt", 2),
        ("missing_required_parameter", "body.prompt", 3),
        ("invalid_value", "body.service_tier", 4),
    ]
    small = make.model(kind="embeddings", vocabulary_tokens=100).name
    assert refused(
        works, "/v1/embeddings", {"model": small, "input": [99]}, {"model": small, "input": [[1], [100]]}
    ) == [("token_out_of_vocabulary", "body.input[1][0]", 2)]
    ranks = make.model(kind="rerank")
    assert refused(
        works,
        "/v1/rerank",
        {"model": ranks.name, "query": "", "documents": ["a"]},
        {"model": ranks.name, "query": "a", "documents": [" "]},
        {"model": ranks.name, "query": "a", "documents": ["a"], "max_tokens": 1},
    ) == [
        ("empty", "body.query", 1),
        ("empty", "body.documents[0]", 2),
        ("unknown_parameter", "body.max_tokens", 3),
    ]
    assert refused(works, "/v1/rerank", {"model": name, "query": "a", "documents": ["a"]}) == [
        ("wrong_model_kind", "body.model", 1)
    ]
