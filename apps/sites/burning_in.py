"""The test of a node in burn-in: what its runner found is written here, and whether that admits it is decided here."""

from __future__ import annotations

from psycopg.types.json import Jsonb

from apps.core.errors import NotAllowed
from apps.core.sql import Plan, Statement
from apps.runner.protocol import BurnInAnswer, BurnInResult

# The step into burn-in that the node is in for: a result of an earlier one is of a machine that was another.
RECORD = """
WITH asked AS (
    SELECT max(e.id) AS id FROM sites_nodeevent e JOIN sites_node n ON n.id = e.node_id
    WHERE n.id = %(node)s AND n.state = 'burn-in' AND e.after = 'burn-in'
), made AS (
    INSERT INTO sites_burnin (step_id, pool_id, passed, findings, gpu, driver, seconds, at)
    SELECT asked.id, p.id, %(passed)s, %(findings)s, %(gpu)s::text, %(driver)s::text, %(seconds)s, clock_timestamp()
    FROM asked, sites_pool p WHERE asked.id = %(test)s AND p.node_id = %(node)s AND p.code = %(pool)s
    ON CONFLICT DO NOTHING RETURNING id, pool_id, at
), point AS (
    SELECT * FROM jsonb_to_recordset(%(levels)s) AS (concurrency int, tokens_per_second float8, first_token_seconds float8, power_w float8)
), speed AS (
    INSERT INTO sites_speedcurve (burn_in_id, model_id, gpu, driver, concurrency, tokens_per_second, first_token_seconds, at)
    SELECT made.id, p.model_id, %(gpu)s::text, %(driver)s::text, point.concurrency, point.tokens_per_second, point.first_token_seconds, made.at
    FROM made JOIN sites_pool p ON p.id = made.pool_id, point ON CONFLICT DO NOTHING
), power AS (
    INSERT INTO sites_powercurve (burn_in_id, model_id, gpu, driver, concurrency, power_w, quality, at)
    SELECT made.id, p.model_id, %(gpu)s::text, %(driver)s::text, watts.concurrency, watts.power_w, %(quality)s::text, made.at
    FROM made JOIN sites_pool p ON p.id = made.pool_id,
        (SELECT concurrency, power_w FROM point UNION ALL SELECT 0, %(idle_w)s::float8) watts
    WHERE watts.power_w IS NOT NULL AND %(quality)s::text <> '' ON CONFLICT DO NOTHING
)
SELECT count(*) AS made FROM made
"""

# Whoever was in burn-in since it was admitted last is asked for its result, by whatever way it comes.
LOCKED = "SELECT id FROM sites_node WHERE id = %(node)s FOR UPDATE"  # no other step comes between the look and the one it is for
DUE = """
SELECT max(id) FILTER (WHERE after = 'burn-in') AS step,
    coalesce(max(id) FILTER (WHERE after = 'burn-in'), 0) > coalesce(max(id) FILTER (WHERE after = 'admitted'), 0) AS due
FROM sites_nodeevent WHERE node_id = %(node)s
"""
RESULTS = """
SELECT p.code, b.passed, b.findings FROM sites_pool p LEFT JOIN sites_burnin b ON b.pool_id = p.id AND b.step_id = %(step)s
WHERE p.node_id = %(node)s ORDER BY p.code
"""


class NotTested(NotAllowed):
    """The node did not pass its burn-in, or has no result. Nothing was written."""

    code, status = "burn_in", 409


def record(node_id: int, result: BurnInResult) -> Plan[BurnInAnswer]:
    params = {
        **result.model_dump(include={"pool", "test", "gpu", "driver", "seconds", "idle_w"}),
        "node": node_id,
        "passed": result.passed and bool(result.findings) and all(each.good for each in result.findings),
        "findings": Jsonb([each.model_dump() for each in result.findings]),
        "levels": Jsonb([each.model_dump() for each in result.levels]),
        "quality": result.quality or "",
    }
    rows = yield Statement(RECORD, params)
    return BurnInAnswer(accepted=rows[0]["made"] == 1)


def check(node_id: int, *, untested: bool) -> Plan[None]:
    """Raises NotTested where a burn-in is due and not passed. `untested`: a node in burn-in that no step of it is known of."""
    yield Statement(LOCKED, {"node": node_id})
    told = (yield Statement(DUE, {"node": node_id}))[0]
    if not (told["due"] or untested):
        return
    rows = yield Statement(RESULTS, {"node": node_id, "step": told["step"] or 0})
    if not rows:
        raise NotTested("It has no pool, so nothing was tested.")
    for row in rows:
        if row["passed"] is None:
            raise NotTested(f"Pool {row['code']} has no burn-in result yet.")
        if not row["passed"]:
            wrong = "; ".join(each["text"] for each in row["findings"] if not each["good"]) or "no finding is good"
            raise NotTested(f"Pool {row['code']} failed its burn-in: {wrong}")
