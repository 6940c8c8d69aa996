"""Headers, limits and repeated requests, as the official client for Python sees them."""

import re

import openai
import pytest

from tests.compat.conftest import CHAT, EMBEDDINGS, MOCK

ASK = [{"role": "user", "content": "x"}]
DURATION = re.compile(r"(\d+h)?(\d+m)?(\d+(\.\d+)?s)?|\d+ms")
LIMITS = [f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")]


def check(headers) -> None:
    assert re.fullmatch(r"req_[0-9a-f]{32}", headers["x-request-id"])
    assert int(headers["openai-processing-ms"]) >= 0
    assert headers["openai-version"] == "2020-10-01"
    for name in LIMITS:
        assert name in headers, name
        if "reset" in name:
            assert DURATION.fullmatch(headers[name]), headers[name]
        else:
            assert int(headers[name]) >= 0
    assert int(headers["x-ratelimit-remaining-requests"]) <= int(headers["x-ratelimit-limit-requests"])


def test_every_answer_has_them(client):
    raw = client.chat.completions.with_raw_response.create(model=CHAT, messages=ASK, max_tokens=2)
    check(raw.headers)
    with client.chat.completions.with_streaming_response.create(
        model=CHAT, messages=ASK, max_tokens=2, stream=True
    ) as streamed:
        check(streamed.headers)
    check(client.embeddings.with_raw_response.create(model=EMBEDDINGS, input="x").headers)


def test_a_refusal_has_them(client):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=CHAT, messages=[])
    check(refused.value.response.headers)


def test_one_key_is_one_job_and_one_charge(client, portal):
    asked = {"model": CHAT, "messages": ASK, "max_tokens": 8, "extra_headers": {"Idempotency-Key": "compat-1"}}
    first = client.chat.completions.with_raw_response.create(**asked)
    second = client.chat.completions.with_raw_response.create(**asked)
    assert second.headers["x-job-id"] == first.headers["x-job-id"]
    assert second.headers["idempotent-replayed"] == "true"
    assert second.parse() == first.parse()
    with pytest.raises(openai.ConflictError) as other:
        client.chat.completions.create(**{**asked, "max_tokens": 9})
    assert other.value.code == "idempotency_key_reused"


def test_the_clients_own_retries_find_the_first_job(client, portal, engine):
    """The answer is slower than the client waits: its next try, without a key, follows or repeats, and one job is charged."""
    engine.control(first_token_seconds=1.5)
    before = portal.sql("SELECT count(*) AS jobs FROM jobs_job WHERE charge_microusd > 0")[0]["jobs"]
    try:
        answer = client.with_options(max_retries=2, timeout=1.0).chat.completions.create(
            model=MOCK, messages=ASK, max_tokens=3
        )
    except openai.APITimeoutError:
        answer = None
    finally:
        engine.control(first_token_seconds=0)
    charged = portal.sql("SELECT count(*) AS jobs FROM jobs_job WHERE charge_microusd > 0")[0]["jobs"] - before
    assert charged <= (1 if answer else 0)


def test_a_limit_is_asked_once(client, portal):
    limit = "UPDATE ledger_budget SET total_limit_microusd = %s WHERE kind = 'organization'"
    asked = []
    eager = client.with_options(max_retries=2)
    eager._client.event_hooks["request"].append(asked.append)  # the same HTTP client as everybody's
    portal.sql(limit, 0)
    try:
        with pytest.raises(openai.APIStatusError) as refused:
            eager.chat.completions.create(model=CHAT, messages=ASK)
    finally:
        portal.sql(limit, None)
        eager._client.event_hooks["request"].remove(asked.append)
    assert (refused.value.status_code, refused.value.code) == (402, "budget_exceeded")
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert len(asked) == 1
