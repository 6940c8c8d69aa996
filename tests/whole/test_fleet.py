"""`make fleet`: real runners with simulated GPUs join a running portal, get work, and leave."""

import json
import signal
import subprocess
import sys

import pytest

from cango_portal.launcher.demo import FLEET_MODEL, FLEET_STEP, Walk
from cango_portal.launcher.processes import spawn
from tests.started import ROOT, Portal

pytestmark = pytest.mark.timeout(600)

NODES = {"sim-no-002", "sim-tx-001", "sim-tx-003"}


def table(portal: Portal) -> list[dict]:
    done = subprocess.run(
        [sys.executable, "-m", "cango_portal.launcher", "manage", "fleet", "--table", "--json"],
        cwd=ROOT, env=portal.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_a_fleet_of_three_joins_works_and_leaves(portal, tmp_path):
    out = tmp_path / "out"
    with out.open("wb") as output:
        fleet = spawn(
            [sys.executable, "-m", "cango_portal.launcher", "fleet"],
            output=output, cwd=ROOT, env={**portal.environment, "N": "3", "SEED": "7"},
        )  # fmt: skip
    try:
        portal.wait_until(
            lambda: "3 nodes at 2 sites are ready" in out.read_text() or fleet.poll() is not None, seconds=160
        )
        assert fleet.poll() is None, out.read_text()
        walk = Walk(portal.base_url)
        assert walk.main(), walk.table()
        step = next(step for step in walk.steps if step.name == FLEET_STEP)
        assert "Simulated Texas" in step.result
        assert "Simulated Nordland" in step.result
        rows = table(portal)
        assert {row["node"] for row in rows} == NODES
        assert all(row["ready"] and row["jobs"] and row["energy_wh"] > 0 and row["power_w"] > 0 for row in rows), rows
        assert sum(row["jobs"] for row in rows) == sum(row["slots"] for row in rows)
        states = portal.sql(
            "SELECT code, state, generation, cardinality(array(SELECT uuid FROM sites_gpu g WHERE g.node_id = n.id)) AS gpus, expected_gpus FROM sites_node n WHERE code LIKE 'sim-%%'"
        )
        assert all(
            (row["state"], row["generation"], row["gpus"]) == ("admitted", 1, row["expected_gpus"]) for row in states
        )
    finally:
        fleet.send_signal(signal.SIGINT)
        assert fleet.wait(60) == 0, out.read_text()
    tested = portal.sql(
        "SELECT n.code, b.passed, count(c.id) AS points FROM sites_burnin b JOIN sites_pool p ON p.id = b.pool_id JOIN sites_node n ON n.id = p.node_id JOIN sites_speedcurve c ON c.burn_in_id = b.id WHERE n.code LIKE 'sim-%%' GROUP BY 1, 2"
    )
    assert {row["code"] for row in tested} == NODES
    assert all(row["passed"] and row["points"] >= 2 for row in tested), tested
    assert not portal.sql(
        "SELECT 1 FROM accounts_auditevent WHERE action = 'node.admitted' AND data ? 'untested' AND target LIKE 'sim-%%'"
    )
    drawn = portal.sql(
        "SELECT n.code, count(DISTINCT m.uuid) AS gpus, sum(m.energy_mj)::float8 AS mj FROM telemetry_minute m JOIN sites_node n ON n.id = m.node_id GROUP BY 1"
    )
    assert {row["code"]: row["gpus"] for row in drawn} == {row["code"]: row["gpus"] for row in states}
    assert all(row["mj"] > 0 for row in drawn), drawn
    listed = {model["id"] for model in portal.client().get("/v1/models").json()["data"]}
    assert FLEET_MODEL not in listed
    assert not any(row["ready"] for row in table(portal))
