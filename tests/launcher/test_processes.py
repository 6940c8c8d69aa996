import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cango_portal.launcher.processes import Supervisor, read
from tests.started import ROOT

pytestmark = pytest.mark.whole
SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"]  # fmt: skip
PARENT = [sys.executable, "-c", "import subprocess, time; print(subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"]  # fmt: skip


def until(happened: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def make(tmp_path):
    made: list[Supervisor] = []
    said: list[str] = []

    def supervisor(**commands: list[str]) -> tuple[Supervisor, list[str]]:
        one = Supervisor(commands, dict(os.environ), ROOT, tmp_path / "log", tmp_path / "processes.json", said.append)
        made.append(one)
        one.start()
        return one, said

    yield supervisor
    for one in made:
        one.stop()


def pid_of(supervisor: Supervisor, name: str) -> int:
    popen = supervisor.processes[name].popen
    assert popen is not None
    return popen.pid


def test_a_procfile_is_read_without_a_shell(tmp_path):
    (tmp_path / "Procfile").write_text('# comment\nweb: serve --port "$PORT" --dir "$DIR/x"\n\nbeat: tick\n')
    commands = read(tmp_path / "Procfile", {"PORT": "8000", "DIR": "/a place; rm"})
    assert commands == {"web": ["serve", "--port", "8000", "--dir", "/a place; rm/x"], "beat": ["tick"]}


def test_our_procfile_names_the_five_processes():
    assert list(read(ROOT / "Procfile", {})) == ["web", "worker", "beat", "dispatcher", "runner"]


def test_what_dies_is_started_again_and_said_in_one_line(make, tmp_path):
    supervisor, said = make(web=SLEEP)
    first = pid_of(supervisor, "web")
    os.kill(first, signal.SIGKILL)
    until(lambda: supervisor.tick() or (supervisor.processes["web"].popen and pid_of(supervisor, "web") != first))
    assert len(said) == 1
    assert "web was killed by SIGKILL; starting it again in 0.5 s" in said[0]
    assert str(pid_of(supervisor, "web")) in (tmp_path / "processes.json").read_text()


def test_what_dies_again_waits_longer(make):
    supervisor, said = make(web=[sys.executable, "-c", "raise SystemExit(3)"])
    until(lambda: supervisor.tick() or len(said) == 2)
    assert [line.split(";")[0] for line in said] == ["web ended with status 3"] * 2
    assert "in 1 s" in said[1]


def test_stop_leaves_nothing_not_even_the_stubborn(make, tmp_path, monkeypatch):
    monkeypatch.setattr("cango_portal.launcher.processes.STOP_SECONDS", 0.5)
    supervisor, _ = make(web=SLEEP, worker=STUBBORN, runner=PARENT)
    until(lambda: (tmp_path / "log" / "worker.log").read_text() and (tmp_path / "log" / "runner.log").read_text())
    engine = int((tmp_path / "log" / "runner.log").read_text())
    pids = [pid_of(supervisor, name) for name in ("web", "worker", "runner")]
    supervisor.stop()
    until(lambda: not any(alive(pid) for pid in [*pids, engine]))
    assert not (tmp_path / "processes.json").exists()


def test_nothing_outlives_a_killed_launcher(tmp_path):
    script = (
        "import os, sys, time; from pathlib import Path; from cango_portal.launcher.processes import Supervisor;"
        "d = Path(sys.argv[1]); command = [sys.executable, '-c', 'import time; time.sleep(600)'];"
        "s = Supervisor({'web': command, 'worker': command}, dict(os.environ), d, d / 'log', d / 'processes.json');"
        "s.start(); print(*[p.popen.pid for p in s.processes.values()], flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE) as launcher:
        assert launcher.stdout is not None
        pids = [int(pid) for pid in launcher.stdout.readline().split()]
        assert len(pids) == 2
        assert all(alive(pid) for pid in pids)
        launcher.kill()
    until(lambda: not any(alive(pid) for pid in pids))
