"""The bootstrap's decisions; what it installs is seen wherever these tests run."""

import builtins
import subprocess
from pathlib import Path

import pytest

from cango_portal.launcher import chromium, debian, environment


class Commands:
    """Stands in for programs; `failing` names those that do not succeed."""

    def __init__(self, *failing: str) -> None:
        self.failing = failing
        self.ran: list[str] = []

    def __call__(self, command, **options):
        line = " ".join(map(str, command))
        self.ran.append(line)
        if "-m venv" in line:
            (environment.VENV / "bin").mkdir(parents=True)
            environment.PYTHON.touch()
        failed = any(part in line for part in self.failing)
        return subprocess.CompletedProcess(command, int(failed), "", "No usable temporary directory")


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(environment, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(environment, "PYTHON", tmp_path / ".venv" / "bin" / "python")
    monkeypatch.setattr(environment, "MARK", tmp_path / ".venv" / ".installing")
    monkeypatch.setattr("sys.argv", ["environment.py"])
    (tmp_path / "requirements.lock").write_text("one")
    return tmp_path


def make(monkeypatch, *failing: str) -> list[str]:
    commands = Commands(*failing)
    monkeypatch.setattr(subprocess, "run", commands)
    environment.main()
    return commands.ran


def test_the_second_time_does_nothing_until_the_lock_changes(root, monkeypatch):
    assert len(make(monkeypatch)) == 3  # the folder, uv, the packages
    assert make(monkeypatch) == []
    (root / "requirements.lock").write_text("two")
    assert any("requirements.lock" in line for line in make(monkeypatch))


def test_an_interrupted_installation_begins_anew(root, monkeypatch):
    make(monkeypatch)
    (root / ".venv" / "half").touch()
    environment.MARK.touch()
    assert any("-m venv" in line for line in make(monkeypatch))
    assert not (root / ".venv" / "half").exists()
    assert not environment.MARK.exists()


def test_without_uv_pip_does_it(root, monkeypatch, capsys):
    ran = make(monkeypatch, "requirements-uv.lock")
    assert "-m pip install --quiet --compile --no-deps --require-hashes" in ran[-1]
    assert "pip does the same" in capsys.readouterr().out


def test_a_uv_that_fails_is_followed_by_pip(root, monkeypatch):
    ran = make(monkeypatch, "bin/uv")
    assert ["bin/uv" in line for line in ran[-3:]] == [True, True, False]


def test_packages_that_cannot_be_had_leave_no_stamp(root, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        make(monkeypatch, "requirements.lock")
    assert "could not be installed" in capsys.readouterr().err
    assert environment.MARK.exists()


def test_a_missing_venv_module_is_named(root, monkeypatch, capsys):
    importing = builtins.__import__

    def without_ensurepip(name, *rest):
        if name == "ensurepip":
            raise ImportError
        return importing(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_ensurepip)
    with pytest.raises(SystemExit):
        make(monkeypatch)
    assert capsys.readouterr().err.endswith("apt-get install python3-venv\n")


def test_an_old_python_is_named(root, monkeypatch, capsys):
    monkeypatch.setattr(environment.sys, "version_info", (3, 9, 2))
    with pytest.raises(SystemExit):
        make(monkeypatch)
    assert "this is 3.9" in capsys.readouterr().err


def test_left_out_browser_tests_are_said(monkeypatch, capsys):
    monkeypatch.setattr(chromium, "find", lambda: None)
    monkeypatch.setattr(debian.shutil, "which", lambda name: None)
    assert chromium.main() == 1
    assert "(marker browser) are left out: Chromium is not installed" in capsys.readouterr().out


def test_only_root_may_install_it(monkeypatch, capsys):
    monkeypatch.setattr(chromium, "find", lambda: None)
    monkeypatch.setattr(debian.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(debian.os, "geteuid", lambda: 1000)
    assert chromium.main() == 1
    assert "only root may install it" in capsys.readouterr().out


def test_the_locks_carry_hashes_and_no_host():
    top = Path(__file__).parents[2]
    for name in ("requirements.lock", "requirements-test.lock", "requirements-uv.lock", "deploy/runner.lock"):
        text = (top / name).read_text()
        assert "--hash=sha256:" in text
        assert "://" not in text
