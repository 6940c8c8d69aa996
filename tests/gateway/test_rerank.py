"""POST /v1/rerank: order, documents, price by input, ceilings, refusals."""

import math
from types import SimpleNamespace

import pytest

from apps.jobs.models import Job
from apps.ledger.models import Hold
from tests import make
from tests.gateway.portal import ScriptedSite
from tests.gateway.test_refusals import error, nothing_written, post

__all__ = ["post"]  # a fixture

RESULTS = [
    {"index": 1, "relevance_score": 0.9},
    {"index": 2, "relevance_score": 0.5},
    {"index": 0, "relevance_score": -0.1},
]


@pytest.fixture(params=["rerank", "embeddings"])
def ranker(shop, request):
    model = make.model(kind=request.param, output=0, context_tokens=64)
    with ScriptedSite(make.pool(model=model).code) as site:

        def script(attempt):
            attempt.claim()
            attempt.usage = attempt.usage.model_copy(update={"prompt_tokens": 12})
            attempt.finish(result={"results": RESULTS})

        site.script = script
        yield SimpleNamespace(model=model, site=site)


def test_documents_are_ranked(ranker, post):
    asked = {"model": ranker.model.name, "query": "cat", "documents": ["dog", {"text": "feline"}, "x" * 100]}
    body = post({**asked, "top_n": 2}, path="/v1/rerank").json()
    assert body["results"] == [
        {"index": 1, "relevance_score": 0.9, "document": {"text": "feline"}},
        {"index": 2, "relevance_score": 0.5, "document": {"text": "x" * 100}},
    ]
    assert (body["object"], body["model"], body["meta"]) == (
        "list",
        ranker.model.name,
        {"billed_units": {"input_tokens": 12}},
    )
    assert (body["usage"]["prompt_tokens"], body["usage"]["total_tokens"]) == (12, 12)
    assert body["usage"]["cost_microusd"] == math.ceil(12 * 0.12)
    assert ranker.site.orders[0].kind == "rerank"
    assert ranker.site.orders[0].body == {"query": "cat", "documents": ["dog", "feline", "x" * 100]}
    job = Job.objects.get()
    assert (job.kind, job.charge_microusd) == ("rerank", 2)
    # Vectors: each text once. Pairs: the query with each. No more than the context at a time.
    tokens = (3 + 16) + (3 + 16) + (6 + 16) + 64 if ranker.model.kind == "embeddings" else 38 + 41 + 64
    assert job.hold_microusd == math.ceil(tokens * 0.12)
    assert not Hold.objects.filter(state="open").exists()
    bare = post({**asked, "return_documents": False}, path="/v1/rerank").json()
    assert bare["results"] == RESULTS


WRONG = [
    ({"query": " "}, "empty", "query"),
    ({"query": 1}, "invalid_type", "query"),
    ({"documents": []}, "invalid_value", "documents"),
    ({"documents": ["a", ""]}, "empty", "documents[1]"),
    ({"documents": ["a", {"title": "x"}]}, "missing_required_parameter", "documents[1].text"),
    ({"documents": ["a"] * 1001}, "invalid_value", "documents"),
    ({"documents": ["a", "x" * 100_000]}, "context_length_exceeded", "documents[1]"),
    ({"top_n": 0}, "invalid_value", "top_n"),
    ({"rank_fields": ["a"]}, "unknown_parameter", "rank_fields"),
]


def test_wrong_parameters_are_named(shop, post):
    model = make.model(kind="rerank")
    vectors = make.model(kind="embeddings", capabilities=["token_input"])
    with nothing_written():
        for changes, code, param in WRONG:
            found = error(post({"model": model.name, "query": "a", "documents": ["b"], **changes}, path="/v1/rerank"))
            assert (found["code"], found["param"]) == (code, param), changes
        for name in (shop.model.name, vectors.name):
            found = error(post({"model": name, "query": "a", "documents": ["b"]}, path="/v1/rerank"))
            assert (found["code"], found["param"]) == ("wrong_model_kind", "model")
