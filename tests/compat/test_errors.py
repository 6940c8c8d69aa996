"""What the official client for Python raises, by status, with the code and the parameter it names."""

from typing import Any

import openai
import pytest

from tests.compat.conftest import CHAT, EMBEDDINGS, MOCK
from tests.engine import Behaviour

ASK = [{"role": "user", "content": "x"}]


@pytest.mark.parametrize(
    ("asked", "param", "code"),
    [
        ({"messages": []}, "messages", None),
        ({"max_tokens": -1}, "max_tokens", "invalid_value"),
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"extra_body": {"nonsense": 1}}, "nonsense", "unknown_parameter"),
        ({"model": EMBEDDINGS}, "model", "wrong_model_kind"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
    ],
)
def test_a_wrong_request_names_its_parameter(client, asked, param, code):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**{"model": CHAT, "messages": ASK, **asked})
    assert refused.value.param == param
    assert code is None or refused.value.code == code
    assert refused.value.type == "invalid_request_error"
    assert refused.value.request_id.startswith("req_")


def test_an_unknown_model_and_a_wrong_key(client):
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="nobody/nothing", messages=ASK)
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.AuthenticationError) as stranger:
        client.with_options(api_key="cango_wrong").models.list()
    assert stranger.value.code == "invalid_api_key"


def asks(client: openai.OpenAI, **options: Any) -> Any:
    return client.chat.completions.create(**{"model": CHAT, "messages": ASK, "max_tokens": 4, **options})


@pytest.mark.parametrize(
    ("status", "raised", "code", "ask"),
    [
        (
            402,
            openai.APIStatusError,
            "budget_exceeded",
            lambda client, keys: asks(client.with_options(api_key=keys["broke"])),
        ),
        (
            403,
            openai.PermissionDeniedError,
            "model_not_allowed",
            lambda client, keys: asks(client.with_options(api_key=keys["narrow"])),
        ),
        (
            404,
            openai.NotFoundError,
            "response_not_found",
            lambda client, keys: client.responses.retrieve("resp_" + "0" * 26),
        ),
        (
            413,
            openai.APIStatusError,
            "request_too_large",
            lambda client, keys: asks(client, messages=[{"role": "user", "content": "x" * 9_000_000}]),
        ),
        (
            415,
            openai.APIStatusError,
            "unsupported_media_type",
            lambda client, keys: asks(client, extra_headers={"Content-Type": "text/plain"}),
        ),
        (
            422,
            openai.UnprocessableEntityError,
            "token_out_of_vocabulary",
            lambda client, keys: client.embeddings.create(model=EMBEDDINGS, input=[[30_521], [100, 30_522]]),
        ),
    ],
)
def test_each_status_is_the_clients_own_exception(client, keys, portal, status, raised, code, ask):
    before = written(portal)
    with pytest.raises(raised) as refused:
        ask(client, keys)
    assert (refused.value.status_code, refused.value.code) == (status, code)
    assert refused.value.request_id.startswith("req_")
    assert isinstance(refused.value.body["message"], str)
    assert written(portal) == before


def written(portal) -> list[dict[str, int]]:
    """Rows that a refusal leaves as they are."""
    return portal.sql(
        "SELECT (SELECT count(*) FROM jobs_job) AS jobs, (SELECT count(*) FROM ledger_hold) AS holds, (SELECT count(*) FROM files_file) AS files"
    )


def test_content_that_cannot_be_worked_on_is_named_for_every_endpoint_that_reads_tokens(client, portal):
    """The last id of each vocabulary is one: a real engine works on it. The official clients do not try 422 again."""
    assert client.embeddings.create(model=EMBEDDINGS, input=[30_521]).usage.prompt_tokens >= 1
    assert client.completions.create(model=CHAT, prompt=[1023], max_tokens=1).usage.prompt_tokens == 1
    before = written(portal)
    for ask, param in (
        (lambda: client.embeddings.create(model=EMBEDDINGS, input=[[1], [100, 30_522]]), "input[1][1]"),
        (lambda: client.completions.create(model=CHAT, prompt=[1, 1024], stream=True), "prompt[1]"),
    ):
        with pytest.raises(openai.UnprocessableEntityError) as refused:
            ask()
        assert (refused.value.code, refused.value.param) == ("token_out_of_vocabulary", param)
        assert refused.value.type == "invalid_request_error"
        assert "or text" in refused.value.body["message"]
    assert written(portal) == before


def test_an_engine_that_cannot_work_on_the_content_says_so_with_its_own_status(client, portal, engine):
    engine.control(fail_status=422, fail_body='{"error": "Tokenization error", "error_type": "tokenizer"}')
    try:
        with pytest.raises(openai.UnprocessableEntityError) as failed:
            asks(client, model=MOCK)
    finally:
        engine.control(fail_status=0, fail_body=Behaviour().fail_body)
    assert (failed.value.code, failed.value.body["message"]) == ("unprocessable_content", "Tokenization error")
    job = failed.value.response.headers["x-job-id"]
    with portal.client() as http:
        ended = http.get(f"/api/v1/jobs/{job}").json()
    assert (ended["state"], ended["charge_microusd"]) == ("failed", 0)


def test_a_rate_limit_says_how_long_and_the_client_waits_as_told(client, keys):
    slow = client.with_options(api_key=keys["slow"])
    asks(slow)
    with pytest.raises(openai.RateLimitError) as refused:
        asks(slow)
    assert refused.value.code == "rate_limit_exceeded"
    headers = refused.value.response.headers
    assert 0 < int(headers["retry-after-ms"]) <= 61_000
    assert int(headers["retry-after"]) >= 1
    assert headers["x-ratelimit-remaining-requests"] == "0"


def test_an_engine_that_is_out_of_order_is_no_fault_of_the_customer(client, portal, engine):
    """Every attempt failed: 503, which the client tries again by itself, and nothing was charged."""
    engine.control(fail_status=500)
    try:
        with pytest.raises(openai.InternalServerError) as failed:
            asks(client, model=MOCK)
    finally:
        engine.control(fail_status=0)
    assert (failed.value.status_code, failed.value.code) == (503, "engine_unavailable")
    job = failed.value.response.headers["x-job-id"]
    with portal.client() as http:
        ended = http.get(f"/api/v1/jobs/{job}").json()
    assert (ended["state"], ended["charge_microusd"]) == ("failed", 0)
