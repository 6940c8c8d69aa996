import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cango_portal.launcher.__main__ import main
from cango_portal.launcher.place import Place, Refused, Turn, write_private
from cango_portal.launcher.servers import remove
from tests.started import ROOT, free_port


@pytest.fixture
def place() -> Iterator[Place]:
    var = Path(tempfile.mkdtemp(prefix="cango-", dir="/tmp"))
    yield Place(var, free_port())
    remove(var)


def launch(command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "cango_portal.launcher", command],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=50,
        check=False,
    )


@pytest.fixture
def refusal(place, monkeypatch):
    """What a command says when it refuses, run in this process."""

    def said(command: str, **environment: str) -> str:
        for name, value in ({"PORTAL_VAR": str(place.var), "PORT": str(place.port)} | environment).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(Refused) as refused:
            main([command])
        assert "\n" not in str(refused.value)
        return str(refused.value)

    return said


def test_a_taken_port_is_one_sentence_and_nothing_is_left(place):
    with socket.socket() as other:
        other.bind(("127.0.0.1", place.port))
        other.listen()
        done = launch("run", PORTAL_VAR=str(place.var), PORT=str(place.port))
    assert done.returncode == 1
    assert done.stderr == f"Port {place.port} is taken by another program. Use another one: make run PORT=8001\n"
    assert done.stdout == ""
    assert not (place.var / "postgres").exists()


def test_a_port_that_is_no_port(refusal):
    assert "must be a number" in refusal("run", PORT="eighty")


def test_a_path_too_long_for_a_socket(refusal):
    assert "too long" in refusal("run", PORTAL_VAR="/tmp/" + "long" * 30)
    assert not Path("/tmp/" + "long" * 30).exists()


def test_a_directory_that_cannot_be_written(place, refusal):
    (place.var / "file").write_text("in the way")
    assert "cannot be written" in refusal("run", PORTAL_VAR=str(place.var / "file" / "var"))


def test_too_little_room(place, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 10**8, 10**8))
    with pytest.raises(Refused, match="Only 95 MB are free"):
        place.check_room()


def test_a_full_disk_while_writing(place, monkeypatch):
    def full(*args: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(Refused, match="is full"):
        place.prepare()


def test_a_second_run_names_the_first(place, refusal):
    place.prepare()
    turn = Turn(place)
    turn.take(address=place.address)
    said = refusal("run", PORT=str(free_port()))
    assert place.address in said
    assert str(os.getpid()) in said
    turn.give()
    assert turn.holder() is None


def test_a_killed_holder_holds_nothing(place):
    place.prepare()
    script = (
        "import sys, time; from pathlib import Path; from cango_portal.launcher.place import Place, Turn;"
        "turn = Turn(Place(Path(sys.argv[1]), 1)); turn.take(address='here'); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(place.var)], cwd=ROOT, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(Refused, match="at here"):
            Turn(place).take(address=place.address)
        other.send_signal(signal.SIGKILL)
    turn = Turn(place)
    turn.take(address=place.address)
    turn.give()


def test_stop_and_demo_without_a_portal(place, refusal, capsys):
    assert "No portal is running" in refusal("demo")
    assert main(["stop"]) == 0
    assert "No portal runs" in capsys.readouterr().out


def test_clean_asks_and_removes_only_a_portals_directory(place, refusal, monkeypatch):
    (place.var / "letters").write_text("mine")
    assert "does not look like" in refusal("clean")
    (place.var / "run.lock").touch()

    def nobody(question: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", nobody)
    assert main(["clean"]) == 0
    monkeypatch.setattr("builtins.input", lambda question: "no")
    assert main(["clean"]) == 0
    assert (place.var / "letters").exists()
    monkeypatch.setattr("builtins.input", lambda question: "yes")
    assert main(["clean"]) == 0
    assert not place.var.exists()
    place.var.mkdir()  # the fixture removes it


def test_private_files_are_private(place):
    path = place.var / "secret"
    write_private(path, "one")
    write_private(path, "two")
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o600
