"""The bench of the door still runs: its engine, its clients, a portal of its own, and the table."""

import json
import sys
from pathlib import Path
from subprocess import run

import pytest

from cango_portal.bench.gateway import table
from cango_portal.bench.gateway.engine import TOKENS
from cango_portal.bench.gateway.load import Heard

ROOT = Path(__file__).resolve().parents[2]


def test_goals_are_judged_by_the_medians_of_the_rounds() -> None:
    result = table.Result(seconds=1, rounds=3)
    for latency, requests in ((0.001, 900), (0.002, 500), (0.009, 100)):
        for variant, share in (("engine", 4), ("portal", 1), ("bare", 1.25)):
            heard = Heard(requests=int(requests * share), elapsed_seconds=1.0, latencies=[latency / share])
            heard.cpu_seconds = {"web": requests * share / 1000}
            result.add(variant, 64, False, heard)
    lines = result.lines(64, False)

    assert "  portal                        500          1.50 / 1.50" in lines
    assert result.of("portal", 64, False).cpu_us == {"web": 1000}
    assert "requests/s at 64, of the bare path                        0.80   goal ≥ 0.6   reached" in result.goals()
    assert "requests/s at 64, × LiteLLM (master key)                     –   goal ≥ 5   not measured" in result.goals()


@pytest.mark.whole
@pytest.mark.timeout(180)
def test_a_short_run(tmp_path: Path) -> None:
    report = tmp_path / "gateway.json"
    short = ["--seconds", "1", "--rounds", "1", "--concurrency", "2", "--only", "portal,limit"]
    done = run(
        [sys.executable, "-m", "cango_portal.bench.gateway", *short, "--json", str(report)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=170,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(report.read_text())
    assert {(cell["variant"], cell["stream"]) for cell in found["cells"]} == {
        (variant, stream) for variant in ("engine", "portal", "limit") for stream in (False, True)
    }
    assert all(cell["failures"] == 0 for cell in found["cells"]), done.stdout
    assert found["books"]["violations"] == 0
    assert sum(cell["tokens_per_second"] > TOKENS for cell in found["cells"]) == 3
