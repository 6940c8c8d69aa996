"""Bad input gets a clear error and leaves nothing held."""

import asyncio
import contextlib
import gzip
import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import httpx
import openai
import psycopg
import pytest
from django.conf import settings
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from apps.core import asgi
from apps.dispatch.models import Order
from apps.files.models import File
from apps.jobs import refusals
from apps.jobs.models import Job, Refusal
from apps.jobs.tasks import forget_refusals
from apps.keys import secrets
from apps.keys import services as keys
from apps.ledger import services as ledger
from apps.ledger.models import Hold, Transfer
from cango_portal import database
from tests import make

ASK = [{"role": "user", "content": "Hello"}]


@contextlib.contextmanager
def nothing_written():
    def written() -> list[int]:
        rows = [model.objects.count() for model in (Job, Hold, Transfer, File, Order)]
        return [*rows, sum(path.is_file() for path in Path(settings.MEDIA_ROOT).rglob("*"))]

    before = written()
    yield
    assert written() == before


@pytest.fixture
def post(shop, http):
    return partial(send, http, shop.secret)


def send(http, key, body, *, path="/v1/chat/completions"):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    return http.post(path, content=content, headers=headers)


def error(response) -> dict[str, str | None]:
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"].startswith("req_")
    assert response.headers["openai-version"] == "2020-10-01"
    (body,) = response.json().values()
    assert set(body) == {"message", "type", "param", "code"}
    assert body["message"]
    return body


NO_KEYS = [None, "", "Bearer", "Basic abc", f"Bearer {secrets.new()}", "Bearer sk-1", "Bearer \xff"]
DOORS = [
    ("POST", "/v1/chat/completions"),
    ("GET", "/v1/chat/completions"),
    ("DELETE", "/v1/chat/completions/chatcmpl-1"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/rerank"),
    ("POST", "/v1/embeddings"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/a/b"),
    ("POST", "/v1/responses"),
    ("GET", "/v1/responses/resp_1"),
    ("DELETE", "/v1/responses/resp_1"),
    ("POST", "/v1/responses/resp_1/cancel"),
    ("GET", "/v1/responses/resp_1/input_items"),
]


def test_without_a_key_in_force(shop, http):
    with nothing_written():
        for authorization in NO_KEYS:
            headers = {} if authorization is None else {"authorization": authorization.encode("latin-1")}
            for method, path in DOORS:
                response = http.request(method, path, headers=headers)
                assert response.status_code == 401, authorization
                assert error(response)["code"] == "invalid_api_key"


def test_a_revoked_key_is_refused_at_once(client, shop):
    assert client.models.list().data
    keys.revoke(key=shop.key, user=None)
    with nothing_written(), pytest.raises(openai.AuthenticationError) as refused:
        client.chat.completions.create(model=shop.model.name, messages=ASK)
    assert refused.value.code == "invalid_api_key"


WRONG_CHAT = [
    ({"model": "acme/none"}, "model_not_found", "model"),
    ({"model": ""}, "invalid_value", "model"),
    ({"model": 5}, "invalid_type", "model"),
    ({"model": None}, "invalid_type", "model"),
    ({"messages": []}, "invalid_value", "messages"),
    ({"messages": "Hello"}, "invalid_type", "messages"),
    ({"messages": [{"role": "user", "content": ""}]}, "empty", "messages"),
    ({"messages": [{"role": "user", "content": "x" * 70_000}]}, "context_length_exceeded", "messages"),
    ({"messages": [{"role": "user", "content": 1}]}, "invalid_type", "messages[0].content"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "invalid_type", "messages[0]"),
    (
        {"messages": [*ASK, {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]},
        "invalid_value",
        "messages[1].content[0].image_url.url",
    ),
    ({"max_tokens": 1025}, "invalid_value", "max_tokens"),
    ({"max_completion_tokens": 10**9}, "invalid_value", "max_completion_tokens"),
    ({"max_tokens": 0}, "invalid_value", "max_tokens"),
    ({"max_tokens": "5"}, "invalid_type", "max_tokens"),
    ({"temperature": 2.1}, "invalid_value", "temperature"),
    ({"temperature": "hot"}, "invalid_type", "temperature"),
    ({"n": 9}, "invalid_value", "n"),
    ({"top_logprobs": 2}, "invalid_value", "top_logprobs"),
    ({"stream": "yes"}, "invalid_type", "stream"),
    ({"stream_options": {"include_usage": True}}, "invalid_value", "stream_options"),
    ({"logit_bias": {"the": 1}}, "invalid_value", "logit_bias.the.[key]"),
    ({"logit_bias": {"1": 101}}, "invalid_value", "logit_bias.1"),
    ({"prediction": {}}, "unsupported_parameter", "prediction"),
    ({"reasoning_effort": "much"}, "invalid_value", "reasoning_effort"),
    ({"functions": []}, "unsupported_parameter", "functions"),
    ({"store": "yes"}, "invalid_type", "store"),
    ({"metadata": {"a": 1}}, "invalid_type", "metadata.a"),
    ({"metadata": {"a": "x" * 513}}, "invalid_value", "metadata.a"),
    ({"metadata": {str(n): "x" for n in range(17)}}, "invalid_value", "metadata"),
    ({"messages": ASK * 10_001}, "invalid_value", "messages"),
    ({"max_completion_tokens": -5}, "invalid_value", "max_completion_tokens"),
    ({"service_tier": "priority"}, "invalid_value", "service_tier"),
    ({"service_tier": "scale"}, "invalid_value", "service_tier"),
    ({"service_tier": "batch"}, "invalid_value", "service_tier"),
    ({"service_tier": 1}, "invalid_value", "service_tier"),
    ({"modalities": ["audio"]}, "invalid_value", "modalities[0]"),
    ({"tool_choice": "auto"}, "invalid_value", "tool_choice"),
    ({"response_format": {"type": "xml"}}, "invalid_type", "response_format"),
    ({"temprature": 1}, "unknown_parameter", "temprature"),
    ({"user": "a\0b"}, "invalid_value", "user"),
    ({"seed": 2**63}, "invalid_value", "seed"),
]


def test_wrong_parameters_are_named(shop, post):
    with nothing_written():
        for changes, code, param in WRONG_CHAT:
            response = post({"model": shop.model.name, "messages": ASK, **changes})
            assert response.status_code == (404 if code == "model_not_found" else 400), changes
            found = error(response)
            assert (found["code"], found["param"]) == (code, param), changes
            assert found["type"] == "invalid_request_error"


WRONG_EMBEDDINGS = [
    ({"input": ""}, "empty", "input"),
    ({"input": []}, "invalid_value", "input"),
    ({"input": ["a", " "]}, "empty", "input[1]"),
    ({"input": ["a"] * 2049}, "invalid_value", "input"),
    ({"input": [[]]}, "invalid_value", "input[0]"),
    ({"input": ["a", 1]}, "invalid_type", "input[1]"),
    ({"input": {"a": 1}}, "invalid_type", "input"),
    ({"input": "x" * 20_000}, "context_length_exceeded", "input"),
    ({"input": [1] * 600}, "context_length_exceeded", "input"),
    ({"dimensions": 5}, "invalid_value", "dimensions"),
    ({"encoding_format": "int8"}, "invalid_value", "encoding_format"),
    ({"truncate": True}, "unknown_parameter", "truncate"),
]


def test_wrong_parameters_of_embeddings_are_named(shop, post):
    model = make.model(kind="embeddings", context_tokens=512)
    with nothing_written():
        for changes, code, param in WRONG_EMBEDDINGS:
            response = post({"model": model.name, "input": "cat", **changes}, path="/v1/embeddings")
            assert response.status_code == 400, changes
            found = error(response)
            assert (found["code"], found["param"]) == (code, param), changes


def test_tokens_outside_the_vocabulary_are_no_fault_of_form(shop, post):
    """422 and not 400: the same ids are right for another model. Where no size is known the engine judges."""
    vectors = make.model(kind="embeddings", vocabulary_tokens=100)
    texts = make.model(vocabulary_tokens=100)
    wrong = [
        ("/v1/embeddings", {"model": vectors.name, "input": [99, 100]}, "input[1]"),
        ("/v1/embeddings", {"model": vectors.name, "input": [[0], [5, 2**31 - 1]]}, "input[1][1]"),
        ("/v1/completions", {"model": texts.name, "prompt": [100]}, "prompt[0]"),
        ("/v1/completions", {"model": texts.name, "prompt": [[1], [1, 2, 100]], "stream": True}, "prompt[1][2]"),
    ]
    with nothing_written():
        for path, body, param in wrong:
            response = post(body, path=path)
            assert response.status_code == 422, body
            found = error(response)
            assert (found["code"], found["param"]) == ("token_out_of_vocabulary", param)
            assert found["type"] == "invalid_request_error"
            assert "its vocabulary has 100, counted from 0" in found["message"]
            assert "retry-after" not in response.headers


NOT_JSON = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"x"',
    b"\xff\xfe",
    b"{" * 100_000,
    b'{"a":' * 5000,
    b'{"model": NaN}',
    b'{"model":"\\ud800"}',
    b"<html>",
]


def test_what_is_not_json(shop, post):
    with nothing_written():
        for body in NOT_JSON:
            response = post(body)
            assert response.status_code == 400, body
            assert error(response)["code"] == "invalid_json"


EVERY_POST = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/rerank",
    "/v1/responses",
    "/v1/batches",
)
BAD_BYTES = [
    (b"{", "invalid_json", None),
    (b'{"model":"\\udc00"}', "invalid_json", None),
    (b'{"\\ud800":1}', "invalid_json", None),
    (b'{"model":"\xed\xa0\x80"}', "invalid_json", None),
    (b"\xef\xbb\xbf{}", "invalid_json", None),
    (b'{"model":"a\\u0000b"}', "invalid_value", "model"),
    (b'{"metadata":{"a\\u0000":"b"}}', "invalid_value", "metadata"),
    (b'{"a\\u0000":1}', "invalid_value", None),
    (b'{"metadata":' + b"[" * 65 + b"]" * 65 + b"}", "invalid_value", "metadata"),
    (b'{"n":18446744073709551616}', "invalid_value", "n"),
    (b'{"n":1e400}', "invalid_value", "n"),
    (b'{"model":{},"input":[],"input_file_id":1}', None, None),
    (b"{}", "missing_required_parameter", None),
]


def test_bad_bytes_are_named_at_every_door(shop, post):
    with nothing_written():
        for path in EVERY_POST:
            for body, code, param in BAD_BYTES:
                response = post(body, path=path)
                assert response.status_code == 400, (path, body)
                found = error(response)
                assert code in (None, found["code"]), (path, body, found)
                assert param in (None, found["param"]), (path, body, found)
                assert found["param"] or found["code"] == "invalid_json" or b"\\u0000" in body, (path, body, found)


@pytest.mark.story
@pytest.mark.parametrize("declared", [True, False])
def test_a_hundred_megabytes_are_not_kept(shop, http, declared):
    """Refused at once where they are announced, and after the first 8 MiB where they are not."""
    piece, count = b" " * 1_000_000, 100
    headers = {"authorization": f"Bearer {shop.secret}", "content-type": "application/json"}
    if declared:
        headers["content-length"] = str(len(piece) * count)
    with nothing_written():
        for path in EVERY_POST:
            try:
                response = http.post(path, content=(piece for _ in range(count)), headers=headers)
            except httpx.WriteError:  # the door hung up on who goes on sending
                continue
            assert (response.status_code, error(response)["code"]) == (413, "request_too_large")
    assert http.get("/v1/models", headers=headers | {"content-length": "0"}).status_code == 200


def test_a_body_too_large(shop, post, settings):
    settings.MAX_BODY_BYTES = 1000
    with nothing_written():
        response = post({"model": shop.model.name, "messages": [{"role": "user", "content": "x" * 1000}]})
    assert response.status_code == 413
    assert error(response)["code"] == "request_too_large"


OTHER_FORMS = [
    {"content-encoding": "gzip"},
    {"content-encoding": "deflate"},
    {"content-encoding": "br"},
    {"content-encoding": "identity, gzip"},
    {"content-type": "text/plain"},
    {"content-type": "application/x-www-form-urlencoded"},
    {"content-type": "multipart/form-data; boundary=x"},
]


def test_bodies_in_other_forms_are_not_unpacked(shop, http):
    bomb = gzip.compress(b" " * 50_000_000)
    key = {"authorization": f"Bearer {shop.secret}"}
    with nothing_written():
        for headers in OTHER_FORMS:
            for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/rerank", "/v1/batches"):
                response = http.post(path, content=bomb, headers={"content-type": "application/json", **key, **headers})
                assert (response.status_code, error(response)["code"]) == (415, "unsupported_media_type"), headers
    body = json.dumps({"model": "acme/none", "messages": ASK}).encode()
    for form in ("application/json; charset=utf-8", "Application/JSON", ""):
        response = http.post("/v1/chat/completions", content=body, headers={"content-type": form, **key})
        assert response.status_code == 404, form


@pytest.mark.parametrize("length", ["x", "-1", "1_0", "²", "1e3", "9" * 400])
async def test_a_length_that_is_no_number(length):
    sent = []

    async def receive():
        raise AssertionError("nothing of the body is read")

    async def send(message):
        sent.append(message)

    async def handler(request):
        await request.body(limit=10)

    async def emptied():
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/x",
        "query_string": b"",
        "headers": [(b"content-length", length.encode("latin-1"))],
    }
    receiving = emptied if length.startswith("9") else receive
    await asgi.door({("POST", "/x"): handler})(scope, receiving, send)
    assert sent[0]["status"] == (413 if length.startswith("9") else 400)


async def test_a_body_that_dawdles(monkeypatch):
    monkeypatch.setattr(asgi, "BODY_SECONDS", 0.05)
    sent = []

    async def receive():
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b" ", "more_body": True}

    async def send(message):
        sent.append(message)

    async def handler(request):
        await request.body(limit=1000)

    scope = {"type": "http", "method": "POST", "path": "/x", "query_string": b"", "headers": []}
    await asgi.door({("POST", "/x"): handler})(scope, receive, send)
    assert (sent[0]["status"], json.loads(sent[1]["body"])["error"]["code"]) == (408, "request_timeout")


def test_unknown_urls_and_methods(shop, http):
    for path in ("/v1/", "/v1/nothing", "/v1/models/", "/v1/chat/completions/"):
        response = http.get(path, headers={"authorization": f"Bearer {shop.secret}"})
        assert response.status_code == 404
        assert error(response)["code"] == "unknown_url"
    response = http.get("/v1/embeddings")
    assert response.status_code == 405
    assert error(response)["code"] == "method_not_allowed"


def test_no_credit_is_402_once_and_noted(shop, openai_client):
    poor = make.organization()
    key, secret = make.api_key(poor)
    client = openai_client.with_options(api_key=secret)  # with its retries
    with nothing_written(), pytest.raises(openai.APIStatusError) as refused:
        client.chat.completions.create(model=shop.model.name, messages=ASK)
    assert (refused.value.status_code, refused.value.code) == (402, "insufficient_credit")
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert "retry-after" not in refused.value.response.headers
    noted = Refusal.objects.get()
    assert (noted.organization_id, noted.api_key_id, noted.model_name, noted.code) == (
        poor.pk,
        key.pk,
        shop.model.name,
        "insufficient_credit",
    )
    assert ledger.balance(poor.pk).held_microusd == 0


def test_refusals_kept_are_bounded(db, monkeypatch):
    monkeypatch.setattr(refusals, "KEPT", 3)
    organization, other = make.organization(), make.organization()
    for owner in (organization, other):
        for n in range(5):
            database.run(
                refusals.record(organization_id=owner.pk, api_key_id=None, model_name="m", code="c", message=str(n))
            )
    assert [row.message for row in Refusal.objects.filter(organization=organization).order_by("id")] == ["2", "3", "4"]
    Refusal.objects.filter(organization=other).update(at="2020-01-01T00:00:00Z")
    forget_refusals()
    assert Refusal.objects.count() == 3


def test_a_database_that_is_away_is_a_503(shop, post, monkeypatch):
    async def away(plan):
        plan.close()
        raise psycopg.OperationalError("connection to server failed: secret host")

    monkeypatch.setattr(database, "run_async", away)
    with nothing_written():
        response = post({"model": shop.model.name, "messages": ASK})
    assert response.status_code == 503
    assert error(response)["code"] == "unavailable"
    assert int(response.headers["retry-after"]) >= 1
    assert "secret" not in response.text


def test_a_mistake_of_ours_says_its_number_and_nothing_else(shop, post, monkeypatch):
    async def broken(plan):
        plan.close()
        raise RuntimeError("secret detail")

    monkeypatch.setattr(database, "run_async", broken)
    response = post({"model": shop.model.name, "messages": ASK})
    assert response.status_code == 500
    assert error(response)["code"] == "server_error"
    assert response.headers["x-request-id"] in response.text
    assert "secret" not in response.text


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(
    [
        "messages",
        "model",
        "n",
        "stop",
        "tools",
        "tool_choice",
        "response_format",
        "stream",
        "stream_options",
        "metadata",
        "input",
        "seed",
    ]
) | st.text(max_size=6)
MESSAGES = st.lists(
    st.dictionaries(
        st.sampled_from(["role", "content", "tool_calls", "name"]),
        VALUES | st.sampled_from(["user", "assistant", "tool", "system"]),
        max_size=4,
    ),
    max_size=3,
)


@pytest.mark.story
@limits(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.binary(max_size=200)
    | VALUES.map(lambda value: json.dumps(value).encode())
    | st.tuples(st.dictionaries(NAMES, VALUES | MESSAGES, max_size=5)).map(lambda given: json.dumps(given[0]).encode()),
    path=st.sampled_from(["/v1/chat/completions", "/v1/embeddings", "/v1/completions", "/v1/rerank"]),
)
def test_whatever_arrives_is_answered_in_the_official_shape(broke, body, path):
    response = broke.post(body, path=path)
    assert 400 <= response.status_code < 500
    error(response)


@pytest.mark.story
@limits(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=NAMES, value=VALUES | MESSAGES)
def test_one_strange_parameter_never_breaks_anything(broke, name, value):
    body = {"model": broke.model.name, "messages": ASK, name: value}
    response = broke.post(body)
    assert 400 <= response.status_code < 500  # what is valid ends at the empty account
    error(response)


@pytest.fixture
def broke(shop, http):
    _, secret = make.api_key(make.organization())
    return SimpleNamespace(post=partial(send, http, secret), model=shop.model)
