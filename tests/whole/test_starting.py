"""Starts and ends of `make run`: interrupted, killed, doubled, stopped."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cango_portal.launcher.servers import remove
from tests.launcher.test_processes import alive
from tests.started import ROOT, Portal

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def var() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="cango-", dir="/tmp"))
    made.chmod(0o711)
    yield made
    made.with_name(f"{made.name}.out").unlink(missing_ok=True)
    remove(made)


def of(var: Path) -> list[int]:
    """Every living process that knows this directory, by its environment or its arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            about = (entry / "environ").read_bytes() + b"\0" + (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(var) in about and alive(int(entry.name)):
            found.append(int(entry.name))
    return found


def test_interrupted_anywhere_the_next_start_works(var):
    """Ctrl-C while servers start, kill -9 while models are made, kill -9 when all runs; then a whole start."""
    for sign, number in (
        ("Starting PostgreSQL", signal.SIGINT),
        ("Preparing database", signal.SIGKILL),
        ("Starting web", signal.SIGKILL),
    ):
        broken = Portal(var)
        broken.wait_until(lambda broken=broken, sign=sign: sign in broken.printed, seconds=60)
        broken.launcher.send_signal(number)
        broken.launcher.wait(60)
        assert "Traceback" not in broken.printed
        broken.wait_until(lambda: not of(var), seconds=30)
    portal = Portal(var)
    try:
        portal.wait_ready()
        assert not [line for line in portal.printed.splitlines() if "did not succeed" in line], portal.story()
    finally:
        assert portal.stop() == 0
    assert not of(var)


def test_a_second_run_and_stop_from_another_terminal(var):
    first = Portal(var)
    try:
        first.wait_ready()
        said = launch("run", first)
        assert said.returncode == 1
        assert said.stderr.startswith(f"A portal runs here already, at {first.base_url}")
        assert said.stderr.count("\n") == 1
        stopped = launch("stop", first)
        assert stopped.returncode == 0, stopped.stderr
        assert f"{first.base_url} was stopped" in stopped.stdout
        assert first.launcher.wait(30) == 0
    finally:
        first.stop()
    assert not of(var)


def launch(command: str, portal: Portal) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "cango_portal.launcher", command],
        cwd=ROOT,
        env=portal.environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
