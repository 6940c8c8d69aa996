"""Rate limits at the door: the six headers on every answer, refusals that say when, and streams that count."""

import threading
import time

import openai
import pytest
import redis.asyncio
from django.conf import settings as conf

from apps.dispatch.models import Receipt
from apps.jobs.models import Job
from apps.keys.models import RateLimit
from apps.keys.rates import counting
from apps.keys.rates.alone import Alone
from apps.ledger.models import Hold
from cango_portal import valkey as hot
from tests import make
from tests.gateway.portal import Attempt, chat

ASK = [{"role": "user", "content": "Say hello"}]
SIX = [f"x-ratelimit-{what}-{of}" for of in ("requests", "tokens") for what in ("limit", "remaining", "reset")]


@pytest.fixture
def send(shop, http):
    def send(path="/v1/chat/completions", **fields):
        body = {"model": shop.model.name, "messages": ASK, "max_completion_tokens": 100, **fields}
        return http.post(path, headers={"authorization": f"Bearer {shop.secret}"}, json=body)

    return send


@pytest.fixture
def limit(shop):
    def limit(**fields):
        return RateLimit.objects.create(**{"organization": shop.organization, **fields})

    return limit


def six(response) -> list[str]:
    return [response.headers[name] for name in SIX]


def error(response) -> tuple[int, str, str]:
    body = response.json()["error"]
    return response.status_code, body["type"], body["code"]


def test_the_headers_count_down_and_what_was_not_used_comes_back(shop, site, send, limit):
    limit(requests_per_minute=5, output_tokens_per_minute=500)
    first = send()
    assert first.status_code == 200
    assert six(first)[:2] == ["5", "4"]
    assert six(first)[3:5] == ["500", "400"]  # as many as it may write
    assert six(first)[2] == six(first)[5]
    assert six(first)[2].startswith(("59.", "1m0"))
    until(lambda: six(send(temperature=9))[4] == "498")  # as many as it wrote; a refusal counts nowhere
    second = send()
    assert (six(second)[1], six(second)[4]) == ("3", "398")


def until(what, seconds=5):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_refused_by_a_limit_nothing_is_written(shop, site, send, limit):
    limit(api_key=shop.key, requests_per_minute=1)
    assert send().status_code == 200
    refused = send(stream=True)
    assert error(refused) == (429, "requests", "rate_limit_exceeded")
    assert refused.json()["error"]["message"].startswith("This API key may use 1 requests a minute: 1 are used")
    milliseconds = int(refused.headers["retry-after-ms"])
    assert 50_000 < milliseconds <= 60_250
    assert int(refused.headers["retry-after"]) == -(-milliseconds // 1000)
    assert six(refused)[:2] == ["1", "0"]
    assert Job.objects.count() == Hold.objects.count() == Receipt.objects.count() == 1


def test_refusals_for_other_reasons_tell_and_do_not_count(shop, http, send, limit):
    limit(requests_per_minute=5, output_tokens_per_minute=500)
    whole = ["5", "5", "0s", "500", "500", "0s"]
    assert six(send(model="acme/none")) == whole  # 404
    assert six(send(n=0)) == whole  # 400
    assert six(http.get("/v1/models/none", headers={"authorization": f"Bearer {shop.secret}"})) == whole
    poor = make.organization(credit_microusd=1)
    _, secret = make.api_key(poor)
    RateLimit.objects.create(organization=poor, requests_per_minute=3, input_tokens_per_minute=100_000)
    refused = http.post(
        "/v1/chat/completions",
        headers={"authorization": f"Bearer {secret}"},
        json={"model": shop.model.name, "messages": ASK},
    )
    assert (refused.status_code, six(refused)) == (402, ["3", "3", "0s", "100000", "100000", "0s"])
    assert not any(name in http.post("/v1/chat/completions").headers for name in SIX)  # 401: nobody's limits


def ask(http, shop, method, path, **options):
    return http.request(method, path, headers={"authorization": f"Bearer {shop.secret}"}, **options)


def uploaded(http, shop):
    rows = b'{"custom_id": "1"}'
    return ask(http, shop, "POST", "/v1/files", data={"purpose": "batch"}, files={"file": ("rows.jsonl", rows)})


def test_every_answer_tells_and_what_is_free_does_not_count(shop, site, http, send, limit, settings, tmp_path):
    settings.MEDIA_ROOT, settings.UPLOADS = tmp_path / "files", tmp_path / "uploads"
    limit(requests_per_minute=9, output_tokens_per_minute=500)
    stored = send(store=True).json()["id"]
    body = {"model": shop.model.name, "input": "Hello", "max_output_tokens": 100}
    response = ask(http, shop, "POST", "/v1/responses", json=body).json()["id"]
    file = uploaded(http, shop).json()["id"]
    until(lambda: six(ask(http, shop, "GET", "/v1/models"))[4] == "496")  # two answers of two tokens
    batch = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    free = [
        ("GET", "/v1/models", 200, {}),
        ("GET", f"/v1/models/{shop.model.name}", 200, {}),
        ("HEAD", "/v1/models", 200, {}),
        ("GET", "/v1/chat/completions", 200, {}),
        ("GET", f"/v1/chat/completions/{stored}/messages", 200, {}),
        ("POST", f"/v1/chat/completions/{stored}", 200, {"json": {"metadata": {"a": "b"}}}),
        ("DELETE", f"/v1/chat/completions/{stored}", 200, {}),
        ("GET", f"/v1/responses/{response}", 200, {}),
        ("GET", f"/v1/responses/{response}/input_items", 200, {}),
        ("POST", f"/v1/responses/{response}/cancel", 400, {}),
        ("DELETE", f"/v1/responses/{response}", 200, {}),
        ("GET", "/v1/files", 200, {}),
        ("GET", f"/v1/files/{file}/content", 200, {}),
        ("POST", "/v1/files", 415, {"content": b""}),
        ("POST", "/v1/batches", 200, {"json": batch}),
        ("GET", "/v1/batches", 200, {}),
        ("GET", "/v1/batches/batch_none", 404, {}),
        ("DELETE", "/v1/files/none", 404, {}),
    ]
    for method, path, status, options in free:
        answer = ask(http, shop, method, path, **options)
        assert answer.status_code == status, (path, answer.text)
        assert [six(answer)[n] for n in (0, 1, 3, 4)] == ["9", "7", "500", "496"], path
        assert answer.headers["x-request-id"].startswith("req_")
        assert int(answer.headers["openai-processing-ms"]) >= 0
        assert answer.headers["openai-organization"] == shop.organization.public_id


def test_what_is_free_is_answered_without_valkey_and_says_nothing_of_limits(shop, http, limit, monkeypatch):
    limit(requests_per_minute=9)
    monkeypatch.setattr(conf, "REDIS_URL", "unix:///nonexistent/valkey.sock")
    monkeypatch.setattr(hot, "client_async", lambda: redis.asyncio.Redis.from_url(conf.REDIS_URL))
    for path, status in (("/v1/models", 200), ("/v1/models/none", 404), ("/v1/files", 200)):
        answer = ask(http, shop, "GET", path)
        assert answer.status_code == status
        assert not any(name in answer.headers for name in SIX)
        assert answer.headers["openai-processing-ms"]


def test_a_limit_on_tokens_holds_for_streams_while_they_run(shop, site, send, limit):
    going_on = threading.Event()

    def script(attempt: Attempt) -> None:
        attempt.claim()
        attempt.say("Hello")
        going_on.wait(10)
        attempt.finish()

    site.script = script
    limit(model=shop.model, output_tokens_per_minute=150)
    answers = []
    streaming = threading.Thread(target=lambda: answers.append(send(stream=True)))
    streaming.start()
    until(Job.objects.exists)
    refused = send()
    assert error(refused) == (429, "tokens", "rate_limit_exceeded")
    assert f"for the model {shop.model.name}," in refused.json()["error"]["message"]
    too_much = send(max_completion_tokens=151)
    assert (too_much.status_code, too_much.headers["x-should-retry"]) == (429, "false")
    assert "retry-after" not in too_much.headers
    going_on.set()
    streaming.join()
    until(lambda: send().status_code == 200)  # the stream wrote one token: the rest came back
    assert answers[0].status_code == 200


def test_a_limit_at_the_same_time_ends_with_the_request_and_with_the_client(shop, site, send, limit, http):
    limit(concurrent_requests=1)

    def script(attempt: Attempt) -> None:
        attempt.claim()
        attempt.say("Hello")
        attempt.wait_for_cancel()
        attempt.finish("cancelled")

    site.script = script
    body = {"model": shop.model.name, "messages": ASK, "stream": True}
    with http.stream(
        "POST", "/v1/chat/completions", headers={"authorization": f"Bearer {shop.secret}"}, json=body
    ) as first:
        assert first.status_code == 200
        refused = send()
        assert error(refused) == (429, "requests", "concurrent_requests_exceeded")
        assert refused.headers["retry-after"] == "1"
    site.script = chat("Hello", " world")
    until(lambda: send().status_code == 200)
    assert send().status_code == 200


def test_a_replay_counts_in_no_limit(shop, site, http, limit):
    limit(requests_per_minute=1)
    headers = {"authorization": f"Bearer {shop.secret}", "idempotency-key": "one"}
    body = {"model": shop.model.name, "messages": ASK}
    answers = [http.post("/v1/chat/completions", headers=headers, json=body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert [six_of_requests(answer) for answer in answers] == [("1", "0")] * 3


def six_of_requests(response) -> tuple[str, str]:
    return response.headers["x-ratelimit-limit-requests"], response.headers["x-ratelimit-remaining-requests"]


def test_limits_of_the_settings_of_everybody_and_of_one(shop, site, send, limit, settings):
    settings.RATE_LIMITS = {"requests": 9, "input_tokens": 0, "output_tokens": 0, "concurrent": 0}
    assert six_of_requests(send()) == ("9", "8")
    limit(organization=None, requests_per_minute=8)
    assert six_of_requests(send()) == ("8", "6")
    limit(requests_per_minute=7)
    assert six_of_requests(send()) == ("7", "4")
    limit(organization=None, model=shop.model, tier="flexible", requests_per_minute=1)
    assert six_of_requests(send()) == ("7", "3")
    assert six_of_requests(send(service_tier="flex")) == ("1", "0")
    assert send(service_tier="flex").status_code == 429


def test_the_official_client_waits_as_it_is_told_and_gives_up_where_waiting_does_not_help(
    shop, site, openai_client, limit, valkey, monkeypatch
):
    client = openai_client.with_options(api_key=shop.secret, max_retries=2)
    waits = []
    monkeypatch.setattr("openai._base_client.SyncAPIClient._sleep_for_retry", sleeping(waits, valkey))
    limit(requests_per_minute=1)
    ask = {"model": shop.model.name, "messages": ASK, "max_completion_tokens": 50}
    client.chat.completions.create(**ask)
    client.chat.completions.create(**ask)  # refused once; the minute is over when it asks again
    assert len(waits) == 1
    assert 50_000 < int(waits[0]["retry-after-ms"]) <= 60_250
    poor = make.organization(credit_microusd=1)
    _, secret = make.api_key(poor)
    with pytest.raises(openai.APIStatusError) as refused:
        client.with_options(api_key=secret).chat.completions.create(**ask)
    assert refused.value.status_code == 402
    assert len(waits) == 1  # one call


def sleeping(waits, valkey):
    def sleep(self, *, retries_taken, max_retries, options, response):
        waits.append(response.headers)
        valkey.delete(*valkey.keys("rate:*"))

    return sleep


def test_without_valkey_the_door_keeps_to_this_process_share(shop, send, limit, monkeypatch, http):
    monkeypatch.setattr(conf, "REDIS_URL", "unix:///nonexistent/valkey.sock")
    monkeypatch.setattr(counting, "alone", Alone())
    hot.client.cache_clear()
    monkeypatch.setattr(hot, "client_async", lambda: redis.asyncio.Redis.from_url(conf.REDIS_URL))
    limit(requests_per_minute=1)
    waited = send()
    assert error(waited) == (503, "service_unavailable_error", "no_capacity")  # no site can be reached
    assert six_of_requests(waited) == ("1", "0")
    refused = send()
    assert error(refused) == (429, "requests", "rate_limit_exceeded")
    assert not Hold.objects.filter(state="open").exists()
    monkeypatch.undo()
    hot.client.cache_clear()
