"""Many nodes silent at once: the fault is likely the portal's or the network's, and the world is not run again for it.

While that holds, an attempt at a silent node is kept, lease or not: a node that is heard again extends it, and what it
reports is taken. Attempts that a node which is heard does not know any more are lost as ever.
"""

import logging

from apps.core.sql import Plan, Row, Statement
from apps.scheduling.placement import SUSPECT_SECONDS
from apps.sites import lifecycle

log = logging.getLogger(__name__)

MASS_SHARE = 0.2  # of the running leases (reference: sites, mass-loss guard)
MASS_NODES = 3  # fewer are silent by themselves: one node of two is no outage of ours

# Nodes whose token staff took from them are silent by intent.
MEASURE = """
WITH held AS (
    SELECT n.id, count(*) AS leases, bool_or(j.lease_expires_at < clock_timestamp()) AS expired,
        n.heartbeat_at < clock_timestamp() - make_interval(secs => %(suspect)s) AS silent
    FROM jobs_job j JOIN sites_pool p ON p.id = j.pool_id JOIN sites_node n ON n.id = p.node_id
    WHERE j.state IN ('dispatched', 'running') AND n.state = ANY(%(heard)s)
    GROUP BY n.id
)
SELECT count(*) FILTER (WHERE silent)::int AS nodes, coalesce(sum(leases) FILTER (WHERE silent), 0)::int AS leases,
    coalesce(sum(leases), 0)::int AS running, coalesce(bool_or(expired) FILTER (WHERE silent), false) AS expired,
    (SELECT released_at IS NOT NULL FROM sites_freeze WHERE open) AS released
FROM held
"""
BEGIN = """
INSERT INTO sites_freeze (nodes, leases, running, began_at, open) VALUES (%(nodes)s, %(leases)s, %(running)s, clock_timestamp(), true)
ON CONFLICT DO NOTHING RETURNING id
"""
END = "UPDATE sites_freeze SET open = false, ended_at = clock_timestamp() WHERE open RETURNING id"


def frozen() -> Plan[bool]:
    """Are the leases of silent nodes kept now? Begins and ends a freeze where that is due.

    It ends when fewer than MASS_NODES of the silent still hold a lease: they were heard again, or staff released them and
    the leases are lost.
    """
    found = (yield Statement(MEASURE, {"suspect": SUSPECT_SECONDS, "heard": list(lifecycle.HEARD)}))[0]
    told = {name: found[name] for name in ("nodes", "leases", "running")}
    if found["released"] is None:
        if not mass(found):
            return False
        if (yield Statement(BEGIN, told)):
            log.error("many nodes fell silent at once: their leases are kept", extra=told)
        return True
    if found["nodes"] < MASS_NODES:
        if (yield Statement(END)):
            log.warning("the silent nodes are back, or their leases gone: leases are lost as ever", extra=told)
        return False
    return not found["released"]


def mass(found: Row) -> bool:
    """Some lease of a silent node ran out, and so many others are about to."""
    many: bool = found["nodes"] >= MASS_NODES and found["leases"] > MASS_SHARE * found["running"]
    return many and found["expired"]
