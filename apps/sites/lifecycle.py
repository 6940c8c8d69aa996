"""A node's life: which steps there are, and the one statement that takes them.

    pending → burn-in → admitted → draining | maintenance | quarantined → retired

A step is compare-and-set, and its event with actor and reason is part of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from apps.core.errors import PortalError
from apps.core.sql import Plan, Statement
from apps.sites.models import Node

State = Node.State

# What leaves work goes back to it through another test, or through the end of its maintenance.
STEPS: Mapping[str, frozenset[str]] = {
    State.PENDING: frozenset({State.BURN_IN, State.QUARANTINED, State.RETIRED}),
    State.BURN_IN: frozenset({State.ADMITTED, State.MAINTENANCE, State.QUARANTINED, State.RETIRED}),
    State.ADMITTED: frozenset({State.DRAINING, State.QUARANTINED}),
    State.DRAINING: frozenset({State.ADMITTED, State.MAINTENANCE, State.QUARANTINED, State.RETIRED}),
    State.MAINTENANCE: frozenset({State.BURN_IN, State.ADMITTED, State.QUARANTINED, State.RETIRED}),
    State.QUARANTINED: frozenset({State.BURN_IN, State.RETIRED}),
    State.RETIRED: frozenset(),
}

# Whose token is taken. What a node in any other state runs is lost to it within seconds.
HEARD = tuple(state.value for state in (State.BURN_IN, State.ADMITTED, State.DRAINING, State.MAINTENANCE))

# A drain is over when the node is neither draining nor in maintenance.
STEP = """
WITH moved AS (
    UPDATE sites_node SET state = %(after)s, state_at = clock_timestamp() WHERE id = %(node)s AND state = %(before)s RETURNING id
), over AS (
    UPDATE sites_drain d SET ended_at = clock_timestamp(), open = false FROM moved
    WHERE d.node_id = moved.id AND d.open AND %(after)s NOT IN ('draining', 'maintenance')
)
INSERT INTO sites_nodeevent (node_id, before, after, actor_id, reason, at)
SELECT id, %(before)s, %(after)s, %(actor)s::bigint, left(%(reason)s, 200), clock_timestamp() FROM moved
RETURNING id, pg_notify('dispatch', '')
"""


class NoSuchStep(PortalError):
    """The life cycle does not have this step. Nothing was written."""

    code, status = "node_state", 409


class NodeMoved(PortalError):
    """The node was not in the state the caller believed: somebody else was first. Nothing was written."""

    code, status = "node_moved", 409


def step(node_id: int, *, before: str, after: str, reason: str, actor_id: int | None = None) -> Plan[None]:
    """Take one step. `actor_id` is None where the portal takes it by itself. Raises NoSuchStep and NodeMoved."""
    before, after = State(before).value, State(after).value
    if after not in STEPS[before]:
        raise NoSuchStep(f"A node that is {said(before)} cannot become {said(after)}.")
    rows = yield Statement(
        STEP, {"node": node_id, "before": before, "after": after, "reason": reason, "actor": actor_id}
    )
    if not rows:
        raise NodeMoved(f"The node is not {said(before)} any more: look again.")


def said(state: str) -> str:
    """A state as it stands in a sentence."""
    return {State.BURN_IN: "in burn-in", State.MAINTENANCE: "in maintenance"}.get(State(state), state)
