"""The main job through real processes, as `make demo` walks it and as the printed command sends it."""

import json
import re
import subprocess
import sys

from cango_portal.launcher import first_work
from cango_portal.launcher.demo import Walk
from tests.started import ROOT


def test_the_first_work_was_done_and_its_cost_told(portal):
    for what, model in (("chat", first_work.CHAT_MODEL), ("embedding", first_work.EMBEDDING_MODEL)):
        line = re.search(
            rf"^  {what} +{re.escape(model)} +cost (\$\S+) +energy (.+?)   site Georgia 1", portal.printed, re.M
        )
        assert line, portal.printed
        assert line[1] > "$0.000000"
        assert line[2].endswith("(estimated)")


def test_the_walk_of_make_demo(portal):
    walk = Walk(portal.base_url)
    assert walk.main(), walk.table()
    assert walk.jobs
    assert portal.sql("SELECT count(*) AS n FROM ledger_hold WHERE state = 'open'") == [{"n": 0}]


def test_make_demo_prints_a_table(portal):
    done = subprocess.run(
        [sys.executable, "-m", "cango_portal.launcher", "demo"],
        cwd=ROOT,
        env=portal.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sum of charges" in done.stdout


def test_the_printed_curl_command(portal):
    command = first_work.curl(portal.demo)
    assert command in portal.printed
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["choices"][0]["message"]["content"].strip()


def test_a_management_command_meets_the_same_servers(portal):
    done = subprocess.run(
        [sys.executable, "-m", "cango_portal.launcher", "manage", "shell", "-c", "from apps.jobs.models import Job; print(Job.objects.exists())"],
        cwd=ROOT,
        env=portal.environment,
        capture_output=True,
        text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.strip().endswith("True")


def managed(portal, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "cango_portal.launcher", "manage", *arguments],
        cwd=ROOT,
        env=portal.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_ledger_jobs_and_stripe_agree_after_the_demo_and_whatever_ran_before_it(portal):
    """In a whole run the kills of `test_kills.py` came before."""
    report = managed(portal, "reconcile", "--json")
    assert report["differences"] == 0, report["items"]
    assert report["checked"]["stripe_transactions"] > 0
    assert managed(portal, "audit_ledger", "--json")["violations"] == 0
