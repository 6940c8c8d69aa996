"""Taking a node out of work and putting it back: a drain, a maintenance now, one that is announced."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction

from apps.accounts import audit
from apps.accounts.models import User
from apps.core.errors import InvalidRequest
from apps.core.sql import Plan, Row, Statement
from apps.sites import burning_in, lifecycle
from apps.sites.lifecycle import NodeMoved
from apps.sites.models import Drain, Node
from cango_portal import database

State = Node.State

OPEN = """
INSERT INTO sites_drain (node_id, purpose, reason, actor_id, starts_at, deadline_at, began_at, open)
SELECT %(node)s, %(purpose)s, left(%(reason)s, 200), %(actor)s::bigint, clock.now, clock.now + make_interval(secs => %(seconds)s), clock.now, true
FROM (SELECT clock_timestamp() AS now) clock
RETURNING id
"""
# A node that is not at work when its maintenance comes is opened as it is; its row waits until it works, or is called off.
DUE = """
SELECT d.id, d.node_id, d.reason, d.actor_id FROM sites_drain d JOIN sites_node n ON n.id = d.node_id
WHERE d.began_at IS NULL AND d.ended_at IS NULL AND d.starts_at <= clock_timestamp() AND n.state = 'admitted'
ORDER BY d.starts_at, d.id
"""
BEGIN = "UPDATE sites_drain SET began_at = clock_timestamp(), open = true WHERE id = %(id)s AND began_at IS NULL AND ended_at IS NULL RETURNING id"


def move(*, node: Node, after: str, reason: str, actor: User, untested: bool = False) -> None:
    """A step of staff's, with its trace in the audit trail. `untested`: admitted whatever its burn-in found.

    Raises NoSuchStep, NodeMoved and NotTested.
    """
    with transaction.atomic():
        told: dict[str, Any] = {}
        if after == State.ADMITTED and untested:
            told = {"untested": True}
        elif after == State.ADMITTED:
            database.run(burning_in.check(node.pk, untested=node.state == State.BURN_IN))
        _move(node, after, reason, actor, **told)


def _move(node: Node, after: str, reason: str, actor: User, **data: Any) -> None:
    database.run(lifecycle.step(node.pk, before=node.state, after=after, reason=reason, actor_id=actor.pk))
    audit.record(
        organization=None,
        actor=actor,
        action=f"node.{after.replace('-', '_')}",
        target=node.code,
        reason=reason,
        data={"before": str(node.state), **data},
    )
    node.state = after


def drain(*, node: Node, purpose: str, seconds: float, reason: str, actor: User) -> None:
    """No new work from now on; what still runs after `seconds` is taken from it. Raises NoSuchStep and NodeMoved."""
    with transaction.atomic():
        _move(node, State.DRAINING, reason, actor, purpose=str(purpose), seconds=seconds)
        params = {
            "node": node.pk,
            "purpose": str(purpose),
            "reason": reason,
            "actor": actor.pk,
            "seconds": float(seconds),
        }
        database.run(_one(OPEN, params))


HELD = "SELECT state FROM sites_node WHERE id = %(node)s FOR UPDATE"


def ask(node_id: int, *, seconds: float, reason: str) -> Plan[None]:
    """The machine itself asks, for who stands before it. One that drains already goes on as it does. Raises NoSuchStep."""
    before = (yield from _one(HELD, {"node": node_id}))["state"]
    if before == State.DRAINING:
        return
    told = f"At the machine: {reason}"
    yield from lifecycle.step(node_id, before=before, after=State.DRAINING, reason=told)
    params = {
        "node": node_id,
        "purpose": Drain.Purpose.DRAIN.value,
        "reason": told,
        "actor": None,
        "seconds": float(seconds),
    }
    yield from _one(OPEN, params)


def announce(
    *,
    node: Node,
    starts_at: datetime,
    deadline_at: datetime,
    ends_at: datetime | None,
    reason: str,
    actor: User,
    now: datetime,
) -> Drain:
    """Tell customers of a maintenance that lies ahead: the list of sites shows it, and it begins by itself."""
    if starts_at <= now:
        raise InvalidRequest("An announced maintenance lies ahead.", param="starts_at")
    if deadline_at < starts_at or (ends_at is not None and ends_at < deadline_at):
        raise InvalidRequest("It starts, then its work must be gone, then it ends.", param="deadline_at")
    if node.state == State.RETIRED:
        raise lifecycle.NoSuchStep("A node that is retired has no maintenance.")
    with transaction.atomic():
        made = Drain.objects.create(
            node=node,
            purpose=Drain.Purpose.MAINTENANCE,
            reason=reason,
            actor=actor,
            announced_at=now,
            starts_at=starts_at,
            deadline_at=deadline_at,
            ends_at=ends_at,
        )
        audit.record(
            organization=None,
            actor=actor,
            action="node.maintenance_announced",
            target=node.code,
            reason=reason,
            data={"starts_at": starts_at.isoformat(), "deadline_at": deadline_at.isoformat()},
        )
    return made


def call_off(*, drain: Drain, reason: str, actor: User, now: datetime) -> None:
    """An announced maintenance that has not begun does not take place. Raises NodeMoved where it has, or is off already."""
    with transaction.atomic():
        if not Drain.objects.filter(pk=drain.pk, began_at=None, ended_at=None).update(ended_at=now):
            raise NodeMoved("It has begun, or was called off already.")
        audit.record(
            organization=None, actor=actor, action="node.maintenance_called_off", target=drain.node.code, reason=reason
        )


def due() -> Plan[list[Row]]:
    """Announced maintenance whose time has come, at nodes that are at work."""
    return (yield Statement(DUE, alone=True))


def begin(row: Row) -> Plan[None]:
    """Begin one of `due`. Raises NodeMoved where another process or a person was first."""
    if not (yield Statement(BEGIN, {"id": row["id"]})):
        raise NodeMoved("It has begun already.")
    yield from lifecycle.step(
        row["node_id"], before=State.ADMITTED, after=State.DRAINING, reason=row["reason"], actor_id=row["actor_id"]
    )


def _one(sql: str, params: dict[str, Any]) -> Plan[Row]:
    return (yield Statement(sql, params))[0]
