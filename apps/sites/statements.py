"""The sites' one read for placement and one write for heartbeats."""

from typing import Any

from psycopg.types.json import Jsonb

from apps.core.sql import Plan, Row, Statement

_POOLS = """
SELECT p.id, p.code, p.model_id, p.slots, p.ready, p.draining, p.reason, s.code AS site_code, s.name AS site, s.region, s.country,
    s.power_usd_per_mwh, s.grid_gco2e_per_kwh, s.market_gco2e_per_kwh, (1 + s.host_share) * s.pue AS energy_factor,
    extract(epoch FROM clock_timestamp() - n.heartbeat_at)::float8 AS silent_seconds, n.state AS node_state, n.partner_id IS NULL AS trusted,
    p.state = 'parked' AS parked
FROM sites_pool p JOIN sites_node n ON n.id = p.node_id JOIN sites_site s ON s.id = n.site_id
{where}
ORDER BY p.id
"""

ALL_POOLS = _POOLS.format(where="")
POOLS_OF_MODEL = _POOLS.format(where="WHERE p.model_id = {model}")  # `model`: an expression

BEAT = """
WITH beat AS (
    SELECT * FROM jsonb_to_recordset(%(nodes)s) AS (node bigint, claimant text, power_w float8)
), health AS (
    SELECT node, pool, ready, left(reason, 200) AS reason, coalesce(state, '') AS state, fetch_seconds, load_seconds
    FROM jsonb_to_recordset(%(pools)s) AS (
        node bigint, pool text, ready boolean, reason text, state text, fetch_seconds float8, load_seconds float8
    )
), nodes AS (
    UPDATE sites_node SET heartbeat_at = clock_timestamp(), claimant = beat.claimant, power_w = beat.power_w
    FROM beat WHERE sites_node.id = beat.node
), pools AS (
    UPDATE sites_pool p SET ready = health.ready, reason = health.reason, state = health.state,
        fetch_seconds = coalesce(health.fetch_seconds, p.fetch_seconds), load_seconds = coalesce(health.load_seconds, p.load_seconds)
    FROM health
    WHERE p.code = health.pool AND p.node_id = health.node
      AND (p.ready, p.reason, p.state, p.fetch_seconds, p.load_seconds) IS DISTINCT FROM (
        health.ready, health.reason, health.state, coalesce(health.fetch_seconds, p.fetch_seconds), coalesce(health.load_seconds, p.load_seconds)
      )
    RETURNING p.id
)
SELECT count(*) AS changed FROM pools
"""

# What each node's pools are to become, under a name of its own: a node that names it hears nothing new.
WANTED = """
WITH beat AS (
    SELECT * FROM jsonb_to_recordset(%(beats)s) AS (node bigint, claimant text, version text)
), wanted AS (
    SELECT p.node_id AS node, jsonb_agg(jsonb_build_object(
        'pool', p.code,
        'state', p.desired,
        'park_after_seconds', d.park_after_seconds,
        'golden', coalesce((
            SELECT jsonb_agg(jsonb_build_object('body', g.body, 'max_completion_tokens', g.max_completion_tokens) || g.expects ORDER BY g.id)
            FROM sites_goldenprompt g WHERE g.model_id = p.model_id), '[]'),
        'test', CASE WHEN n.state = 'burn-in' THEN (
            SELECT max(e.id) FROM sites_nodeevent e WHERE e.node_id = n.id AND e.after = 'burn-in'
            HAVING NOT EXISTS (SELECT FROM sites_burnin b WHERE b.pool_id = p.id AND b.step_id = max(e.id))
        ) END,
        'weights', CASE WHEN d.weights_url <> '' THEN jsonb_build_object('url', d.weights_url, 'sha256', d.weights_sha256) END
    ) ORDER BY p.code) AS pools
    FROM sites_pool p JOIN sites_node n ON n.id = p.node_id LEFT JOIN sites_deployment d ON d.id = p.deployment_id
    WHERE p.node_id IN (SELECT node FROM beat) GROUP BY p.node_id
)
SELECT beat.node, beat.claimant, md5(pools::text) AS version, pools FROM wanted JOIN beat USING (node)
WHERE md5(pools::text) <> beat.version
"""

DEAF_SECONDS = 3  # a door that has not said for so long that it listens may have missed heartbeats
LISTENING = """
INSERT INTO sites_listening AS l (id) VALUES (1)
ON CONFLICT (id) DO UPDATE SET at = clock_timestamp(), since = CASE
    WHEN l.at < clock_timestamp() - make_interval(secs => %(deaf)s) THEN clock_timestamp() ELSE l.since END
WHERE l.at < clock_timestamp() - interval '0.5 s'
"""


def pools(model_id: int | None = None) -> Plan[list[Row]]:
    """The pools of a model (or all), as placement needs them."""
    if model_id is None:
        return (yield Statement(ALL_POOLS, alone=True))
    return (yield Statement(POOLS_OF_MODEL.format(model="%(model)s"), {"model": model_id}, alone=True))


def beat(*, nodes: list[dict[str, Any]], pools: list[dict[str, Any]]) -> Plan[int]:
    """Record the heartbeats of many nodes at once. Returns how many pools changed their health."""
    rows = yield Statement(BEAT, {"nodes": Jsonb(nodes), "pools": Jsonb(pools)})
    changed: int = rows[0]["changed"]
    return changed


def wanted(beats: list[dict[str, Any]]) -> Plan[list[Row]]:
    """What is to run at these nodes, where that is another version than they named."""
    return (yield Statement(WANTED, {"beats": Jsonb(beats)}, alone=True))


def listen() -> Plan[None]:
    """Say that heartbeats are being taken. After a gap the time since which they are begins anew."""
    yield Statement(LISTENING, {"deaf": DEAF_SECONDS}, alone=True)
