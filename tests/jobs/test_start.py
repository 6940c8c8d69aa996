"""When a job in line is expected to start: what the dispatcher saw, in words, on its page, in lists and on the socket."""

import asyncio
import re
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.billing.models import Plan, Subscription
from apps.core.ids import uuid7
from apps.dispatch.dispatcher import Dispatcher
from apps.jobs import statements
from apps.jobs.models import Job
from apps.jobs.pages import start
from apps.jobs.pages.start import Kept, Start
from apps.jobs.topics import StartTopic
from apps.live.topics import Viewer
from apps.portal import topics as portal
from apps.scheduling import starts
from apps.sites.models import Node, Pool
from tests import make
from tests.dispatch import site

NOW = datetime(2026, 11, 28, 14, 30, 4, tzinfo=UTC)


@pytest.fixture
def organization(db):
    return make.organization(owner=make.user(), credit_microusd=1_000_000)


@pytest.fixture
def model(db):
    return make.model(title="Demo chat")


@pytest.fixture
def pool(model):
    return make.pool(model=model, slots=1)


def queued(organization, model, number: int, **fields) -> Job:
    made = make.job(organization=organization, model=model, state="queued", **fields)
    Job.objects.filter(pk=made.pk).update(deadline_at=timezone.now() + timedelta(minutes=10 + number))
    made.refresh_from_db()
    return made


def saw(model, pool, lane="standard", *, started: int, seconds: int = 60, now: datetime | None = None) -> None:
    """That work waited for so long, and so many started meanwhile."""
    at = (now or timezone.now()).timestamp() // 10 * 10
    for step in range(seconds // 10):
        starts.record(at - 10 * (step + 1), Counter(), {(model.pk, lane)})
    starts.record(at - 10, Counter({(model.pk, lane, pool.code): started}), set())


def seconds(job: Job, now: datetime) -> float | None:
    found = start.expected([job.pk], now)[job.pk]
    return None if found.at is None else round((found.at - now).total_seconds(), 6)


def test_from_what_the_dispatcher_saw(shop, valkey):
    running = [shop.submit() for _ in range(2)]
    waiting = [shop.submit(deadline_seconds=100.0 + n) for n in range(4)]
    dispatcher = Dispatcher()
    base = NOW.timestamp() // 10 * 10
    for number, step in enumerate((0, 10, 20)):
        with time_machine.travel(base + step, tick=False):
            if number < 2:
                site.deliver(site.report(running[number]))
            dispatcher.feed()
    key = (shop.model.pk, "standard")
    assert starts.read(base + 30, [key])[key] == starts.Started(30, Counter({("standard", shop.pool.code): 2}))
    now = datetime.fromtimestamp(base + 30, UTC)
    assert [Job.objects.get(pk=job.pk).state for job in waiting] == ["dispatched", "dispatched", "queued", "queued"]
    assert [seconds(job, now) for job in waiting[2:]] == [15, 30]
    assert start.expected([waiting[0].pk], now) == {}


def test_what_waits_for_a_site_or_cheaper_power_is_no_line(shop, valkey):
    """A full pool makes others wait; a place without one makes only its own work wait."""
    bound, dear = shop.submit(), shop.submit()
    Job.objects.filter(pk=bound.pk).update(state="queued", residency=["ZZ"], pool=None, fence=None)
    Job.objects.filter(pk=dear.pk).update(state="queued", max_usd_per_mwh=0.01, pool=None, fence=None)
    with time_machine.travel(NOW, tick=False):
        Dispatcher().feed()
    key = (shop.model.pk, "standard")
    assert starts.read(NOW.timestamp(), [key])[key] == starts.Started()


def test_organizations_take_turns_and_other_lanes_and_places_count_as_they_go(organization, model, pool, valkey):
    other = make.organization()
    mine = [queued(organization, model, n) for n in range(3)]
    theirs = queued(other, model, 9)
    flexible = queued(organization, model, 0, tier="flexible")
    queued(organization, model, 0, residency=["ZZ"])  # can run at no pool that mine may
    queued(organization, make.model(), 0)
    queued(organization, model, 0, batch_id=uuid7(), tier="batch")
    now = timezone.now()
    saw(model, pool, started=6)
    elapsed = starts.read(now.timestamp(), [(model.pk, "standard")])[model.pk, "standard"].seconds
    assert elapsed == 60
    assert [seconds(job, now) for job in (mine[0], theirs, mine[1], mine[2])] == [10, 20, 30, 40]
    assert seconds(flexible, now) is None
    saw(model, pool, "flexible", started=2)
    assert seconds(flexible, now) == 37.5  # the fifth of all, at eight starts a minute; its own lane: 30 s


def test_a_line_that_is_too_long_to_count_says_nothing(organization, model, pool, valkey, monkeypatch):
    jobs = [queued(organization, model, n) for n in range(3)]
    saw(model, pool, started=6)
    now = timezone.now()
    monkeypatch.setattr(statements, "QUEUE", 3)
    assert seconds(jobs[2], now) == 30
    monkeypatch.setattr(statements, "QUEUE", 2)
    assert start.expected([job.pk for job in jobs], now) == {}


def test_nothing_is_promised_behind_another_whose_plan_reserves_slots(organization, model, pool, valkey):
    """It goes first as often as it has one free."""
    other = make.organization()
    mine, theirs = queued(organization, model, 0), queued(other, model, 1)
    shard = queued(organization, model, 0, batch_id=uuid7(), tier="batch")
    now = timezone.now()
    plan = Plan.objects.create(code="growth", title="Growth", price_cents=19_900, max_open_jobs=100, reserved_slots=2)
    subscription = Subscription.objects.create(
        organization=other, plan=plan, stripe_id="sub_1", state="active", period_start_at=now, period_end_at=now
    )
    saw(model, pool, started=6)
    saw(model, pool, "shards", started=6)
    assert [seconds(job, now) for job in (mine, theirs, shard)] == [None, 20, 10]  # nobody passes it, or a shard
    assert start.expected([mine.pk], now)[mine.pk].reason == "Waiting for a free GPU"
    subscription.state = "ended"
    subscription.save()
    assert [seconds(job, now) for job in (mine, theirs, shard)] == [10, 20, 10]
    subscription.state = "active"
    subscription.save()
    Job.objects.filter(pk=theirs.pk).update(model=make.model())  # another line
    assert seconds(mine, now) == 10


def shown(client: Client, job: Job) -> str:
    html = client.get(f"/jobs/{job.public_id}/").content.decode()
    return " ".join(re.sub("<[^>]+>", " ", re.search(r'<div class="run-top">.*?</div>', html, re.S)[0]).split())


def test_the_page_says_it_or_the_reason(organization, model, pool, valkey):
    client = Client()
    client.force_login(organization.members.get())
    first, second = queued(organization, model, 0), queued(organization, model, 1)
    assert shown(client, second).startswith("Queued waiting for a free GPU, second in line Starts by ")
    saw(model, pool, started=2)
    assert re.fullmatch(
        r"Queued waiting for a free GPU, second in line Expected to start in about 1 min. Starts by \d\d:\d\d or expires, free of charge",
        shown(client, second),
    )
    assert "next in line Expected to start in about 30 s. Starts" in shown(client, first)
    Pool.objects.update(ready=False, reason="the model is being loaded")
    assert shown(client, first).startswith(
        "Queued waiting for a site: the model is being loaded, next in line Starts by "
    )
    Pool.objects.update(ready=True)
    Node.objects.update(state="draining")
    assert "waiting for a site: node is draining" in shown(client, first)
    assert (
        "Waiting for a site: node is draining, next in line. "
        in client.get(f"/jobs/{first.public_id}/").content.decode()
    )
    Node.objects.update(state="admitted")
    Job.objects.filter(pk=first.pk).update(reason="Attempt 1 ended: the site stopped answering.")
    assert shown(client, first).startswith("Queued attempt 1 ended: the site stopped answering, next in line Expected to start in about ")  # fmt: skip


def test_in_the_running_list(organization, model, pool, valkey):
    client = Client()
    client.force_login(organization.members.get())
    first = queued(organization, model, 0)
    saw(model, pool, started=2)
    html = client.get("/dashboard/").content.decode()
    row = next(row for row in re.findall(r"<tr .+?</tr>", html, re.S) if f'id="running-{first.public_id}"' in row)
    assert "Waiting for a free GPU, next in line<br>Expected to start in about 30\xa0s</span>" in row


def test_a_list_that_is_made_anew_reads_the_line_once(organization, model, pool, valkey):
    first, second = queued(organization, model, 0), queued(organization, model, 1)
    kept = Kept()
    saw(model, pool, started=2)

    def read(versions) -> tuple[dict, int]:
        with CaptureQueriesContext(connection) as queries:
            found = kept.expected(versions)
        return {pk: round((each.at - each.now).total_seconds()) for pk, each in found.items()}, sum(
            "WITH asked" in each["sql"] for each in queries
        )

    gone = uuid7()
    assert read({}) == ({}, 0)
    assert read({first.pk: 1, gone: 1}) == ({first.pk: 30}, 1)
    assert read({first.pk: 1, gone: 1}) == ({first.pk: 30}, 0)
    assert read({first.pk: 1, second.pk: 1}) == ({first.pk: 30, second.pk: 60}, 1)  # another came into the list
    saw(model, pool, started=2)
    assert read({first.pk: 1, second.pk: 1}) == ({first.pk: 30, second.pk: 60}, 0)
    assert read({first.pk: 3, second.pk: 1}) == ({first.pk: 15, second.pk: 60}, 1)  # it came back into the line


async def test_what_was_read_for_the_list_holds_for_seconds(monkeypatch):
    monkeypatch.setattr(portal, "READ_SECONDS", 0.05)
    topic = portal.RunningTopic("running", Viewer(None, uuid7(), frozenset()))
    before, watching = topic.starts, asyncio.create_task(topic.watch_starts())
    await asyncio.sleep(0.2)
    watching.cancel()
    assert topic.starts is not before
    assert not topic.fresh.is_set()  # nothing of it waits


@pytest.mark.parametrize(
    ("said", "at", "words"),
    [
        (None, None, ""),
        (None, 1, "Expected to start in about 5\xa0s"),
        (None, 55, "Expected to start in about 55\xa0s"),
        (None, 56, "Expected to start in about 1\xa0min"),
        (None, 61, "Expected to start in about 2\xa0min"),  # rounded up
        (100, 61, "Expected to start in about 2\xa0min"),
        (30, 200, "Expected to start in about 30\xa0s"),  # what was said holds,
        (-1, 200, "Waits longer than expected, about 4\xa0min more"),  # until it has passed: then it says so
        (-1, None, ""),
    ],
)
def test_it_grows_only_with_a_reason(said, at, words):
    moment = None if at is None else NOW + timedelta(seconds=at)
    before = None if said is None else Start(NOW, at=NOW + timedelta(seconds=said))
    assert Start(NOW, at=moment).after(before).words == words


def test_a_promise_that_was_broken_is_not_made_anew():
    said, words = None, []
    for passed, left in ((0, 30), (5, 25), (35, 60), (40, 90), (45, 85), (95, 20)):
        now = NOW + timedelta(seconds=passed)
        said = Start(now, at=now + timedelta(seconds=left)).after(said)
        words.append(said.words)
    assert words == [
        "Expected to start in about 30\xa0s",
        "Expected to start in about 25\xa0s",
        "Waits longer than expected, about 1\xa0min more",
        "Waits longer than expected, about 55\xa0s more",
        "Waits longer than expected, about 50\xa0s more",
        "Waits longer than expected, about 20\xa0s more",
    ]


def test_what_would_come_after_the_deadline_is_not_promised(organization, model, pool, valkey):
    first = queued(organization, model, 0)
    saw(model, pool, started=2)  # one in 30 s
    soon = timezone.now()
    Job.objects.filter(pk=first.pk).update(deadline_at=soon + timedelta(seconds=31))
    assert start.expected([first.pk], soon)[first.pk].words == "Expected to start in about 30\xa0s"
    Job.objects.filter(pk=first.pk).update(deadline_at=soon + timedelta(seconds=29))
    assert start.expected([first.pk], soon)[first.pk].words == "Not expected to start before its deadline"


@pytest.mark.django_db(transaction=True)
async def test_the_topic_says_it_anew_and_only_to_members(valkey):
    from asgiref.sync import sync_to_async

    def seed():
        owner, model = make.user(), make.model()
        organization = make.organization(owner=owner)
        job = queued(organization, model, 0)
        return owner, organization, model, make.pool(model=model, slots=1), job

    owner, organization, model, pool, job = await sync_to_async(seed)()
    name = f"job.{job.public_id}.start"
    stranger = Viewer(owner, uuid7(), frozenset({uuid7()}))
    assert not await StartTopic(name, stranger, job=job.public_id).allowed()
    topic = StartTopic(name, Viewer(owner, organization.pk, frozenset({organization.pk})), job=job.public_id)
    assert await topic.allowed()
    waits = {
        "queue": "waiting for a free GPU, next in line",
        "why": "Waiting for a free GPU, next in line. $0.0010 held from your balance",
    }

    async def fields(at: int = 0):
        return [message["set"] for message in await topic.news(at)]

    assert await fields() == [{**waits, "words": ""}]
    assert await fields() == []  # nothing new
    await sync_to_async(saw)(model, pool, started=3)
    assert await fields() == [{**waits, "words": "Expected to start in about 20\xa0s."}]
    assert await fields(2**62) == []
    topic.said = Start(timezone.now(), at=timezone.now() - timedelta(seconds=1))
    assert await fields() == [{**waits, "words": "Waits longer than expected, about 20\xa0s more."}]
    assert await fields() == []  # and so it stays
    await sync_to_async(Job.objects.filter(pk=job.pk).update)(
        state="running", pool=pool, fence=uuid7(), lease_expires_at=timezone.now()
    )
    assert await fields() == []
    assert not topic.finished
    await sync_to_async(Job.objects.filter(pk=job.pk).update)(state="queued", pool=None, fence=None)
    assert await fields() == [{**waits, "words": "Expected to start in about 20\xa0s."}]  # it lost its site
    await sync_to_async(Job.objects.filter(pk=job.pk).update)(
        state="cancelled", finished_at=timezone.now(), charge_microusd=0
    )
    assert await fields() == []
    assert topic.finished
