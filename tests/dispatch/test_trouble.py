"""One job, pool or server in trouble keeps no other work back, and costs nobody anything."""

import asyncio
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.conf import settings
from django.utils import timezone

from apps.catalog import offers
from apps.dispatch import backlog, outbox
from apps.dispatch import services as dispatch
from apps.dispatch.dispatcher import Dispatcher
from apps.jobs.models import Content, Job
from apps.keys.services import Caller
from apps.ledger import services as ledger
from apps.runner.protocol import End, Failure, Usage, stream
from apps.scheduling import slots
from apps.sites import statements as sites
from apps.sites.models import Listening
from cango_portal import database
from cango_portal import valkey as hot
from tests import make
from tests.dispatch import site
from tests.ledger.books import balanced


def ended(job: Job) -> tuple[str, int | None, int]:
    job.refresh_from_db()
    return job.state, job.charge_microusd, ledger.balance(job.organization_id).held_microusd


def other_organization(shop, **fields) -> Job:
    caller = Caller(make.organization(credit_microusd=1000).pk, None, None)
    return Job.objects.get(pk=dispatch.submit(caller=caller, work=shop.work(**fields)).job_id)


@pytest.fixture
def without_redis(monkeypatch):
    """Call it: from then on Redis is away."""

    def go():
        monkeypatch.setattr(settings, "REDIS_URL", "unix:///nonexistent/valkey.sock")
        hot.client.cache_clear()

    yield go
    monkeypatch.undo()
    hot.client.cache_clear()


# Leases


@pytest.mark.parametrize("command", [("XADD", "*", "e", "garbage"), ("SET", "garbage")])
def test_an_unreadable_stream_ends_its_own_job_and_keeps_no_other(shop, valkey, command):
    wrong, right = shop.submit(), shop.submit()
    for job in (wrong, right):
        site.deliver(site.report(job, "started"))
    valkey.execute_command(command[0], stream(shop.pool.code, str(wrong.pk), 1), *command[1:])
    site.write(valkey, right, "Hello", completion_tokens=20)
    site.lose(wrong)
    site.lose(right)
    dispatcher = Dispatcher()
    dispatcher.step(dispatcher.lose_leases)
    assert ended(wrong)[:2] == ("failed", 0)
    assert ended(right)[:2] == ("failed", 2 + 8)
    balanced()


@pytest.mark.parametrize(
    ("since", "at", "state"),
    [(60, 0, "failed"), (11, 2, "failed"), (9, 0, "running"), (60, 4, "running"), (60, 600, "running")],
    ids=["heard", "heard long enough", "heard again", "deaf", "deaf for long"],
)
def test_a_lease_is_not_lost_by_the_portals_own_absence(shop, valkey, since, at, state):
    job = shop.submit()
    site.deliver(site.report(job, "started"))
    site.lose(job)
    site.heard(since=since, at=at)
    Dispatcher().lose_leases()
    assert ended(job)[0] == state


def test_listening_counts_from_the_last_gap(shop):
    site.heard(since=60, at=1)
    began = Listening.objects.get().since
    database.run(sites.listen())
    first = Listening.objects.get()
    assert first.since == began
    assert first.at > timezone.now() - timedelta(seconds=1)
    site.heard(since=60, at=4)
    database.run(sites.listen())
    second = Listening.objects.get()
    assert second.since > first.at
    assert second.at - second.since < timedelta(seconds=1)


def test_last_words_that_cannot_be_stored_still_end_the_job(shop, valkey):
    job = shop.submit(streaming=False)
    site.deliver(site.report(job, "started"))
    site.write(valkey, job, "x", completion_tokens=3, end=End(state="succeeded", result={"data": "\x00"}))
    site.lose(job)
    Dispatcher().lose_leases()
    assert ended(job)[0] == "succeeded"


def test_a_second_claimants_stream_does_not_decide_what_the_first_is_paid(shop, valkey):
    job = shop.submit()
    site.deliver(site.report(job, "started", claimant="runner-1"))
    valkey.flushall()
    site.write(valkey, job, "forged", claimant="runner-2", completion_tokens=400)
    site.lose(job)
    Dispatcher().lose_leases()
    assert ended(job) == ("failed", 0, 0)
    assert job.claimant == "runner-1"


def test_without_redis_the_lost_are_asked_about_once_and_those_that_stream_wait(shop, monkeypatch):
    shop.pool.slots = 3
    shop.pool.save()
    for streaming in (False, True, False):
        job = shop.submit(streaming=streaming)
        site.deliver(site.report(job, "started"))
        site.lose(job)
    asked = []

    class Away:
        def xrange(self, key):
            asked.append(key)
            raise hot.Away[0]

    monkeypatch.setattr(hot, "client", Away)
    monkeypatch.setattr(slots, "free", lambda pool, holder: None)
    Dispatcher().lose_leases()
    assert len(asked) == 1
    assert set(Job.objects.values_list("streaming", "state")) == {(False, "queued"), (True, "running")}


@pytest.mark.story
def test_orders_nobody_takes_wait_up_to_the_deadline_and_cost_no_try(shop, valkey):
    job = shop.submit(interactive=False, streaming=False)
    dispatcher = Dispatcher()
    for attempt in range(1, settings.MAX_ATTEMPTS + 3):
        job.refresh_from_db()
        assert (job.state, job.attempt) == ("dispatched", attempt)
        site.lose(job)
        dispatcher.lose_leases()
        dispatcher.feed()
    for _ in range(settings.MAX_ATTEMPTS):  # taken now: all its tries are left
        assert ended(job)[0] == "dispatched"
        site.deliver(site.report(job, state="failed", failure=site.ENGINE_AWAY, usage=Usage()))
        dispatcher.feed()
    assert ended(job) == ("failed", 0, 0)
    balanced()


def test_an_order_nobody_took_before_the_deadline_expires(shop, valkey):
    job = shop.submit()
    site.lose(job)
    site.pass_deadline(job)
    Dispatcher().lose_leases()
    assert ended(job) == ("expired", 0, 0)
    assert (job.error_code, job.error_status) == ("no_capacity", 503)
    assert valkey.zcard(f"slots:{shop.pool.code}") == 0
    balanced()


# Cancelling


@pytest.mark.parametrize("why", ["redis is away", "no entry", "no stream"])
def test_a_cancel_that_cannot_see_the_stream_gives_no_work_away(shop, valkey, without_redis, why):
    job = shop.submit()
    if why == "no entry":
        valkey.xadd(stream(shop.pool.code, str(job.pk), 1), {"e": "garbage"})
    elif why == "no stream":
        valkey.set(stream(shop.pool.code, str(job.pk), 1), "garbage")
    else:
        site.write(valkey, job, "Hello", completion_tokens=7)
        without_redis()
    dispatch.cancel(job_id=job.pk)
    assert (ended(job)[0], job.cancel_requested_at is not None) == ("dispatched", True)
    used = Usage(prompt_tokens=10, completion_tokens=7)
    site.deliver(site.report(job, state="cancelled", usage=used, streamed=True))
    assert ended(job) == ("cancelled", 2 + 3, 0)


def test_a_cancelled_order_that_nobody_took_costs_nothing(shop, valkey, without_redis):
    job = shop.submit(streaming=False)
    without_redis()
    dispatch.cancel(job_id=job.pk)
    site.lose(job)
    Dispatcher().lose_leases()
    assert ended(job) == ("cancelled", 0, 0)
    balanced()


def test_what_failed_for_free_is_not_kept_to_be_read(shop):
    job = shop.submit(streaming=False, interactive=False)
    late = Failure(code="deadline_exceeded", message="The job ran past its deadline and was stopped.", status=504)
    site.deliver(site.report(job, state="failed", failure=late, text="a whole novel", streamed=True))
    assert ended(job)[:2] == ("failed", 0)
    assert Content.objects.get(job=job).text == ""


# The backlog


def test_a_job_that_cannot_be_ordered_keeps_no_other_back(shop, valkey):
    jobs = [shop.submit() for _ in range(4)]
    Content.objects.filter(job=jobs[2]).delete()
    valkey.delete(f"slots:{shop.pool.code}")
    dispatcher = Dispatcher()
    dispatcher.step(dispatcher.feed)
    assert ended(jobs[3])[0] == "dispatched"
    assert valkey.zcard(f"slots:{shop.pool.code}") == 1


def test_a_crowd_at_a_model_that_is_away_keeps_no_other_model_back(shop, monkeypatch):
    monkeypatch.setattr(backlog, "BATCH", 3)
    shop.pool.ready = False
    shop.pool.save()
    for _ in range(4):
        other_organization(shop)
    model = make.model()
    pool = make.pool(model=model, ready=False)
    late = shop.submit(offer=database.run(offers.offer(model.name)), deadline_seconds=500.0)
    pool.ready = True
    pool.save()
    Dispatcher().feed()
    assert ended(late)[0] == "dispatched"


@pytest.mark.story
def test_slots_that_come_free_one_by_one_go_round(shop):
    shop.pool.slots = 1
    shop.pool.save()
    for _ in range(6):
        shop.submit(interactive=False)
    late = other_organization(shop, interactive=False)
    dispatcher = Dispatcher()
    for _ in range(2):
        site.deliver(site.report(Job.objects.get(state="dispatched")))
        dispatcher.feed()
    assert ended(late)[0] == "dispatched"


# The broker and Redis


@pytest.mark.parametrize("broker", ["", "amqp://elsewhere"], ids=["our Redis", "another"])
def test_a_broker_that_hangs_costs_a_request_two_seconds_at_most(monkeypatch, broker):
    async def hang(*_):
        await asyncio.sleep(60)

    monkeypatch.setattr(settings, "CELERY_BROKER_URL", broker or settings.CELERY_BROKER_URL)
    monkeypatch.setattr(outbox, "SEND_SECONDS", 0.1)
    monkeypatch.setattr(outbox, "publish", lambda order: time.sleep(0.2))
    monkeypatch.setattr(outbox, "enveloped", lambda order: b"")
    monkeypatch.setattr(hot, "ask_async", hang)

    order = SimpleNamespace(pool="a")

    async def crowd():
        began = time.monotonic()
        sent = await asyncio.gather(*(outbox.publish_async(order) for _ in range(20)))
        return sent, time.monotonic() - began

    sent, seconds = asyncio.run(crowd())
    assert sent == [False] * 20
    assert seconds < 0.5


def test_a_broker_that_hangs_is_tried_once_a_round(shop, monkeypatch):
    shop.submit()
    shop.submit()
    tried = []
    monkeypatch.setattr(outbox, "RESEND_SECONDS", 0)
    monkeypatch.setattr(outbox, "send", lambda body, queue: bool(tried.append(queue)))
    Dispatcher().send_again()
    assert len(tried) == 1
    hot.client().delete(f"slots:{shop.pool.code}")
    Job.objects.update(state="queued", fence=None)
    Dispatcher().feed()
    assert len(tried) == 2
    assert Job.objects.filter(state="dispatched").count() == 2


def test_a_redis_that_takes_no_writes_queues_the_job(shop, valkey):
    valkey.replicaof("127.0.0.1", "1")
    try:
        job = shop.submit()
    finally:
        valkey.replicaof("NO", "ONE")
    assert job.state == "queued"


def test_a_slot_freed_while_slots_are_renewed_stays_free(shop, valkey, monkeypatch):
    job = shop.submit()
    renew = slots.renew

    def meanwhile(pool, *, holders):
        if job.state == "dispatched":
            site.deliver(site.report(job))
            job.refresh_from_db()
        return renew(pool, holders=holders)

    monkeypatch.setattr(slots, "renew", meanwhile)
    Dispatcher().renew_slots()
    assert valkey.zcard(f"slots:{shop.pool.code}") == 0
