"""Many nodes silent at once are the portal's own trouble: nothing is given up until they are heard, or staff say so."""

import logging
from datetime import timedelta

import pytest
from django.utils import timezone

from apps.accounts.models import AuditEvent
from apps.agents import heartbeats
from apps.dispatch import guarding
from apps.dispatch.dispatcher import Dispatcher
from apps.jobs.models import Job
from apps.runner.protocol import Heartbeat, Lease
from apps.sites.enrolment import Right
from apps.sites.models import Freeze, Node
from cango_portal import database
from tests import make
from tests.admin.conftest import operator, staff  # noqa: F401 - fixtures
from tests.admin.test_actions import act
from tests.dispatch.site import heard
from tests.threads import one_after_the_other


@pytest.fixture
def fleet(transactional_db, valkey):
    """Call it: so many nodes, each with so many running jobs whose lease ran out, or did not, and how long it is silent."""
    model = make.model()
    organization = make.organization()

    def add(count: int, *, silent: float, jobs: int = 1, expired: bool = True, **fields) -> list[Job]:
        now = timezone.now()
        made = []
        for _ in range(count):
            node = make.node(heartbeat_at=now - timedelta(seconds=silent), **fields)
            pool = make.pool(model=model, node=node)
            lease = now + timedelta(seconds=-1 if expired else 60)
            for _ in range(jobs):
                made.append(
                    make.job(
                        organization=organization, model=model, state="running", pool=pool, lease_expires_at=lease,
                        claimant="runner-1", deadline_at=now + timedelta(hours=1), dispatched_at=now,
                    )
                )  # fmt: skip
        return made

    return add


def lost() -> int:
    """How many attempts the dispatcher gives up now."""
    heard()
    Dispatcher().lose_leases()
    return Job.objects.filter(state="queued").count()


def beat(job: Job) -> None:
    lease = Lease(job=str(job.pk), attempt=job.attempt, fence=str(job.fence))
    said = heartbeats.Beat(Right(), Heartbeat(claimant="runner-1", leases=[lease]), None, job.pool.node_id)
    database.run(heartbeats.take([said]))


@pytest.mark.parametrize(
    ("silent", "live", "kept"),
    [
        ({"count": 3, "jobs": 3}, {"count": 4, "jobs": 9}, False),  # 9 of 45: a fifth, and not more
        ({"count": 3, "jobs": 3}, {"count": 5, "jobs": 7}, True),  # 9 of 44
        ({"count": 2, "jobs": 3}, {"count": 1, "jobs": 1}, False),  # most of the leases, but of two nodes
        ({"count": 3, "jobs": 3, "expired": False}, {"count": 1}, False),  # nothing ran out yet
        ({"count": 3, "jobs": 3, "state": "quarantined"}, {"count": 1}, False),  # silenced by staff
    ],
    ids=["a fifth", "more than a fifth", "two nodes", "not yet", "quarantined"],
)
def test_it_takes_more_than_a_fifth_of_the_leases_at_three_nodes(fleet, silent, live, kept):
    mine = fleet(silent=11, **silent)
    fleet(silent=1, expired=False, **live)
    gone = lost()
    assert gone == (0 if kept or not silent.get("expired", True) else len(mine))
    assert Freeze.objects.filter(open=True).count() == kept


@pytest.mark.parametrize("kept", [True, False])
def test_what_was_ordered_is_held_too_and_what_ended_is_not(fleet, kept):
    fleet(3, silent=11)
    ended = {"state": "succeeded", "finished_at": timezone.now(), "charge_microusd": 0}
    Job.objects.update(**({"state": "dispatched"} if kept else ended))
    fleet(1, silent=1, expired=False)
    assert lost() == 0
    assert Freeze.objects.filter(open=True).count() == kept


def test_nodes_that_are_suspect_count_so_that_the_first_to_run_out_are_kept_too(fleet):
    fleet(1, silent=11)
    fleet(4, silent=7, expired=False)
    assert lost() == 0
    freeze = Freeze.objects.get()
    assert (freeze.nodes, freeze.leases, freeze.running, freeze.open) == (5, 5, 5, True)


def test_what_a_node_that_is_heard_does_not_know_is_lost_all_the_same(fleet):
    fleet(4, silent=11)
    (forgotten,) = fleet(1, silent=1)
    assert lost() == 1
    assert Job.objects.get(state="queued") == forgotten


def test_what_a_node_holds_that_staff_silenced_is_lost_all_the_same(fleet):
    fleet(4, silent=11)
    (silenced,) = fleet(1, silent=11, state="quarantined")
    assert lost() == 1
    assert Job.objects.get(state="queued") == silenced


def test_it_ends_when_the_nodes_are_heard_again_and_nothing_was_run_twice(fleet, caplog):
    jobs = fleet(4, silent=11, jobs=2)
    with caplog.at_level(logging.ERROR, logger="apps.dispatch.guarding"):
        assert lost() == lost() == 0
    assert [record.message for record in caplog.records] == ["many nodes fell silent at once: their leases are kept"]
    for job in jobs[:4]:  # of two nodes
        beat(job)
    assert lost() == 2 * 2  # two nodes alone are no outage of ours
    freeze = Freeze.objects.get()
    assert (freeze.open, freeze.released_at) == (False, None)
    assert freeze.ended_at is not None
    kept = Job.objects.filter(pk__in=[job.pk for job in jobs[:4]])
    assert {(job.state, job.attempt) for job in kept} == {("running", 1)}


def test_staff_may_say_that_they_are_lost(fleet, staff, operator):  # noqa: F811
    fleet(4, silent=11)
    assert lost() == 0
    freeze = Freeze.objects.get()
    assert act(staff, "sites_freeze", "release", freeze, reason="The site burnt down").status_code == 302
    assert lost() == 4
    assert not AuditEvent.objects.exclude(action="freeze.released").exists()
    assert AuditEvent.objects.get().actor == operator
    lost()
    assert not Freeze.objects.get().open
    html = act(staff, "sites_freeze", "release", freeze, reason="Again").content.decode()
    assert "It was released already, or is over." in html


def test_two_dispatchers_begin_one_freeze(fleet):
    fleet(4, silent=11)
    assert one_after_the_other(guarding.frozen(), guarding.frozen()) == [True, True]
    assert Freeze.objects.count() == 1
    Node.objects.update(heartbeat_at=timezone.now())
    for _ in range(2):
        Dispatcher().lose_leases()
    assert Freeze.objects.filter(open=True).count() == 0
