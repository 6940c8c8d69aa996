"""Rate limits in Valkey: never passed in any minute, exact in what is left, and given back at once."""

import asyncio
import json
import time
from types import SimpleNamespace

import pytest
from django.conf import settings as conf

from apps.core.ids import uuid7
from apps.keys import rates
from apps.keys.rates import Limit, RateLimited, TooManyAtOnce, counting
from apps.keys.rates.alone import Alone
from apps.keys.rates.script import SLOT_MS
from apps.keys.rates.window import duration
from cango_portal import valkey as hot
from tests.threads import run_in_threads


@pytest.fixture
def take(valkey, monkeypatch):
    monkeypatch.setattr(counting, "alone", Alone())
    monkeypatch.setattr(counting, "LOOK_SECONDS", 30)  # a busy machine may take longer than a customer would wait

    def take(*limits, job=None, input=0, output=0, lease=False):
        return rates.take(limits, job_id=job or uuid7(), input_tokens=input, output_tokens=output, lease=lease)

    return take


def age(valkey, seconds):
    """As if everything so far had happened so much earlier."""
    slots = int(seconds * 1000 / SLOT_MS)
    for key in valkey.keys("rate:*"):
        if key.startswith("rate:of:"):
            slot, *rest = valkey.get(key).split(" ")
            valkey.set(key, " ".join([str(int(slot) - slots), *rest]))
        else:
            fields = valkey.hgetall(key)
            moved = {
                str(int(name) - slots) if name.isdigit() else name: str(int(value) - slots)
                if name in ("from", "last")
                else value
                for name, value in fields.items()
            }
            valkey.delete(key)
            valkey.hset(key, mapping=moved)


def used(windows):
    return [window.used[:3] for window in windows]


ORGANIZATION = Limit("org", "This organization", requests=3, input_tokens=1000, output_tokens=500)


def test_so_many_in_a_minute_and_no_more(take, valkey):
    for count in (1, 2, 3):
        assert used(take(ORGANIZATION, input=10, output=5)) == [(count, 10 * count, 5 * count)]
    with pytest.raises(RateLimited) as refused:
        take(ORGANIZATION)
    error = refused.value
    assert (error.status, error.reason, error.type) == (429, "rate_limit_exceeded", "requests")
    assert error.message.startswith(
        "This organization may use 3 requests a minute: 3 are used and this request needs up to 1. "
    )
    assert 59_000 < error.retry_after_ms <= 60_250
    assert error.retry_after_seconds in (60, 61)
    age(valkey, 59)
    with pytest.raises(RateLimited) as refused:
        take(ORGANIZATION)
    assert 0 < refused.value.retry_after_ms <= 1500
    age(valkey, 1.5)
    assert used(take(ORGANIZATION)) == [(1, 0, 0)]


def test_the_window_slides_and_says_when_there_is_room(take, valkey):
    take(ORGANIZATION, output=200)
    age(valkey, 30)
    take(ORGANIZATION, output=250)
    with pytest.raises(RateLimited) as refused:
        take(ORGANIZATION, output=100)
    assert refused.value.type == "tokens"
    assert 29_000 < refused.value.retry_after_ms <= 30_250  # the first one is enough
    with pytest.raises(RateLimited) as refused:
        take(ORGANIZATION, output=400)
    assert 59_000 < refused.value.retry_after_ms <= 60_250  # both have to go
    age(valkey, 30.5)
    assert used(take(ORGANIZATION, output=100)) == [(2, 0, 350)]


def test_what_can_never_fit_is_not_to_be_tried_again(take):
    with pytest.raises(RateLimited) as refused:
        take(ORGANIZATION, output=501)
    assert (refused.value.retry_after_seconds, refused.value.retryable) == (None, False)
    assert refused.value.message == (
        "This organization may use 500 output tokens a minute, and this request needs up to 501. "
        "Nothing was accepted or charged. Ask for fewer with max_completion_tokens."
    )


def test_a_request_counts_in_all_limits_or_in_none(take):
    key = Limit("key", "This API key", requests=1)
    take(key, ORGANIZATION, input=7)
    with pytest.raises(RateLimited, match=r"^This API key may use 1 requests a minute") as refused:
        take(key, ORGANIZATION, input=7)
    assert used(refused.value.windows) == [(1, 7, 0), (1, 7, 0)]


def test_what_was_not_used_comes_back_at_once_and_only_once(take):
    job = uuid7()
    take(ORGANIZATION, job=job, input=900, output=500)
    for _ in range(2):
        rates.correct(job, input_tokens=100, output_tokens=20)
    assert used(asyncio.run(look(ORGANIZATION))) == [(1, 100, 20)]
    refused = uuid7()
    take(ORGANIZATION, job=refused, input=900, output=480, lease=True)
    rates.give_back([ORGANIZATION], refused)
    [window] = asyncio.run(look(ORGANIZATION))
    assert window.used == (1, 100, 20, 0)


async def look(*limits):
    windows = await rates.look_async(limits)
    await hot.client_async().aclose()
    return windows


def test_what_comes_back_after_its_minute_changes_nothing(take, valkey):
    job = uuid7()
    take(ORGANIZATION, job=job, output=500)
    age(valkey, 61)
    take(ORGANIZATION, output=500)
    rates.correct(job, input_tokens=0, output_tokens=1)
    assert used(asyncio.run(look(ORGANIZATION))) == [(1, 0, 500)]


def test_racing_requests_never_pass_it(take):
    limit = Limit("org", "This organization", requests=100, output_tokens=700)
    outcomes = run_in_threads(32, lambda n: take(limit, output=100))
    assert sum(isinstance(outcome, RateLimited) for outcome in outcomes) == 25


def test_so_many_at_the_same_time(take, valkey):
    limit = Limit("org", "This organization", concurrent=2)
    first, second = uuid7(), uuid7()
    take(limit, job=first, lease=True)
    take(limit, job=second, lease=True)
    with pytest.raises(TooManyAtOnce) as refused:
        take(limit, lease=True)
    assert (refused.value.status, refused.value.reason) == (429, "concurrent_requests_exceeded")
    assert (refused.value.type, refused.value.retry_after_seconds) == ("requests", 1)
    take(limit)  # work in the background is not counted here
    rates.give_back([limit], first)
    take(limit, job=first, lease=True)
    for holder in (first, second):  # a process that crashed says nothing: the leases run out
        valkey.zadd("busy:org", {str(holder): (time.time() - 1) * 1000})
    assert take(limit, lease=True)[0].concurrent == 1


def test_a_minute_of_idleness_leaves_nothing_behind(take, valkey):
    take(ORGANIZATION)
    assert 0 < valkey.pttl("rate:org") <= 61_000
    age(valkey, 61)
    asyncio.run(look(ORGANIZATION))
    assert valkey.keys("rate:org") == []


@pytest.fixture
def without_valkey(monkeypatch, take):
    monkeypatch.setattr(conf, "REDIS_URL", "unix:///nonexistent/valkey.sock")
    hot.client.cache_clear()
    yield
    monkeypatch.undo()
    hot.client.cache_clear()


def test_without_valkey_a_process_keeps_to_its_share(take, without_valkey, settings):
    settings.WEB_PROCESSES = 2
    limit = Limit("org", "This organization", requests=7, output_tokens=1000, concurrent=2)
    first = uuid7()
    [window] = take(limit, job=first, output=100, lease=True)
    assert (window.limit.requests, window.used) == (3, (1, 0, 100, 1))
    with pytest.raises(TooManyAtOnce):
        take(limit, lease=True)
    rates.give_back([limit], first)
    with pytest.raises(RateLimited) as refused:
        take(limit, output=401)
    assert refused.value.type == "tokens"
    take(limit, output=400)
    take(limit)
    with pytest.raises(RateLimited, match="3 requests a minute: 3 are used"):
        take(limit)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0, "0s"), (12, "12ms"), (999, "999ms"), (1000, "1s"), (1250, "1.25s"), (60_000, "1m0s"), (360_000, "6m0s")],
)
def test_durations_as_the_official_api_writes_them(milliseconds, text):
    assert duration(milliseconds) == text


def test_the_headers_tell_of_the_limit_with_the_least_left():
    organization = rates.Window(Limit("o", "", requests=100, input_tokens=1000, output_tokens=900), 1, 100, 500, 60_000)
    key = rates.Window(Limit("k", "", requests=5), 1, 100, 500, 12_000)
    assert rates.headers([organization, key]) == {
        "x-ratelimit-limit-requests": "5",
        "x-ratelimit-remaining-requests": "4",
        "x-ratelimit-reset-requests": "12s",
        "x-ratelimit-limit-tokens": "900",
        "x-ratelimit-remaining-tokens": "400",
        "x-ratelimit-reset-tokens": "1m0s",
    }


def test_which_limits_count():
    figures = (10, None, 5, None)
    caller = SimpleNamespace(organization_id="org", api_key_id="key")
    own = {
        "is_key": False,
        "model": None,
        "tier": "",
        "requests_per_minute": 1,
        "input_tokens_per_minute": None,
        "output_tokens_per_minute": None,
        "concurrent_requests": None,
    }
    [usual] = rates.limits(caller, None, usual=figures)
    assert usual == Limit("org", "This organization", 10, None, 5, None)
    assert rates.limits(caller, [own], usual=figures) == [Limit("org", "This organization", 1)]
    named = {**own, "is_key": True, "model": "acme/chat", "tier": "flexible"}
    assert rates.limits(caller, json.loads(json.dumps([named])), usual=figures) == [
        Limit("org:key:acme/chat:flexible", "This API key, for the model acme/chat, at the tier flexible,", 1),
        usual,
    ]
