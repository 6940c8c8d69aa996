"""Drains and maintenance: what is written when staff begin, announce, call off and end them."""

from datetime import UTC, datetime, timedelta

import pytest

from apps.accounts.models import AuditEvent
from apps.core.errors import InvalidRequest
from apps.core.sql import Row
from apps.dispatch import draining
from apps.dispatch.dispatcher import Dispatcher
from apps.sites import drains
from apps.sites.lifecycle import NodeMoved, NoSuchStep
from apps.sites.models import Drain, Node, NodeEvent
from cango_portal import database
from tests import make

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def node(transactional_db):
    return make.node()


@pytest.fixture
def staff(transactional_db):
    return make.user(is_staff=True)


def announce(node, staff, *, starts_at=NOW + 30 * HOUR, **fields) -> Drain:
    return drains.announce(
        **{
            "node": node, "starts_at": starts_at, "deadline_at": starts_at + HOUR, "ends_at": starts_at + 4 * HOUR,
            "reason": "New fans", "actor": staff, "now": NOW, **fields,
        }
    )  # fmt: skip


def untouched() -> None:
    assert list(Node.objects.values_list("state", flat=True)) == ["admitted"]
    assert (Drain.objects.count(), NodeEvent.objects.count(), AuditEvent.objects.count()) == (0, 0, 0)


def test_a_drain_has_a_deadline_and_a_reason(node, staff):
    drains.drain(node=node, purpose="drain", seconds=600, reason="New fans", actor=staff)
    made = Drain.objects.get()
    assert (made.node, made.purpose, made.reason, made.actor) == (node, "drain", "New fans", staff)
    assert (made.announced_at, made.began_at, made.deadline_at) == (
        None,
        made.starts_at,
        made.starts_at + timedelta(seconds=600),
    )
    assert Node.objects.get().state == "draining"
    event = AuditEvent.objects.get()
    assert (event.action, event.target, event.reason, event.actor) == ("node.draining", node.code, "New fans", staff)
    with pytest.raises(NoSuchStep):
        drains.drain(node=Node.objects.get(), purpose="drain", seconds=1, reason="Again", actor=staff)
    with pytest.raises(NodeMoved):
        drains.drain(node=Node(pk=node.pk, state="admitted"), purpose="drain", seconds=1, reason="Late", actor=staff)
    assert (Drain.objects.count(), AuditEvent.objects.count()) == (1, 1)


@pytest.mark.parametrize("after", ["admitted", "quarantined", "retired"])
def test_a_drain_is_over_when_the_node_leaves_it(node, staff, after):
    other = make.node()
    for each in (node, other):
        drains.drain(node=each, purpose="drain", seconds=600, reason="New fans", actor=staff)
    ahead = announce(node, staff)
    drains.move(node=node, after=after, reason="Done", actor=staff)
    over = Drain.objects.get(node=node, announced_at=None)
    assert (over.open, over.ended_at is None) == (False, False)
    assert set(Drain.objects.filter(ended_at=None)) == {ahead, Drain.objects.get(node=other)}


def test_an_announced_maintenance_begins_by_itself(node, staff):
    made = announce(node, staff)
    Dispatcher().drain()
    assert Node.objects.get().state == "admitted"
    Drain.objects.update(announced_at=NOW - 30 * HOUR, starts_at=NOW - HOUR)
    Dispatcher().drain()
    Dispatcher().drain()
    made.refresh_from_db()
    assert Node.objects.get().state == "draining"
    assert made.began_at is not None
    assert NodeEvent.objects.get().reason == "New fans"


def test_a_maintenance_that_was_called_off_does_not_begin(node, staff):
    made = announce(node, staff)
    drains.call_off(drain=made, reason="Not needed", actor=staff, now=NOW)
    Drain.objects.update(announced_at=NOW - 30 * HOUR, starts_at=NOW - HOUR)
    Dispatcher().drain()
    assert Node.objects.get().state == "admitted"
    with pytest.raises(NodeMoved):
        drains.call_off(drain=made, reason="Again", actor=staff, now=NOW)


def test_a_maintenance_that_has_begun_is_not_called_off(node, staff):
    made = announce(node, staff)
    Drain.objects.update(announced_at=NOW - 30 * HOUR, starts_at=NOW - HOUR)
    Dispatcher().drain()
    with pytest.raises(NodeMoved):
        drains.call_off(drain=made, reason="Too late", actor=staff, now=NOW)
    made.refresh_from_db()
    assert (made.open, made.ended_at) == (True, None)
    assert not AuditEvent.objects.filter(action="node.maintenance_called_off").exists()


def test_of_dispatchers_and_people_who_begin_and_call_off_at_once_the_first_counts(node, staff):
    made = announce(node, staff)
    Drain.objects.update(announced_at=NOW - 30 * HOUR, starts_at=NOW - HOUR)

    def due(state: str = "admitted") -> list[Row]:
        Node.objects.update(state=state)
        return database.run(drains.due())

    (row,) = due()
    assert due("burn-in") == []
    drains.call_off(drain=made, reason="Not needed", actor=staff, now=NOW)
    assert due() == []
    with pytest.raises(NodeMoved):
        database.run(drains.begin(row))
    Drain.objects.update(ended_at=None)
    database.run(drains.begin(row))
    assert due() == []
    with pytest.raises(NodeMoved):
        database.run(drains.begin(row))
    assert (Node.objects.get().state, NodeEvent.objects.count()) == ("admitted", 1)


def test_a_retired_node_has_no_maintenance(staff):
    node = make.node(state="retired")
    with pytest.raises(NoSuchStep):
        announce(node, staff)
    assert (Drain.objects.count(), AuditEvent.objects.count()) == (0, 0)


def test_what_cannot_be_announced_writes_nothing(node, staff):
    wrong = [
        {"starts_at": NOW},
        {"deadline_at": NOW + 29 * HOUR},
        {"ends_at": NOW + 30.5 * HOUR},
    ]
    for fields in wrong:
        with pytest.raises(InvalidRequest):
            announce(node, staff, **fields)
    untouched()


def test_an_empty_node_is_opened_only_for_maintenance(node, staff):
    other = make.node()
    drains.drain(node=node, purpose="maintenance", seconds=600, reason="New fans", actor=staff)
    drains.drain(node=other, purpose="drain", seconds=600, reason="Later", actor=staff)
    Dispatcher().drain()
    assert not Drain.objects.exclude(drained_at=None).exists()  # an order may still be on its way
    Drain.objects.update(began_at=NOW - timedelta(seconds=6))
    empty = database.run(draining.emptied())
    Dispatcher().drain()
    noted = list(Drain.objects.order_by("pk").values_list("drained_at", flat=True))
    assert None not in noted
    for row in empty:  # another dispatcher saw them empty too
        database.run(draining.note(row))
    assert list(Drain.objects.order_by("pk").values_list("drained_at", flat=True)) == noted
    Drain.objects.filter(node=other).update(open=False, drained_at=None)  # or found it back at work
    database.run(draining.note(empty[1]))
    assert Drain.objects.get(node=other).drained_at is None
    Drain.objects.filter(node=other).update(open=True, drained_at=noted[1])
    assert [Node.objects.get(pk=each.pk).state for each in (node, other)] == ["maintenance", "draining"]
    assert Drain.objects.filter(open=True, ended_at=None).count() == 2  # both go on until the nodes are back
    assert NodeEvent.objects.first().actor is None
