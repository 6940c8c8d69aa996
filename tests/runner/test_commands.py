"""`cango-runner status` and `drain`: what they print, how they end, what they change."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

import tests.engine
from apps.runner import __main__ as cli
from apps.runner import config, leaving, status
from apps.runner.process import Runner
from apps.runner.protocol import DrainTold, NodeTold, PoolHealth
from tests.runner.conftest import POOL
from tests.runner.portal import FakePortal
from tests.runner.test_process import settings, toml


@pytest.fixture
def given(tmp_path: Path) -> config.Configuration:
    pool = {"code": POOL, "kind": "chat", "slots": 4, "engine": "url", "url": "http://127.0.0.1:1/v1", "model": "m"}
    fields = {"portal_url": "http://portal", "redis_url": "redis://r", "broker_url": "redis://r", "node_token": "t"}
    (tmp_path / "spool").mkdir()
    return config.Configuration.model_validate({**fields, "spool": tmp_path / "spool", "pools": [pool]})


def standing(**fields: Any) -> status.Status:
    """Negative times are seconds ago."""
    fields = {
        name: time.time() + each if isinstance(each, float) and each < 0 else each for name, each in fields.items()
    }
    health = PoolHealth(pool=POOL, ready=True, running=3).model_dump()
    pool = status.PoolStatus(**health, kind="chat", engine="url", model="m", slots=4)
    gpu = status.GPUStatus(uuid="GPU-0", name="NVIDIA H200", power_w=412.4)
    told = {
        "pid": os.getpid(), "claimant": "c", "started_at": time.time() - 600, "at": time.time(), "stopping": False,
        "portal_at": time.time() - 1, "attempts": 3, "reports": 2, "pools": [pool], "gpus": [gpu],
    }  # fmt: skip
    return status.Status.model_validate({**told, **fields})


def shown(given: config.Configuration, *, as_json: bool = False) -> tuple[int, str]:
    lines: list[str] = []
    code = status.show(given, as_json=as_json, put=lines.append)
    return code, "\n".join(lines)


def test_status_says_what_runs(given: config.Configuration) -> None:
    status.write(given.spool, standing())
    code, text = shown(given)
    assert code == 0
    assert f"running, process {os.getpid()}, for 10 min" in text
    assert "http://portal answered 1 s ago" in text
    assert f"3 running; 2 reports wait for the portal in {given.spool}" in text
    assert f"{POOL}: ready, 3 of 4 slots busy; url chat m" in text
    assert "GPU-0: NVIDIA H200, 412 W, unknown, well" in text  # no reading is never zero
    code, text = shown(given, as_json=True)
    told = json.loads(text)
    assert (code, told["state"], told["good"], told["status"]["gpus"][0]["temperature_c"]) == (0, "running", True, None)
    assert (given.spool / "status").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"pid": 2**22 + 1}, "not running with the spool"),  # it was killed
        ({"at": -60.0}, "hangs"),
        ({"portal_at": None}, "has not answered yet"),
        ({"portal_at": -300.0}, "answered 5 min ago"),
        ({"stopping": True}, "stopping"),
        ({"pools": []}, "running"),
        (
            {
                "pools": [
                    status.PoolStatus(
                        pool=POOL,
                        ready=False,
                        state="loading",
                        reason="starting",
                        kind="chat",
                        engine="llama",
                        model="m",
                        slots=4,
                    )
                ]
            },
            f"{POOL}: not ready (loading), 0 of 4 slots busy; llama chat m: starting",
        ),
        ({"gpus": []}, "none here, or none that tells"),
    ],
)
def test_status_ends_with_1_where_it_does_not_work(
    given: config.Configuration, fields: dict[str, Any], words: str
) -> None:
    status.write(given.spool, standing(**fields))
    code, text = shown(given)
    assert (code, words in text) == (0 if "gpus" in fields else 1, True), text


def test_status_without_a_runner(given: config.Configuration) -> None:
    assert shown(given) == (1, f"runner    not running with the spool {given.spool}. Start it: cango-runner run")


@pytest.mark.whole
async def test_a_runner_notes_how_it_stands_and_takes_the_note_away(
    portal: FakePortal, engine: tests.engine.Running, tmp_path: Path, valkey: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.runner.test_execution import until

    monkeypatch.setattr("apps.runner.process.NOTE_SECONDS", 0.05)
    made = Runner(config.Configuration.model_validate(settings(portal, engine, tmp_path / "spool")))
    await made.start()
    try:
        await until(lambda: shown(made.configuration)[0] == 0)
    finally:
        await made.stop(made.stopping)
    assert shown(made.configuration)[0] == 1


class Books:
    """The portal's answers to `drain` and the looks after it."""

    def __init__(self, portal: FakePortal, *told: NodeTold | tuple[int, str]) -> None:
        self.told = list(told)
        self.asked: list[tuple[str, Any]] = []
        usual = portal.answer

        def answer(path: str, body: bytes) -> tuple[int, bytes]:
            if path not in {"/agent/v1/drain", "/agent/v1/node"}:
                return usual(path, body)
            self.asked.append((path, json.loads(body) if body else None))
            next_one = self.told.pop(0) if len(self.told) > 1 else self.told[0]
            if isinstance(next_one, NodeTold):
                return 200, next_one.model_dump_json().encode()
            return next_one[0], json.dumps({"error": {"message": next_one[1]}}).encode()

        portal.answer = answer  # type: ignore[method-assign]


def node(*, state: str = "draining", running: int = 0, drained: bool = False, left: float = 600.0) -> NodeTold:
    drain = DrainTold(purpose="drain", reason="At the machine: New fans", left_seconds=left, drained=drained)
    return NodeTold(
        node="a-1",
        site="a",
        state=state,
        running=running,
        drain=drain if state in {"draining", "maintenance"} else None,
    )


def drained(portal: FakePortal, tmp_path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    path = tmp_path / "runner.toml"
    path.write_text(toml(settings(portal, tests.engine.Running(url="http://127.0.0.1:1/v1", engine=None), tmp_path)))
    code = cli.main(["drain", "--config", str(path), "--reason", "New fans", *more])
    return code, capsys.readouterr().out


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(cli, "forbid", lambda: None)  # it holds for the process, and this one is the tests'


def test_drain_waits_until_the_portal_says_empty(
    portal: FakePortal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    books = Books(portal, node(running=2), node(running=1), (503, "away"), node(running=0), node(drained=True))
    code, text = drained(portal, tmp_path, capsys, "--minutes", "5")
    assert code == 0
    assert books.asked[0] == ("/agent/v1/drain", {"reason": "New fans", "seconds": 300.0})
    assert [path for path, _ in books.asked[1:]] == ["/agent/v1/node"] * 4
    assert 'takes no new work: drain ("At the machine: New fans"), 600 s to its deadline' in text
    assert text.splitlines()[1:3] == ["2 attempts run; 600 s to the deadline", "1 attempts run; 600 s to the deadline"]
    assert "a-1 is draining and empty" in text


@pytest.mark.parametrize(
    ("told", "code", "words"),
    [
        ([(409, "A node that is quarantined cannot become draining."), node(state="quarantined")], 1, "Nothing was changed"),
        ([(409, "A node that is in burn-in cannot become draining."), node(state="burn-in")], 0, "gets no work anyway"),
        ([(401, "This node is not known or not admitted.")], 1, "not known or not admitted"),
        ([(503, "away")], 4, "does not answer"),
        ([node(running=1, left=-1e9)], 3, "1 attempts still run, past the deadline"),
        ([(409, "A node that is in maintenance cannot become draining."), node(state="maintenance", drained=True)], 0, "a-1 is maintenance and empty"),
        ([(409, "A node that is in burn-in cannot become draining."), node(state="burn-in", running=1), node(state="burn-in")], 0, "1 attempts run"),
        ([node(running=1), node(state="admitted")], 1, "put back to work meanwhile"),
    ],
)  # fmt: skip
def test_drain_ends_with_a_code_of_its_own(
    portal: FakePortal, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    told: list[Any], code: int, words: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(leaving, "GRACE_SECONDS", 0.05)
    Books(portal, *told)
    ended, text = drained(portal, tmp_path, capsys)
    assert (ended, words in text) == (code, True), text


def test_after_the_deadline_the_portal_has_time_to_note_what_was_lost(
    portal: FakePortal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Books(portal, node(running=1, left=-1e9), node(left=-1e9), node(left=-1e9, drained=True))
    assert drained(portal, tmp_path, capsys)[0] == 0


def test_who_does_not_wait_only_asks(portal: FakePortal, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    books = Books(portal, node(running=1))
    code, text = drained(portal, tmp_path, capsys, "--no-wait")
    assert (code, [path for path, _ in books.asked], len(text.splitlines())) == (0, ["/agent/v1/drain"], 1)


@pytest.mark.parametrize(
    "arguments", [["drain"], ["drain", "--reason", " "], ["drain", "--reason", "x", "--minutes", "-1"]]
)
def test_a_drain_needs_a_reason_and_a_sane_deadline(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2


def test_a_bad_file_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["status"], ["doctor"], ["run"], ["drain", "--reason", "x"]):
        assert cli.main([*command, "--config", str(tmp_path / "none.toml")]) == 2
        assert "none.toml cannot be read: No such file or directory" in capsys.readouterr().err
