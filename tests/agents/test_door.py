"""The runners' door, over real HTTP shapes: who may say what, and what becomes of it."""

import asyncio
import time

import httpx
import pytest

from apps.agents import heartbeats
from apps.agents.door import application
from apps.core.signing import sign
from apps.dispatch import reporting
from apps.dispatch.models import Order
from apps.files.models import File
from apps.jobs.models import Job
from apps.jobs.statements import StaleState
from apps.ledger import services as ledger
from apps.runner.protocol import Report, Reports, Usage
from apps.sites.models import Node
from cango_portal import database
from tests import make
from tests.dispatch import site
from tests.ledger.books import balanced


@pytest.fixture
def door():
    """Call the door: `door("POST", path, …)`, or many calls at once with `door.together([...])`."""

    async def together(calls):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://portal") as client:
            answers = await asyncio.gather(*(client.request(method, path, **fields) for method, path, fields in calls))
        await database.close()
        return answers

    def call(method, path, **fields):
        return asyncio.run(together([(method, path, fields)]))[0]

    call.together = lambda calls: asyncio.run(together(calls))
    return call


@pytest.fixture
def node(shop):
    made = make.node(token="cnode_right")
    shop.pool.node = made
    shop.pool.save()
    return made


RIGHT = {"Authorization": "Bearer cnode_right"}


def batch(*reports: Report) -> str:
    return Reports(reports=list(reports)).model_dump_json()


def test_a_call_without_the_nodes_token_is_refused(shop, node, door):
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic Zm9v"}):
        answer = door("POST", "/agent/v1/heartbeat", headers=headers, json={"claimant": "a"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_node_token")


def test_a_heartbeat_extends_leases_and_marks_pools(shop, node, door):
    job = shop.submit()
    before = job.lease_expires_at
    lease = {"job": str(job.pk), "attempt": 1, "fence": str(job.fence)}
    answer = door(
        "POST",
        "/agent/v1/heartbeat",
        headers=RIGHT,
        json={
            "claimant": "a",
            "leases": [lease],
            "power_w": 61.5,
            "pools": [{"pool": shop.pool.code, "ready": False, "reason": "engine restarting"}],
        },
    )
    assert answer.json() == {"stop": [], "cancel": []}
    job.refresh_from_db()
    assert job.lease_expires_at > before
    assert job.claimant == "a"
    shop.pool.refresh_from_db()
    assert (shop.pool.ready, shop.pool.reason) == (False, "engine restarting")
    node.refresh_from_db()
    assert (node.claimant, node.power_w) == ("a", 61.5)


def test_only_the_callers_own_leases_are_extended_and_it_is_told_to_stop_the_others(shop, node, door):
    shop.pool.slots = 6
    shop.pool.save()
    mine, _, _, claimed, ended, elsewhere = jobs = [shop.submit() for _ in range(6)]
    site.deliver(site.report(claimed, "started", claimant="b"))
    site.deliver(site.report(ended, claimant="a"))
    Job.objects.filter(pk=elsewhere.pk).update(pool=make.pool(model=shop.model))
    before = {job.pk: job for job in Job.objects.all()}
    leases = [{"job": str(job.pk), "attempt": 1, "fence": str(job.fence)} for job in jobs]
    leases[1]["attempt"] = 2
    leases[2]["fence"] = str(mine.fence)
    leases.append({**leases[0], "attempt": 2})
    answer = door("POST", "/agent/v1/heartbeat", headers=RIGHT, json={"claimant": "a", "leases": leases})
    stopped = sorted(answer.json()["stop"], key=lambda each: each["job"])
    assert stopped == sorted(({"job": each["job"], "attempt": each["attempt"]} for each in leases[1:]), key=lambda each: each["job"])  # fmt: skip
    after = {job.pk: job for job in Job.objects.all()}
    changed = {pk for pk, job in after.items() if (job.lease_expires_at, job.claimant) != (before[pk].lease_expires_at, before[pk].claimant)}  # fmt: skip
    assert changed == {mine.pk}
    assert after[mine.pk].claimant == "a"


def test_a_cancelled_job_is_named_in_the_answer(shop, node, door, valkey):
    from apps.dispatch import services as dispatch

    job = shop.submit()
    site.deliver(site.report(job, "started"))
    dispatch.cancel(job_id=job.pk)
    lease = {"job": str(job.pk), "attempt": 1, "fence": str(job.fence)}
    answer = door("POST", "/agent/v1/heartbeat", headers=RIGHT, json={"claimant": "runner-1", "leases": [lease]})
    assert answer.json() == {"stop": [], "cancel": [{"job": str(job.pk), "attempt": 1}]}


def test_reports_are_committed_one_by_one(shop, node, door):
    first, second = [shop.submit() for _ in range(2)]
    good = site.report(first)
    stale = (site.report(second)).model_copy(update={"attempt": 9})
    nonsense = good.model_copy(update={"job": "not-a-uuid"})
    answer = door("POST", "/agent/v1/reports", headers=RIGHT, content=batch(nonsense, stale, good))
    assert [each["accepted"] for each in answer.json()["answers"]] == [False, False, True]
    states = [Job.objects.get(pk=each.pk).state for each in (first, second)]
    assert states == ["succeeded", "dispatched"]
    balanced()


def test_a_report_that_can_never_be_written_keeps_no_other_back(shop, node, door, monkeypatch):
    shop.pool.slots = 4
    shop.pool.save()
    broken, moved, good = shop.submit(), shop.submit(), shop.submit()
    write, raised = reporting.report, []

    def report(news, **fields):
        if news.job == str(broken.pk):
            raise RuntimeError("can never be charged")
        if news.job == str(moved.pk) and not raised:
            raised.append(news.job)
            raise StaleState(news.job)
        return write(news, **fields)

    monkeypatch.setattr(reporting, "report", report)
    reports = [site.report(job, usage=Usage(prompt_tokens=1)) for job in (broken, moved, good)]
    answer = door("POST", "/agent/v1/reports", headers=RIGHT, content=batch(*reports))
    assert [each["accepted"] for each in answer.json()["answers"]] == [False, True, True]
    assert [Job.objects.get(pk=job.pk).state for job in (broken, moved, good)] == [
        "dispatched",
        "succeeded",
        "succeeded",
    ]
    assert ledger.balance(shop.organization.pk).held_microusd == broken.hold_microusd
    balanced()


def test_starts_are_written_together_and_judged_one_by_one(shop, node, door):
    shop.pool.slots = 4
    shop.pool.save()
    began, other, again, gone = shop.submit(), shop.submit(), shop.submit(), shop.submit()
    site.deliver(site.report(other, "started", claimant="someone-else"))
    site.deliver(site.report(again, "started"))
    stale = site.report(gone, "started").model_copy(update={"fence": "0" * 32})
    reports = [site.report(began, "started"), site.report(other, "started"), site.report(again, "started"), stale]
    answer = door("POST", "/agent/v1/reports", headers=RIGHT, content=batch(*reports))
    assert [each["accepted"] for each in answer.json()["answers"]] == [True, False, True, False]
    began.refresh_from_db()
    assert (began.state, began.claimant, began.version) == ("running", "runner-1", 2)
    assert began.started_at <= began.lease_expires_at
    assert [(event.number, event.state, event.data) for event in began.events.all()][1:] == [
        (2, "running", {"site": began.pool.node.site.name})
    ]
    assert set(Order.objects.values_list("job_id", flat=True)) == {gone.pk}


def test_a_node_cannot_begin_another_nodes_job(shop, node, door):
    job = shop.submit()
    make.node(token="cnode_other")
    answer = door(
        "POST",
        "/agent/v1/reports",
        headers={"Authorization": "Bearer cnode_other"},
        content=batch(site.report(job, "started")),
    )
    assert answer.json()["answers"][0]["accepted"] is False
    job.refresh_from_db()
    assert (job.state, job.claimant) == ("dispatched", "")


def test_a_node_cannot_speak_for_another_nodes_pool(shop, node, door):
    make.node(token="cnode_other")
    job = shop.submit()
    news = site.report(job, usage=Usage(prompt_tokens=10**6))
    answer = door("POST", "/agent/v1/reports", headers={"Authorization": "Bearer cnode_other"}, content=batch(news))
    assert answer.json()["answers"][0]["accepted"] is False
    assert ledger.balance(shop.organization.pk).held_microusd == job.hold_microusd


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b'{"reports": 3}', b'{"reports": [{"kind": "finished"}]}']
)
def test_a_report_that_is_none_is_refused_with_the_field(shop, node, door, content):
    answer = door("POST", "/agent/v1/reports", headers=RIGHT, content=content)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_body_and_a_file_come_only_by_their_signature(shop, node, door, settings):
    from django.core.files.base import ContentFile
    from django.core.files.storage import default_storage

    job = shop.submit()
    path = f"/agent/v1/bodies/{job.pk}"
    good = sign(path, expires=int(time.time()) + 60, secret=settings.SECRET_KEY)
    assert door("GET", good).json() == {"messages": [{"role": "user", "content": "Hello"}]}
    late = sign(path, expires=int(time.time()) - 1, secret=settings.SECRET_KEY)
    for bad in (
        path,
        late,
        good[:-1] + ("0" if good[-1] != "0" else "1"),
        good.replace(str(job.pk), str(shop.organization.pk)),
    ):
        assert door("GET", bad).status_code == 403

    def keep() -> File:
        stored = default_storage.save("test", ContentFile(b"x" * 300_000))
        return File.objects.create(
            organization=shop.organization,
            name="a.png",
            content_type="image/png",
            size_bytes=300_000,
            sha256="",
            path=stored,
            expires_at=job.deadline_at,
        )

    file = keep()
    answer = door("GET", sign(f"/agent/v1/files/{file.pk}", expires=int(time.time()) + 60, secret=settings.SECRET_KEY))
    assert answer.content == b"x" * 300_000
    assert door("GET", f"/agent/v1/files/{file.pk}").status_code == 403


def test_a_flush_asks_once_whose_tokens_they_are_and_refuses_only_whom_it_must(shop, node, door, monkeypatch):
    asked = []
    holders = heartbeats.enrolment.holders
    monkeypatch.setattr(heartbeats.enrolment, "holders", lambda rights: asked.append(len(rights)) or holders(rights))
    make.node(token="cnode_gone", state="quarantined")
    beats = [("cnode_right", "a"), ("cnode_right", "b"), ("cnode_gone", "c"), ("nobody", "d")]
    calls = [
        (
            "POST",
            "/agent/v1/heartbeat",
            {"headers": {"Authorization": f"Bearer {token}"}, "json": {"claimant": claimant}},
        )
        for token, claimant in beats
    ]
    assert [answer.status_code for answer in door.together(calls)] == [200, 200, 401, 401]
    assert asked in ([3], [1, 2], [2, 1], [2, 2])
    assert Node.objects.get(token_sha256=heartbeats.enrolment.nodes.digest("cnode_gone")).claimant == ""


def test_many_beats_are_one_write(shop, node, door, monkeypatch):
    writes = []
    take = heartbeats.take
    monkeypatch.setattr(heartbeats, "take", lambda beats: writes.append(len(beats)) or take(beats))
    answers = door.together([("POST", "/agent/v1/heartbeat", {"headers": RIGHT, "json": {"claimant": "a"}})] * 20)
    assert {answer.status_code for answer in answers} == {200}
    assert len(writes) <= 2
