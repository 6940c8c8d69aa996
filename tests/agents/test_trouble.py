"""What one runner says wrongly, or twice at once, harms no other's jobs."""

import asyncio
import time
from datetime import timedelta

import httpx
import psycopg
import pytest
from django.conf import settings
from django.utils import timezone

from apps.agents import door as doors
from apps.agents import heartbeats
from apps.agents.door import application
from apps.core.errors import InvalidRequest
from apps.core.signing import sign
from apps.jobs.models import Content, Job
from apps.runner.protocol import Heartbeat, Lease, Reports, Usage
from apps.sites.enrolment import Right
from apps.sites.models import Node
from cango_portal import database
from tests import make
from tests.dispatch import site
from tests.ledger.books import balanced
from tests.threads import run_in_threads

HEADERS = {"Authorization": "Bearer cnode_right"}


@pytest.fixture
def door():
    async def one(method, path, fields):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://portal") as client:
            answer = await client.request(method, path, **fields)
        await database.close()
        return answer

    return lambda method, path, **fields: asyncio.run(one(method, path, fields))


@pytest.fixture
def node(shop):
    shop.pool.node = make.node(token="cnode_right")
    shop.pool.save()
    return shop.pool.node


def beat(claimant: str, *jobs: Job) -> Heartbeat:
    leases = [Lease(job=str(job.pk), attempt=job.attempt, fence=str(job.fence)) for job in jobs]
    return Heartbeat(claimant=claimant, leases=leases)


def together(*beats: tuple[int, Heartbeat]) -> list[object]:
    rights = {row.pk: Right(sha256=row.token_sha256) for row in Node.objects.all()}

    async def add():
        try:
            adding = (heartbeats.collector().add(rights[node_id], each) for node_id, each in beats)
            return await asyncio.gather(*adding, return_exceptions=True)
        finally:
            await database.close()

    return asyncio.run(add())


def state_of(job: Job) -> str:
    job.refresh_from_db()
    return job.state


def test_nul_in_an_answer_is_stored_as_a_mark(shop, node, door):
    job = shop.submit()
    news = site.report(job, text="a\x00b", result={"choices": [{"content": "c\x00d", "\x00": 1}]}, finish_reason="\x00")
    answer = door("POST", "/agent/v1/reports", headers=HEADERS, content=Reports(reports=[news]).model_dump_json())
    assert answer.json()["answers"][0]["accepted"]
    assert state_of(job) == "succeeded"
    content = Content.objects.get(job=job)
    assert (content.text, content.result) == ("a�b", {"choices": [{"content": "c�d", "�": 1}]})


@pytest.mark.parametrize(
    ("fields", "accepted"),
    [
        ({"usage": Usage(prompt_tokens=2**33)}, True),  # charged to the hold
        ({"usage": Usage(prompt_tokens=-5, completion_tokens=20)}, True),
        ({"claimant": "x" * 41}, False),
        ({"first_token_at": 1e20}, False),
    ],
)
def test_a_report_that_cannot_be_written_keeps_no_other_back(shop, node, door, fields, accepted):
    wrong, right = shop.submit(), shop.submit()
    batch = Reports(reports=[site.report(wrong, **fields), site.report(right)])
    answer = door("POST", "/agent/v1/reports", headers=HEADERS, content=batch.model_dump_json())
    assert answer.status_code == 200
    assert [each["accepted"] for each in answer.json()["answers"]] == [accepted, True]
    assert state_of(right) == "succeeded"
    assert state_of(wrong) == ("succeeded" if accepted else "dispatched")
    balanced()


def test_a_heartbeat_that_cannot_be_written_keeps_no_other_back(shop):
    job = shop.submit()
    wrong = Heartbeat(claimant="b", leases=[Lease(job="nonsense", attempt=1, fence="x")])
    _, refused = together((shop.pool.node_id, beat("a", job)), (make.node().pk, wrong))
    assert isinstance(refused, InvalidRequest)
    job.refresh_from_db()
    assert job.claimant == "a"


def test_two_processes_of_a_node_are_heard_both(shop):
    one, two = shop.submit(), shop.submit()
    together((shop.pool.node_id, beat("a", one)), (shop.pool.node_id, beat("b", two)))
    one.refresh_from_db()
    two.refresh_from_db()
    assert (one.claimant, two.claimant) == ("a", "b")


def test_a_runner_that_beats_for_ever_does_not_hold_a_job_for_ever(shop):
    job = shop.submit()
    overdue = settings.RUN_SECONDS + heartbeats.OVERDUE_SECONDS
    Job.objects.filter(pk=job.pk).update(dispatched_at=timezone.now() - timedelta(seconds=overdue + 1))
    [row] = database.run(heartbeats.take([heartbeats.Beat(Right(), beat("a", job), None, shop.pool.node_id)]))
    assert row["lost"]


def test_heartbeats_and_reports_of_the_same_jobs_never_deadlock(shop):
    shop.pool.slots = 20
    shop.pool.save()
    jobs = [shop.submit() for _ in range(10)]
    orders = (beat("runner-1", *jobs), beat("runner-1", *reversed(jobs)))

    def work(n):
        if n < 4:
            for _ in range(20):
                database.run(heartbeats.take([heartbeats.Beat(Right(), orders[n % 2], None, shop.pool.node_id)]))
        else:
            for job in jobs[n - 4 :: 4]:
                site.deliver(site.report(job, "started"))
                site.deliver(site.report(job))

    assert run_in_threads(8, work) == [None] * 8
    assert {state_of(job) for job in jobs} == {"succeeded"}
    balanced()


@pytest.mark.parametrize("kind", ["files", "bodies"])
def test_an_input_without_the_database_is_a_503(shop, door, monkeypatch, kind):
    async def away(plan):
        raise psycopg.OperationalError("away")

    monkeypatch.setattr(doors.database, "run_async", away)
    path = f"/agent/v1/{kind}/00000000-0000-7000-8000-000000000000"
    answer = door("GET", sign(path, expires=int(time.time()) + 60, secret=settings.SECRET_KEY))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
