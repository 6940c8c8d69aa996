"""What a plan gives: how many jobs may be open, and slots that wait behind nobody."""

from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from apps.billing import entitlements
from apps.billing.entitlements import Entitlement
from apps.billing.models import Plan, Subscription
from apps.dispatch import allowance
from apps.dispatch import services as dispatch
from apps.dispatch.allowance import TooManyOpenJobs
from apps.dispatch.dispatcher import Dispatcher
from apps.jobs.models import Job, Refusal
from apps.keys.models import RateLimit
from apps.keys.services import Caller
from apps.ledger.models import Hold, Transfer
from cango_portal import database
from tests import make
from tests.dispatch import site
from tests.ledger.books import balanced

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
USUAL = (6_000, 20_000_000, 10_000_000, 500, 500_000_000)
PAYG = Entitlement("Pay as you go", 0, 1000, *USUAL)


@pytest.fixture
def team(db):
    return Plan.objects.create(
        code="team", title="Team", price_cents=9_900, reserved_slots=1, max_open_jobs=3, included_microusd=100_000_000
    )


def subscribed(organization, plan, **fields):
    return Subscription.objects.create(
        **{
            "organization": organization,
            "plan": plan,
            "stripe_id": f"sub_{organization.pk.hex}",
            "state": "active",
            "period_start_at": NOW - DAY,
            "period_end_at": NOW + 29 * DAY,
            **fields,
        }
    )


def entitled(organization, now=NOW):
    return database.run(entitlements.of(organization.pk, now))


def test_without_a_plan_the_defaults_hold(db, settings):
    organization = make.organization()
    assert entitled(organization) == PAYG
    settings.PAYG_MAX_OPEN_JOBS = 7
    assert entitled(organization).max_open_jobs == 7


@pytest.mark.parametrize(
    ("fields", "after", "kept"),
    [
        ({}, timedelta(), True),
        ({"state": "ended"}, timedelta(), False),
        ({"state": "past_due", "past_due_since": NOW}, 7 * DAY - timedelta(seconds=1), True),
        ({"state": "past_due", "past_due_since": NOW}, 7 * DAY, False),
        ({"cancel_at_period_end": True}, 29 * DAY - timedelta(seconds=1), True),
        ({"cancel_at_period_end": True}, 29 * DAY, False),  # before Stripe has told that it ended
        ({}, 40 * DAY, True),  # the news of the next period is late: ours to find out, not the customer's to bear
    ],
)
def test_a_plan_ends_by_the_date_without_a_task(team, fields, after, kept):
    organization = make.organization()
    subscribed(organization, team, **fields)
    assert entitled(organization, NOW + after) == (Entitlement("Team", 1, 3, *USUAL) if kept else PAYG)


def test_a_cheaper_plan_begins_when_the_paid_month_is_over(team):
    organization = make.organization()
    small = Plan.objects.create(code="small", title="Small", price_cents=100, max_open_jobs=2)
    subscribed(organization, small, kept_plan=team, kept_until=NOW + DAY)
    assert entitled(organization, NOW + DAY - timedelta(seconds=1)).title == "Team"
    assert entitled(organization, NOW + DAY) == Entitlement("Small", 0, 2, *USUAL)


def written():
    return Job.objects.count(), Hold.objects.count(), Transfer.objects.count()


def test_open_jobs_are_limited_by_the_plan(shop, team):
    subscribed(shop.organization, team)
    first, *_ = (shop.submit() for _ in range(3))
    before = written()
    with pytest.raises(TooManyOpenJobs) as refused:
        shop.submit()
    assert (refused.value.status, refused.value.reason) == (429, "too_many_open_jobs")
    assert "3 jobs" in refused.value.message
    assert "“Team”" in refused.value.message
    assert written() == before
    other = make.organization(credit_microusd=1_000_000)
    assert submit_as(shop, other).state == "queued"  # the limit is each organization's own
    site.deliver(site.report(first))
    assert shop.submit().state == "queued"
    balanced()


def test_after_the_grace_period_running_jobs_go_on(shop, team, settings):
    settings.PAYG_MAX_OPEN_JOBS = 1
    plan = subscribed(shop.organization, team)
    first, second = shop.submit(), shop.submit()
    Subscription.objects.filter(pk=plan.pk).update(state="past_due", past_due_since=NOW - 8 * DAY)
    with pytest.raises(TooManyOpenJobs, match="Pay as you go"):
        shop.submit()
    for job in (first, second):
        assert site.deliver(site.report(job)).accepted
        job.refresh_from_db()
        assert job.state == "succeeded"
    balanced()


def submit_as(shop, organization, **fields):
    caller = Caller(organization_id=organization.pk, api_key_id=None, user_id=None)
    return Job.objects.get(pk=dispatch.submit(caller=caller, work=shop.work(**fields)).job_id)


def end(job):
    site.deliver(site.report(job))


def test_reserved_slots_go_first_in_the_dispatchers_line(shop, team):
    """Two slots taken and others waiting; the organization with a reserved slot comes last and is next."""
    running = [shop.submit(), shop.submit()]
    waiting = [shop.submit(), shop.submit()]
    customer = make.organization(credit_microusd=1_000_000)
    subscribed(customer, team)
    mine = [submit_as(shop, customer), submit_as(shop, customer)]
    assert {job.state for job in (*waiting, *mine)} == {"queued"}
    end(running[0])
    Dispatcher().feed()
    assert states(*mine, *waiting) == ["dispatched", "queued", "queued", "queued"]
    end(running[1])
    Dispatcher().feed()  # its one reserved slot is in use: its second job waits its turn
    assert states(*mine, *waiting) == ["dispatched", "queued", "dispatched", "queued"]


def states(*jobs):
    return [Job.objects.get(pk=job.pk).state for job in jobs]


def test_a_reserved_slot_is_not_sent_behind_the_backlog(shop, team, valkey):
    for _ in range(3):
        shop.submit()
    valkey.delete(f"slots:{shop.pool.code}")  # a slot is free and others wait for it
    customer = make.organization(credit_microusd=1_000_000)
    assert submit_as(shop, customer).state == "queued"
    subscribed(customer, team)
    assert submit_as(shop, customer).state == "dispatched"
    assert submit_as(shop, customer).state == "queued"  # the reserved slot is in use now


def test_the_api_answers_429_keeps_a_note_and_writes_nothing(transactional_db, settings):
    settings.PAYG_MAX_OPEN_JOBS = 2
    organization = make.organization(credit_microusd=1_000_000)
    _, secret = make.api_key(organization)
    model = make.model()
    ask = {"model": model.name, "input": {"messages": [{"role": "user", "content": "Hello"}]}}

    def post():
        return Client().post(
            "/api/v1/jobs", ask, content_type="application/json", headers={"authorization": f"Bearer {secret}"}
        )

    assert [post().status_code for _ in range(2)] == [202, 202]
    before = written()
    answer = post()
    assert answer.status_code == 429
    error = answer.json()["error"]
    assert (error["code"], error["type"]) == ("too_many_open_jobs", "rate_limit_error")
    assert "2 jobs" in error["message"]
    assert "“Pay as you go”" in error["message"]
    assert answer["retry-after"] == "5"
    assert written() == before
    assert Refusal.objects.get().code == "too_many_open_jobs"
    balanced()


def test_a_plan_raises_the_rate_limits_that_staff_did_not_set(team, settings):
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "concurrent": 0}
    organization = make.organization()
    caller = Caller(organization.pk, None, None)

    def counted():
        return [limit.figures for limit in database.run(allowance.standing(caller)).rate_limits(caller)]

    assert counted() == [(6_000, 20_000_000, 10_000_000, None)]
    Plan.objects.filter(pk=team.pk).update(requests_per_minute=20_000, concurrent_requests=1_500)
    subscription = subscribed(organization, team)
    assert counted() == [(20_000, 20_000_000, 10_000_000, 1_500)]
    RateLimit.objects.create(organization=organization, requests_per_minute=7)
    assert counted() == [(7, None, None, None)]
    RateLimit.objects.all().delete()
    Subscription.objects.filter(pk=subscription.pk).update(state="ended")
    assert counted() == [(6_000, 20_000_000, 10_000_000, None)]
