"""A node that drains takes nothing new and loses nothing: requests finish, shards go on elsewhere."""

from datetime import timedelta

from django.utils import timezone

from apps.agents import heartbeats
from apps.dispatch.dispatcher import Dispatcher
from apps.jobs.models import Job
from apps.ledger import services as ledger
from apps.runner.protocol import Heartbeat, Lease
from apps.sites import drains
from apps.sites.enrolment import Right
from apps.sites.models import Drain, Node
from cango_portal import database
from tests import make
from tests.dispatch import site
from tests.ledger.books import balanced


def drain(node: Node, *, seconds: float = 600, purpose: str = "drain") -> None:
    staff = make.user(is_staff=True)
    drains.drain(node=node, purpose=purpose, seconds=seconds, reason="New fans", actor=staff)


def beat(job: Job, claimant: str = "runner-1") -> list[dict]:
    """The runner says that it works on the job. What it is told of it: nothing while all is well."""
    lease = Lease(job=str(job.pk), attempt=job.attempt, fence=str(job.fence))
    said = heartbeats.Beat(Right(), Heartbeat(claimant=claimant, leases=[lease]), None, job.pool.node_id)
    return database.run(heartbeats.take([said]))


def test_a_draining_node_gets_no_new_work_and_finishes_what_it_has(shop, valkey):
    running = shop.submit()
    site.deliver(site.report(running, "started"))
    drain(shop.pool.node)
    waiting = shop.submit()
    assert waiting.state == "queued"
    dispatcher = Dispatcher()
    for work in (dispatcher.drain, dispatcher.feed, dispatcher.lose_leases):
        work()
    assert beat(running) == []
    site.deliver(site.report(running))
    assert {job.state for job in Job.objects.filter(pk=running.pk)} == {"succeeded"}
    assert Job.objects.get(pk=waiting.pk).state == "queued"
    assert Drain.objects.get().drained_at is None
    make.pool(model=shop.model)
    dispatcher.feed()
    assert Job.objects.get(pk=waiting.pk).state == "dispatched"
    balanced()


def test_near_its_deadline_a_lease_is_not_extended_and_runs_out_by_then(shop, valkey, settings):
    job = shop.submit()
    site.deliver(site.report(job, "started"))
    drain(shop.pool.node, seconds=settings.INTERACTIVE_LEASE_SECONDS + 5)
    assert beat(job) == []
    Drain.objects.update(deadline_at=timezone.now() + timedelta(seconds=settings.INTERACTIVE_LEASE_SECONDS - 1))
    before = Job.objects.get(pk=job.pk).lease_expires_at
    assert [row["lost"] for row in beat(job)] == [True]  # so its runner stops
    assert Job.objects.get(pk=job.pk).lease_expires_at == before
    site.lose(job)
    Dispatcher().lose_leases()
    job.refresh_from_db()
    assert (job.state, job.charge_microusd) == ("failed", 0)  # it streamed, and its stream is gone
    balanced()


def test_a_drain_that_is_over_holds_no_lease_back(shop, valkey):
    node = shop.pool.node
    drain(node, seconds=0)
    drain(make.node(), seconds=0)  # nor does another node's
    drains.move(node=node, after="admitted", reason="Done", actor=make.user(is_staff=True))
    job = shop.submit()
    site.deliver(site.report(job, "started"))
    assert beat(job) == []


def test_work_that_delivered_nothing_runs_again_elsewhere(shop, valkey):
    job = shop.submit(streaming=False)
    site.deliver(site.report(job, "started"))
    site.write(valkey, job)
    drain(shop.pool.node, seconds=0)
    assert [row["lost"] for row in beat(job)] == [True]
    site.lose(job)
    other = make.pool(model=shop.model)
    dispatcher = Dispatcher()
    dispatcher.lose_leases()
    dispatcher.feed()
    job.refresh_from_db()
    assert (job.state, job.attempt, job.pool) == ("dispatched", 2, other)
    assert ledger.balance(job.organization_id).held_microusd > 0
    site.deliver(site.report(job, claimant="runner-2"))
    job.refresh_from_db()
    assert job.state == "succeeded"
    balanced()


def test_a_node_with_work_is_not_drained(shop, valkey):
    job = shop.submit()
    site.deliver(site.report(job, "started"))
    drain(shop.pool.node, purpose="maintenance")
    Drain.objects.update(began_at=timezone.now() - timedelta(seconds=6))
    Dispatcher().drain()
    assert Node.objects.get(pk=shop.pool.node_id).state == "draining"
    site.deliver(site.report(job))
    Dispatcher().drain()
    assert Node.objects.get(pk=shop.pool.node_id).state == "maintenance"
