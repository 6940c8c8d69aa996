"""How the portal sees one node, for the node itself."""

from apps.core.sql import Plan, Statement
from apps.runner.protocol import DrainTold, NodeTold

STANDING = """
SELECT n.code AS node, s.code AS site, n.state, extract(epoch FROM clock_timestamp() - n.heartbeat_at)::float8 AS silent_seconds,
    (SELECT count(*) FROM jobs_job j JOIN sites_pool p ON p.id = j.pool_id
     WHERE p.node_id = n.id AND j.state IN ('dispatched', 'running')) AS running,
    d.purpose, d.reason, extract(epoch FROM d.deadline_at - clock_timestamp())::float8 AS left_seconds, d.drained_at IS NOT NULL AS drained
FROM sites_node n JOIN sites_site s ON s.id = n.site_id LEFT JOIN sites_drain d ON d.node_id = n.id AND d.open
WHERE n.id = %(node)s
"""


def standing(node_id: int) -> Plan[NodeTold]:
    row = (yield Statement(STANDING, {"node": node_id}, alone=True))[0]
    return NodeTold(**row, drain=DrainTold(**row) if row["purpose"] else None)
