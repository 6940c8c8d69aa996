"""What `deploy/` holds is true: the Containerfile's steps make a runner that works, the unit waits as long as it stops."""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from apps.runner import attempts, process
from apps.runner.engines import command as commands
from tests.runner import builder

ROOT = Path(__file__).parents[2]
CONTAINERFILE = ROOT / "deploy" / "runner.Containerfile"


def steps() -> list[tuple[str, str]]:
    """(instruction, the rest), without comments."""
    lines = [line for line in CONTAINERFILE.read_text().splitlines() if line and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


def unit() -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(strict=True, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(ROOT / "deploy" / "cango-runner.service")
    return {name: dict(section) for name, section in parser.items()}


def test_the_unit_waits_until_the_runner_has_stopped_and_starts_it_again() -> None:
    service = unit()["Service"]
    attempting = attempts.FINISH_SECONDS + attempts.END_SECONDS
    stopping = attempting + process.REPORT_SECONDS + process.TELEMETRY_SECONDS + commands.END_SECONDS
    assert stopping < int(service["TimeoutStopSec"]) <= 2 * stopping
    assert (service["KillSignal"], service["KillMode"], service["Restart"]) == ("SIGTERM", "mixed", "always")
    assert service["RestartPreventExitStatus"] == "2"  # what the command ends with where its file is bad
    assert service["ExecStart"].split()[1:] == ["run", "--config", "/etc/cango/runner.toml"]
    assert (service["User"], service["NoNewPrivileges"], service["ProtectSystem"]) == ("cango", "yes", "strict")


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here: the unit was not verified by it"
)
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    text = (ROOT / "deploy" / "cango-runner.service").read_text()
    path = tmp_path / "cango-runner.service"
    path.write_text(
        re.sub(r"^ExecStart=.*$", "ExecStart=/bin/true", text, flags=re.M).replace("User=cango\nGroup=cango\n", "")
    )
    done = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False)
    assert "Unknown" not in done.stderr, done.stderr


def test_what_the_containerfile_copies_is_here_and_it_runs_as_nobody_special() -> None:
    given = steps()
    for _, rest in [step for step in given if step[0] == "COPY"]:
        assert (ROOT / rest.split()[0]).exists(), rest
    assert ("USER", "cango") in given
    entry = next(json.loads(rest) for name, rest in given if name == "ENTRYPOINT")
    assert entry == ["/opt/cango/bin/cango-runner"]


def test_the_nodes_lock_has_the_versions_of_the_portals() -> None:
    def pinned(name: str) -> dict[str, str]:
        found = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(), flags=re.M)
        return dict(found)

    mine, whole = pinned("deploy/runner.lock"), pinned("requirements.lock")
    assert mine["celery"] == whole["celery"]
    assert {name: version for name, version in mine.items() if name in whole and whole[name] != version} == {}
    assert not {"django", "psycopg"} & set(mine)


@pytest.mark.whole
@pytest.mark.timeout(300)  # it installs the runner's packages
def test_the_containerfiles_steps_make_a_runner_that_works(tmp_path: Path) -> None:
    """In a clean environment below a prefix; `useradd` is left out. The image itself is built only where a builder runs."""
    prefix = tmp_path / "root"
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "VIRTUAL", "DJANGO", "PORTAL"))
    }
    environment["PATH"] = f"{Path(sys.executable).resolve().parent}:/usr/bin:/bin"
    for name, rest in steps():
        if name == "COPY":
            source, target = (ROOT / rest.split()[0], prefix / rest.split()[1].lstrip("/"))
            target.parent.mkdir(parents=True, exist_ok=True)
            kept = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, target, ignore=kept) if source.is_dir() else shutil.copy(source, target)
        elif name == "RUN" and not rest.startswith("useradd"):
            there = rest.replace("/opt/", f"{prefix}/opt/")
            done = subprocess.run(
                ["sh", "-ec", there], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{there}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    runner = [str(prefix / "opt/cango/bin/cango-runner")]

    def ran(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [*runner, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    assert ran("run", "--config", "none.toml") == (2, "none.toml cannot be read: No such file or directory.\n")
    pool = '[[pools]]\ncode = "a"\nkind = "chat"\nengine = "url"\nurl = "http://127.0.0.1:1/v1"\n'
    urls = 'portal_url = "http://127.0.0.1:1"\nredis_url = "redis://127.0.0.1:1"\nbroker_url = "redis://127.0.0.1:1"\n'
    (tmp_path / "runner.toml").write_text(f'{urls}node_token = "t"\nspool = "spool"\n{pool}')
    code, said = ran("doctor", "--config", "runner.toml")
    assert (code, "BAD  portal http://127.0.0.1:1: does not answer" in said) == (1, True), said
    code, said = ran("status", "--config", "runner.toml")
    assert (code, "not running with the spool" in said) == (1, True), said
    packages = subprocess.run(
        [str(prefix / "opt/cango/bin/python"), "-m", "pip", "list", "--format", "freeze"],
        env=environment, capture_output=True, text=True, check=True,
    ).stdout.lower()  # fmt: skip
    assert "cango-portal==" in packages
    assert "django" not in packages


@pytest.mark.whole
@pytest.mark.builder
@pytest.mark.timeout(1200)
def test_the_image_is_built_where_a_builder_is() -> None:
    found = builder.find()
    if found is None:
        pytest.skip(builder.NONE)
    subprocess.run(
        [found, "build", "-f", str(CONTAINERFILE), "-t", "cango-runner:test", str(ROOT)], check=True, timeout=900
    )
    done = subprocess.run(
        [found, "run", "--rm", "cango-runner:test", "--help"], capture_output=True, text=True, check=True
    )
    assert "cango-runner" in done.stdout
