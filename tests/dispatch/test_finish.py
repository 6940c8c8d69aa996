from datetime import timedelta

import pytest

from apps.dispatch import ending
from apps.dispatch import services as dispatch
from apps.dispatch.dispatcher import Dispatcher
from apps.dispatch.models import Order
from apps.ledger import services as ledger
from apps.runner.protocol import End, Usage
from cango_portal import database
from tests.dispatch import site
from tests.ledger.books import balanced
from tests.threads import run_in_threads

COST = 2 + 8  # 10 tokens at $0.12 and 20 at $0.36 per million, each line rounded up


def ended(job):
    job.refresh_from_db()
    return job.state, job.charge_microusd, ledger.balance(job.organization_id).held_microusd


def test_a_report_ends_charges_and_measures(shop, valkey):
    job = shop.submit()
    assert site.deliver(site.report(job, "started")).accepted
    job.refresh_from_db()
    assert (job.state, job.claimant) == ("running", "runner-1")
    assert Order.objects.count() == 0
    news = site.report(job, text="Hello there", finish_reason="stop", energy=site.ENERGY, streamed=True)
    outcome = site.deliver(news)
    assert outcome.freed == (shop.pool.code, f"{job.pk}:1")
    assert ended(job) == ("succeeded", COST, 0)
    assert ledger.balance(shop.organization.pk).credit_microusd == 1_000_000 - COST
    assert (job.gpu_energy_wh, job.energy_wh, job.energy_quality) == (0.001, pytest.approx(0.00132), "counter")
    assert job.carbon_gco2e == pytest.approx(0.00132 / 1000 * 380)
    assert job.content.text == "Hello there"
    assert [(event.number, event.state) for event in job.events.all()] == [
        (1, "dispatched"),
        (2, "running"),
        (3, "succeeded"),
    ]
    balanced()


def test_an_end_tells_the_start_that_was_not_told(shop):
    job = shop.submit()
    began = job.created_at + timedelta(milliseconds=5)
    assert site.deliver(site.report(job, started_at=began.timestamp())).accepted
    job.refresh_from_db()
    assert (job.state, job.started_at) == ("succeeded", began)
    late = shop.submit()
    site.deliver(site.report(late, started_at=began.timestamp() + 3600))  # a site's clock that is ahead
    late.refresh_from_db()
    assert late.started_at <= late.finished_at


def test_a_report_sent_twice_charges_once(shop):
    job = shop.submit()
    news = site.report(job)
    outcomes = run_in_threads(8, lambda n: site.deliver(news))
    assert all(outcome.accepted for outcome in outcomes)
    assert ended(job) == ("succeeded", COST, 0)
    assert job.events.count() == 2
    balanced()


def test_a_second_claimant_and_a_stale_attempt_change_nothing(shop):
    job = shop.submit()
    site.deliver(site.report(job, "started"))
    right = site.report(job)
    wrong = [
        right.model_copy(update={"claimant": "runner-2"}),
        right.model_copy(update={"attempt": 2}),
        right.model_copy(update={"fence": "0" * 32}),
        right.model_copy(update={"job": "00000000-0000-7000-8000-000000000000"}),
    ]
    for news in wrong:
        assert not site.deliver(news).accepted
    assert not site.deliver(right, node_id=shop.pool.node_id + 1).accepted
    assert ended(job)[0] == "running"
    assert site.deliver(right, node_id=shop.pool.node_id).accepted
    assert not site.deliver(wrong[0]).accepted
    assert ended(job) == ("succeeded", COST, 0)
    balanced()


def test_usage_above_the_hold_is_charged_to_the_hold_only(shop):
    job = shop.submit()
    outcome = site.deliver(site.report(job, usage=Usage(prompt_tokens=1000, completion_tokens=5000)))
    assert outcome.overrun_microusd == 120 + 1800 - 300
    assert ended(job) == ("succeeded", 300, 0)
    balanced()


def test_a_bad_request_fails_at_no_cost_with_its_error(shop):
    job = shop.submit()
    site.deliver(site.report(job, state="failed", failure=site.BAD_REQUEST))
    assert ended(job) == ("failed", 0, 0)
    assert (job.error_code, job.error_status) == ("context_length_exceeded", 400)
    assert job.reason == "The prompt is too long for this model. Nothing was charged."
    balanced()


def test_an_engine_that_dies_before_anything_was_delivered_is_tried_again(shop):
    job = shop.submit()
    site.deliver(site.report(job, state="failed", failure=site.ENGINE_AWAY, usage=Usage()))
    assert ended(job) == ("queued", None, 300)
    Dispatcher().feed()
    job.refresh_from_db()
    assert (job.state, job.attempt) == ("dispatched", 2)
    site.deliver(site.report(job))
    assert ended(job) == ("succeeded", COST, 0)


def test_the_third_failed_attempt_is_the_last(shop):
    job = shop.submit()
    for _ in range(3):
        site.deliver(site.report(job, state="failed", failure=site.ENGINE_AWAY, usage=Usage()))
        Dispatcher().feed()
    assert ended(job) == ("failed", 0, 0)
    assert job.attempt == 3


def test_a_lost_stream_that_delivered_fails_and_charges_what_came(shop, valkey):
    job = shop.submit()
    site.deliver(site.report(job, "started"))
    site.write(valkey, job, "Hello", " there", completion_tokens=20)
    site.lose(job)
    Dispatcher().lose_leases()
    assert ended(job) == ("failed", COST, 0)
    assert job.error_code == "site_lost"
    assert job.content.text == "Hello there"
    assert not site.deliver(site.report(job, claimant="runner-2")).accepted
    balanced()


def test_a_lost_attempt_that_delivered_nothing_runs_again_for_free(shop, valkey):
    job = shop.submit(streaming=False)
    site.deliver(site.report(job, "started"))
    old = site.report(job)
    site.write(valkey, job, "Hello", completion_tokens=5)
    site.lose(job)
    dispatcher = Dispatcher()
    dispatcher.lose_leases()
    assert ended(job)[0] == "queued"
    dispatcher.feed()
    assert not site.deliver(old).accepted
    site.deliver(site.report(job, claimant="runner-2"))
    assert ended(job) == ("succeeded", COST, 0)
    balanced()


def test_a_lost_stream_whose_last_words_are_there_ends_by_them(shop, valkey):
    job = shop.submit()
    site.deliver(site.report(job, "started"))
    site.write(valkey, job, "Hello", completion_tokens=20, end=End(state="succeeded", energy=site.ENERGY))
    site.lose(job)
    Dispatcher().lose_leases()
    assert ended(job) == ("succeeded", COST, 0)
    assert job.energy_quality == "counter"


def test_a_flushed_redis_and_a_lost_runner_never_deliver_a_stream_twice(shop, valkey):
    job = shop.submit()
    site.deliver(site.report(job, "started"))
    site.write(valkey, job, "Hello", completion_tokens=20)
    valkey.flushall()
    site.lose(job)
    Dispatcher().lose_leases()
    assert ended(job) == ("failed", 0, 0)


def test_a_renewed_lease_is_not_lost(shop):
    job = shop.submit()
    site.deliver(site.report(job, "started"))
    Dispatcher().lose_leases()
    assert not database.run(
        ending.lose_plan(job.pk, attempt=1, entries=[])
    ).accepted  # it ran out when it was looked at
    site.lose(job)
    assert not database.run(ending.lose_plan(job.pk, attempt=2, entries=[])).accepted
    assert ended(job)[0] == "running"


def test_a_queued_job_cancels_and_expires_at_no_cost(shop):
    cancelled, expired = [shop.submit() for _ in range(4)][2:]
    dispatch.cancel(job_id=cancelled.pk)
    assert ended(cancelled)[:2] == ("cancelled", 0)
    dispatcher = Dispatcher()
    dispatcher.expire()
    assert ended(expired)[0] == "queued"
    site.pass_deadline(expired)
    dispatcher.expire()
    assert ended(expired)[:2] == ("expired", 0)
    assert (expired.error_code, expired.error_status) == ("no_capacity", 503)
    assert ledger.balance(shop.organization.pk).held_microusd == 600
    balanced()


def test_cancelling_a_running_job_asks_the_runner_and_charges_what_was_done(shop, valkey):
    job = shop.submit()
    site.write(valkey, job, "Hello", completion_tokens=7)  # begun, its report still on the way
    dispatch.cancel(job_id=job.pk)
    job.refresh_from_db()
    assert (job.state, job.cancel_requested_at is not None) == ("dispatched", True)
    [(_, message)] = valkey.xrange("ctl:runner-1")
    assert f'"job":"{job.pk}"' in message["e"]
    site.deliver(site.report(job, "started"))
    site.deliver(site.report(job, state="cancelled", usage=Usage(prompt_tokens=10, completion_tokens=7), streamed=True))
    assert ended(job) == ("cancelled", 2 + 3, 0)
    dispatch.cancel(job_id=job.pk)
    assert ended(job) == ("cancelled", 5, 0)
    balanced()


@pytest.mark.story
def test_cancel_against_finish_ends_once(shop, valkey):
    for _ in range(5):
        job = shop.submit()
        news = site.report(job)
        run_in_threads(4, lambda n, job=job, news=news: site.deliver(news) if n % 2 else dispatch.cancel(job_id=job.pk))
        state, charge, held = ended(job)
        assert (state, charge, held) in {("succeeded", COST, 0), ("cancelled", 0, 0)}
        valkey.flushall()
    balanced()


def test_two_dispatchers_assign_a_job_once(shop, valkey):
    jobs = [shop.submit() for _ in range(6)]
    valkey.flushall()
    run_in_threads(4, lambda n: Dispatcher().feed())
    attempts = sorted(job.attempt for job in jobs if job.refresh_from_db() is None)
    assert attempts == [0, 0, 1, 1, 1, 1]
    assert Order.objects.count() == 4


def test_slots_are_right_again_one_tick_after_a_flush(shop, valkey):
    for _ in range(2):
        shop.submit()
    valkey.flushall()
    Dispatcher().tick()
    assert valkey.zcard(f"slots:{shop.pool.code}") == 2
    assert shop.submit().state == "queued"


def test_the_backlog_is_fair_between_organizations(shop, valkey):
    from apps.keys.services import Caller
    from tests import make

    for _ in range(2):
        shop.submit()
    mine = [shop.submit() for _ in range(3)]
    other = make.organization(credit_microusd=1000)
    theirs = dispatch.submit(caller=Caller(other.pk, None, None), work=shop.work())
    from apps.dispatch import backlog
    from cango_portal import database

    line = [row["id"] for row in database.run(backlog.next_in_line())]
    assert line.index(theirs.job_id) == 1
    assert line[0] == mine[0].pk


def test_an_orphaned_hold_is_released(shop, monkeypatch):
    from apps.dispatch import dispatcher

    job = shop.submit()
    ledger.reserve(organization=shop.organization, microusd=50, key="job:00000000-0000-7000-8000-000000000000")
    monkeypatch.setattr(dispatcher, "ORPHAN_SECONDS", 0)
    Dispatcher().free_orphans()
    assert ledger.balance(shop.organization.pk).held_microusd == job.hold_microusd
    balanced()
