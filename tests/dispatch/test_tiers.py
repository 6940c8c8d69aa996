"""Flexible work waits behind standard work, a batch behind both, and a flexible request waits longer."""

from datetime import timedelta

import pytest

from apps.dispatch import backlog
from apps.dispatch.dispatcher import Dispatcher
from apps.jobs import statements as jobs
from apps.jobs.models import Job
from apps.jobs.pages.waiting import Waiting
from cango_portal import database
from tests import make
from tests.dispatch import site


def full(shop):
    """Both slots taken: what comes now is queued."""
    return [shop.submit() for _ in range(shop.pool.slots)]


def state(job: Job) -> str:
    job.refresh_from_db()
    return job.state


def test_a_slot_that_comes_free_goes_to_standard_work_first(shop, valkey):
    running = full(shop)
    batch = shop.submit(tier="batch", deadline_seconds=100.0)
    flexible = shop.submit(tier="flexible", deadline_seconds=200.0)
    standard = [shop.submit(deadline_seconds=seconds) for seconds in (400.0, 300.0)]
    assert [state(job) for job in (batch, flexible, *standard)] == ["queued"] * 4
    order = [row["id"] for row in database.run(backlog.next_in_line())]
    assert order == [standard[1].pk, standard[0].pk, flexible.pk, batch.pk]
    for job, place in ((standard[1], 1), (standard[0], 2), (flexible, 3), (batch, 4)):
        snapshot = database.run(jobs.snapshot(job.pk))
        assert snapshot is not None
        assert (snapshot["position"], Waiting(job).position) == (place, place)
    dispatcher = Dispatcher()
    for job in order:
        site.deliver(site.report(running.pop(0)))
        dispatcher.feed()
        assert state(Job.objects.get(pk=job)) == "dispatched"
        running.append(Job.objects.get(pk=job))


def test_within_a_tier_organizations_take_turns(shop, valkey):
    full(shop)
    mine = [shop.submit(tier="flexible", deadline_seconds=float(100 + n)) for n in range(3)]
    other = make.organization(credit_microusd=1_000_000)
    shop.caller = type(shop.caller)(organization_id=other.pk, api_key_id=None, user_id=None)
    theirs = make.job(organization=other, model=shop.model, tier="flexible")
    Job.objects.filter(pk=theirs.pk).update(deadline_at=mine[2].deadline_at + timedelta(hours=1))
    order = [row["id"] for row in database.run(backlog.next_in_line())]
    assert order == [mine[0].pk, theirs.pk, mine[1].pk, mine[2].pk]


@pytest.mark.parametrize(
    ("waiting", "tier", "waits"),
    [
        ("flexible", "standard", False),
        ("batch", "flexible", False),
        ("standard", "standard", True),
        ("standard", "flexible", True),
        ("flexible", "flexible", True),
        ("flexible", "batch", True),
    ],
)
def test_nobody_jumps_a_line_they_stand_in(shop, waiting, tier, waits):
    make.job(organization=shop.organization, model=shop.model, tier=waiting)
    assert shop.submit(tier=tier).state == ("queued" if waits else "dispatched")


def test_a_flexible_request_waits_longer_than_the_model_lets_others(shop, settings):
    settings.FLEXIBLE_QUEUE_SECONDS = 333

    def wait(**fields) -> float:
        job = shop.submit(**fields)
        return (job.deadline_at - job.created_at).total_seconds()

    assert wait() == shop.model.max_queue_seconds
    assert wait(tier="flexible") == 333
    assert wait(tier="flexible", interactive=False) == settings.JOB_DEADLINE_SECONDS
    assert wait(tier="flexible", interactive=False, deadline_seconds=50.0) == 50
