"""A node's life has these steps and no others, and each leaves its trace."""

import pytest

from apps.scheduling import placement, selectors
from apps.sites import enrolment, lifecycle
from apps.sites.lifecycle import NodeMoved, NoSuchStep
from apps.sites.models import Node, NodeEvent
from cango_portal import database
from tests import make

State = Node.State
LEGAL = {
    ("pending", "burn-in"), ("pending", "quarantined"), ("pending", "retired"),
    ("burn-in", "admitted"), ("burn-in", "maintenance"), ("burn-in", "quarantined"), ("burn-in", "retired"),
    ("admitted", "draining"), ("admitted", "quarantined"),
    ("draining", "admitted"), ("draining", "maintenance"), ("draining", "quarantined"), ("draining", "retired"),
    ("maintenance", "burn-in"), ("maintenance", "admitted"), ("maintenance", "quarantined"), ("maintenance", "retired"),
    ("quarantined", "burn-in"), ("quarantined", "retired"),
}  # fmt: skip


def step(node: Node, before: str, after: str, **fields) -> None:
    database.run(lifecycle.step(node.pk, before=before, after=after, **{"reason": "New fans", **fields}))


def test_the_steps_are_these(driver):
    node = make.node()
    for before in State:
        for after in State:
            Node.objects.filter(pk=node.pk).update(state=before)
            NodeEvent.objects.all().delete()
            if (before, after) in LEGAL:
                step(node, before, after)
                assert list(NodeEvent.objects.values_list("before", "after")) == [(before, after)]
                assert Node.objects.get().state == after
            else:
                with pytest.raises(NoSuchStep):
                    step(node, before, after)
                assert Node.objects.get().state == before
                assert not NodeEvent.objects.exists()


def test_a_step_says_who_took_it_why_and_when(driver):
    node, staff = make.node(), make.user(is_staff=True)
    before = node.state_at
    step(node, "admitted", "quarantined", actor_id=staff.pk, reason="x" * 300)
    event = NodeEvent.objects.get()
    assert (event.node, event.actor, event.reason) == (node, staff, "x" * 200)
    node.refresh_from_db()
    assert before < node.state_at <= event.at
    step(node, "quarantined", "burn-in")
    assert NodeEvent.objects.first().actor is None


def test_who_believes_an_older_state_changes_nothing(driver):
    node = make.node()
    step(node, "admitted", "quarantined")
    with pytest.raises(NodeMoved):
        step(node, "admitted", "draining")
    assert Node.objects.get().state == "quarantined"
    assert NodeEvent.objects.count() == 1


@pytest.mark.parametrize("state", list(State))
def test_only_an_admitted_node_gets_work_and_only_some_are_heard(driver, state):
    node = make.node(token="t", state=state)
    pool = make.pool(model=make.model(), node=node)
    (candidate,) = placement.rank(database.run(selectors.views(pool.model_id)))
    assert (candidate.refusal == "") == (state == "admitted")
    heard = bool(database.run(enrolment.holders([enrolment.right("t", now=0)])))
    assert heard == (state in {"burn-in", "admitted", "draining", "maintenance"})
