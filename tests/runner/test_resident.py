"""A pool's model goes from what it is to what the portal wants, and an engine that fails is started again, with real engines."""

import asyncio
import contextlib
import hashlib
import os
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import cast

import httpx
import pytest

import tests.engine
from apps.runner import resident, weights
from apps.runner.engines import child
from apps.runner.engines.child import Child
from apps.runner.engines.command import CommandEngine
from apps.runner.engines.engine import Engine, EngineFailed, Health, Work
from apps.runner.engines.openai_http import OpenAIEngine
from apps.runner.engines.said import Said
from apps.runner.protocol import Desired, Weights
from apps.runner.resident import Resident
from apps.runner.weights import NotFetched, Store
from tests.runner.test_execution import until

WORK = Work(kind="chat", model=tests.engine.MODEL, body={"messages": []}, max_completion_tokens=3)


# What is fetched


class Shelf:
    """A server of one file, which may break off, lie, or know no ranges."""

    def __init__(self) -> None:
        self.content = os.urandom(300_000)
        self.breaks_after: int | None = None
        self.ranges = True
        self.status = 0
        self.asked: list[str] = []
        self.url = ""

    @property
    def weights(self) -> Weights:
        return Weights(url=f"{self.url}/llama.gguf?right=secret", sha256=hashlib.sha256(self.content).hexdigest())


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    shelf = Shelf()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("range", "")
            shelf.asked.append(asked)
            begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked and shelf.ranges else 0
            rest = shelf.content[begin:]
            self.send_response(shelf.status or (206 if begin else 200))
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            self.wfile.write(rest if shelf.breaks_after is None else rest[: shelf.breaks_after])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        shelf.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield shelf
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def small_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "SPARE_BYTES", 0)


async def test_weights_are_fetched_once_verified_and_named_by_their_hash(shelf: Shelf, tmp_path: Path) -> None:
    store = Store(tmp_path / "models")
    first, second = await asyncio.gather(store.fetch(shelf.weights), store.fetch(shelf.weights))  # two pools
    assert first == second == tmp_path / "models" / f"sha256-{shelf.weights.sha256}"
    assert first.read_bytes() == shelf.content
    assert shelf.asked == [""]


@pytest.mark.parametrize("ranges", [True, False])
async def test_a_download_that_broke_off_goes_on(shelf: Shelf, tmp_path: Path, ranges: bool) -> None:
    shelf.breaks_after, shelf.ranges = 100_000, ranges
    with pytest.raises(NotFetched, match=r"127\.0\.0\.1 does not give them \(RemoteProtocolError\)"):
        await Store(tmp_path).fetch(shelf.weights)
    shelf.breaks_after = None
    path = await Store(tmp_path).fetch(shelf.weights)  # by another process
    assert path.read_bytes() == shelf.content
    assert shelf.asked[1] == "bytes=100000-"


@pytest.mark.parametrize(
    ("lie", "says"),
    [
        (lambda shelf: setattr(shelf, "status", 404), "answers 404"),
        (lambda shelf: None, "has another SHA-256"),
        (lambda shelf: setattr(shelf, "url", "http://127.0.0.1:1"), "does not give them"),
    ],
)
async def test_what_is_not_what_was_named_is_not_kept(
    shelf: Shelf, tmp_path: Path, lie: Callable[[Shelf], object], says: str
) -> None:
    lie(shelf)
    wanted = shelf.weights.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(NotFetched, match=says) as raised:
        await Store(tmp_path).fetch(wanted)
    assert "secret" not in str(raised.value)
    assert os.listdir(tmp_path) == []


async def test_a_disk_without_room_is_told(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "SPARE_BYTES", 2**60)
    with pytest.raises(NotFetched, match="and 0 are free"):
        await Store(tmp_path).fetch(shelf.weights)


# What is kept of an engine's words


def test_what_an_engine_says_is_kept_to_a_bound(tmp_path: Path) -> None:
    said = Said(tmp_path / "logs" / "a.log", most=20_000)
    for number in range(3000):
        said.write(f"\x1b[31mline {number} of the engine\x1b[0m\n\n".encode())
    files = sorted((tmp_path / "logs").iterdir())
    assert [path.name for path in files] == ["a.log", "a.log.1"]
    assert sum(path.stat().st_size for path in files) <= 20_000
    assert files[0].read_bytes().endswith(b"line 2999 of the engine\x1b[0m\n\n")
    assert said.last == "line 2999 of the engine"
    assert files[0].stat().st_mode & 0o077 == 0


# Supervision


def test_the_pauses_grow_to_a_bound_and_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Child("a", ["x"])
    pauses = []
    for ends in range(1, 9):
        made.ends = ends
        pauses.append(made.pause)
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30]


@pytest.mark.parametrize(("settled", "ends"), [(-1, [0, 1, 1, 1]), (3600, [0, 1, 2, 3])])
async def test_a_child_that_settled_begins_them_anew(
    settled: float, ends: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "SETTLED_SECONDS", settled)
    monkeypatch.setattr(child, "FIRST_PAUSE", 0.001)
    found: list[int] = []
    made = Child("a", ["true"], before=lambda: found.append(made.ends))
    made.start()
    await until(lambda: len(found) >= 4)
    await made.stop()
    assert found[:4] == ends


async def test_a_program_that_cannot_be_started_is_tried_again_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "FIRST_PAUSE", 0.001)
    made = Child("a", ["/nowhere/engine"])
    made.start()
    await until(lambda: made.ends >= child.LOOP_ENDS)
    assert "it could not be started: No such file or directory" in made.trouble
    await made.stop()


class Ending:
    """A process that ends when it is told to."""

    def __init__(self) -> None:
        self.returncode: int | None = None
        self.over = asyncio.Event()

    async def wait(self) -> None:
        await self.over.wait()


async def test_a_stop_that_comes_as_a_child_ends_is_not_lost() -> None:
    for turns in range(10):
        process = Ending()
        waiting = asyncio.create_task(child.ended(cast("child.Process", process)))
        await asyncio.sleep(0.01)
        process.returncode = 0
        process.over.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        if waiting.done():
            break
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert turns


class House:
    """A resident whose engine is the tests' own, as a command; `script` in its place says what else is run."""

    def __init__(self, directory: Path, url: str, port: int) -> None:
        self.directory, self.url, self.port = directory, url, port
        self.store = Store(directory / "models")
        self.running = 0
        self.told: list[str] = []
        self.made: list[Path | None] = []
        self.script = ""

    def make(self, path: Path | None) -> Engine:
        self.made.append(path)
        command = [sys.executable, "-m", "tests.engine", "--port", str(self.port)]
        return CommandEngine(
            name="a", command=[sys.executable, "-c", self.script] if self.script else command, weights=path,
            log=self.directory / "logs" / "a.log", url=self.url, key="", dimensions=False, reranks=False,
        )  # fmt: skip

    def resident(self, **fields: object) -> Resident:
        made = Resident(
            "a", make=self.make, store=self.store, file=None, busy=lambda: self.running, changed=lambda: self.note(made),
            **{"fed": False, **fields},  # type: ignore[arg-type]
        )  # fmt: skip
        return made

    def note(self, made: Resident) -> None:
        self.told.append(made.state)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setattr(resident, "PROBE_SECONDS", 0.02)
    monkeypatch.setattr(resident, "EAGER_SECONDS", 0.02)
    monkeypatch.setattr(child, "FIRST_PAUSE", 0.02)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    return House(tmp_path, f"http://127.0.0.1:{port}/v1", port)


@contextlib.asynccontextmanager
async def tended(made: Resident) -> AsyncIterator[Resident]:
    task = asyncio.create_task(made.tend())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await made.stop()


def child_of(made: Resident) -> Child:
    assert made.engine
    return made.engine.children()[0]


async def ready(made: Resident) -> None:
    await until(lambda: made.state == "ready" and made.health.ready, seconds=20)


async def answer(made: Resident) -> str:
    said = ""
    async for piece in made.run(WORK):
        for choice in piece.choices or ():
            said += choice["delta"].get("content") or ""
    return said


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] == "Z"


@pytest.mark.story
async def test_an_engine_is_started_measured_and_started_again_when_it_dies(house: House) -> None:
    async with tended(house.resident()) as made:
        await ready(made)
        assert house.told == ["loading", "ready"]
        assert made.load_seconds is not None
        assert 0.1 <= made.load_seconds < 20
        first = child_of(made).pid
        assert first
        assert await answer(made) == tests.engine.text(3)
        os.kill(first, signal.SIGKILL)
        await until(lambda: made.state == "loading")
        assert not made.health.ready
        await ready(made)
        assert child_of(made).pid not in {None, first}
        last = child_of(made).pid
    assert last
    assert gone(last)


@pytest.mark.story
async def test_one_that_hangs_is_started_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "LIMIT_SECONDS", 0.1)
    async with tended(house.resident()) as made:
        await ready(made)
        first = child_of(made).pid
        assert first
        os.kill(first, signal.SIGSTOP)
        await until(lambda: not made.health.ready)
        await asyncio.sleep(0.3)
        assert child_of(made).pid == first  # it is given its time
        monkeypatch.setattr(resident, "HANG_SECONDS", 0.1)
        await until(lambda: child_of(made).pid not in {None, first})
        await ready(made)


@pytest.mark.story
async def test_one_that_ended_has_the_time_of_loading_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """However soon its next process is there: a look every two seconds sees only that."""
    monkeypatch.setattr(child, "FIRST_PAUSE", 0.0)
    house.script = (
        f"import runpy, sys, time; time.sleep(0.5); sys.argv[1:] = ['--port', '{house.port}']; "
        "runpy.run_module('tests.engine', run_name='__main__')"
    )
    async with tended(house.resident()) as made:
        await ready(made)
        first, starts = child_of(made), []
        first.before = lambda: starts.append(time.monotonic())
        monkeypatch.setattr(resident, "HANG_SECONDS", 0.1)
        os.kill(first.pid or 0, signal.SIGKILL)
        await until(lambda: made.state == "loading")
        await ready(made)
        assert len(starts) == 1
        assert made.load_seconds is not None
        assert made.load_seconds >= 0.4


@pytest.mark.story
async def test_a_crash_loop_is_an_error_with_the_last_words_and_is_tried_on(house: House) -> None:
    house.script = "import sys; print('loading'); sys.exit('CUDA error: no device')"
    async with tended(house.resident()) as made:
        await until(lambda: made.state == "error", seconds=20)
        assert made.health.reason.startswith(
            "it ended 3 times in a row, and is started again every 0 s; it ended with exit code 1"
        )
        assert "CUDA error: no device" in made.health.reason
        assert "CUDA error: no device" in (house.directory / "logs" / "a.log").read_text()
        with pytest.raises(EngineFailed):
            await answer(made)
        ends = child_of(made).ends
        await until(lambda: child_of(made).ends > ends, seconds=20)
        child_of(made).command[3:] = [
            sys.executable,
            "-m",
            "tests.engine",
            "--port",
            str(house.port),
        ]  # somebody repairs it
        await ready(made)


@pytest.mark.story
async def test_what_an_engine_started_ends_with_it(house: House) -> None:
    house.script = (
        "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
        "print('helper', p.pid, flush=True); time.sleep(60)"
    )
    log = house.directory / "logs" / "a.log"
    async with tended(house.resident()) as made:
        await until(lambda: log.exists() and re.search(r"^helper \d+\n", log.read_text()), seconds=20)
        helper = int(log.read_text().split()[1])
        os.kill(child_of(made).pid or 0, signal.SIGKILL)
        await until(lambda: gone(helper))


async def test_what_an_engine_started_ends_when_it_is_stopped_however_deaf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "LOOK_SECONDS", 0.02)
    log = tmp_path / "a.log"
    deaf = "trap '' TERM; echo helper $$; exec sleep 60"
    command = ["sh", "-c", 'sh -c "$0" & exec sleep 60', deaf]
    made = Child("a", command, said=Said(log), group=True, end_seconds=60)
    made.start()
    await until(lambda: log.exists() and log.read_text().endswith("\n"))
    helper = int(log.read_text().split()[1])
    async with asyncio.timeout(30):  # its end counts, whatever holds its pipes
        await made.stop()
    await until(lambda: gone(helper))


async def test_what_an_engine_left_ends_though_it_is_stopped_before_that_was_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "LOOK_SECONDS", 60)
    log = tmp_path / "a.log"
    command = ["sh", "-c", 'sh -c "$0" & exec sleep 0.1', "echo helper $$; exec sleep 60"]
    made = Child("a", command, said=Said(log), group=True)
    made.start()
    await until(lambda: log.exists() and log.read_text().endswith("\n"))
    helper = int(log.read_text().split()[1])
    await until(lambda: made.process and made.process.returncode is not None)
    assert not gone(helper)
    await made.stop()
    await until(lambda: gone(helper))


async def test_a_file_of_weights_that_is_not_there_is_named(house: House) -> None:
    gguf = house.directory / "model.gguf"
    made = house.resident(fed=True)
    made.file = gguf
    await made.step()
    assert (made.state, made.health.ready) == ("error", False)
    assert made.health.reason == f"there is no model file {gguf}"
    assert house.made == []


@pytest.mark.story
async def test_weights_are_fetched_loaded_changed_and_removed(house: House, shelf: Shelf) -> None:
    first = shelf.weights
    async with tended(house.resident(fed=True)) as made:
        await until(lambda: "name `gguf` in runner.toml, or weights" in made.health.reason)
        made.want(Desired(pool="a", weights=first))
        await ready(made)
        assert house.told == ["fetching", "on-disk", "loading", "ready"]
        assert made.fetch_seconds is not None
        assert house.made == [house.store.path(first)]
        # Others come: the old ones serve until they are here, then until what runs is done.
        shelf.content, shelf.status, house.running = os.urandom(1000), 503, 1
        made.want(Desired(pool="a", weights=shelf.weights))
        await until(lambda: len(shelf.asked) == 2)
        await asyncio.sleep(0.1)
        assert (made.state, made.health.ready) == ("ready", True)
        shelf.status, made.retry_at = 0, 0.0
        await until(lambda: not made.health.ready)
        assert made.health.reason == "other weights are loaded when its running work is done"
        assert house.made == [house.store.path(first)]
        house.running = 0
        await ready(made)
        assert house.made[1:] == [house.store.path(shelf.weights)]
        other = house.resident(fed=True)
        other.name = "b"
        other.want(Desired(pool="b", weights=shelf.weights))  # another pool's too
        made.want(Desired(pool="a", state="absent", weights=shelf.weights))
        await until(lambda: made.state == "absent")
        assert house.store.path(shelf.weights).exists()
        made.want(Desired(pool="a", state="parked", weights=first))
        await until(lambda: made.state == "parked")
        assert not made.health.ready
        made.want(Desired(pool="a", state="absent", weights=first))
        await until(lambda: made.state == "absent")
        assert not house.store.path(first).exists()


@pytest.mark.story
async def test_weights_that_do_not_come_are_an_error_in_words_and_tried_again(
    house: House, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resident, "FIRST_PAUSE", 0.05)
    shelf.status = 503
    async with tended(house.resident(fed=True)) as made:
        made.want(Desired(pool="a", weights=shelf.weights))
        await until(lambda: made.state == "error")
        assert made.health.reason == "its weights were not fetched: 127.0.0.1 answers 503; tried again in 0 s"
        with pytest.raises(EngineFailed, match="could not be loaded"):
            await answer(made)
        await until(lambda: len(shelf.asked) >= 3)
        shelf.status = 0
        await ready(made)


@pytest.mark.story
async def test_an_idle_model_is_parked_and_the_next_work_loads_it(house: House) -> None:
    async with tended(house.resident()) as made:
        await ready(made)
        house.running, made.used_at = 1, 0.0  # since long ago
        made.want(Desired(pool="a", park_after_seconds=0))
        await until(lambda: made.used_at > 0)  # who works is not idle
        assert made.engine is not None
        house.running = 0
        await until(lambda: made.state == "parked", seconds=20)
        assert made.health.ready  # and takes work
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"{house.url}/models")
        assert made.processes() == []
        made.want(Desired(pool="a", park_after_seconds=3600))  # not idle again while this test looks
        both = await asyncio.gather(answer(made), answer(made))
        assert both == [tests.engine.text(3)] * 2
        assert house.told[-4:] == ["ready", "parked", "loading", "ready"]
        assert len(house.made) == 2


@pytest.fixture
async def elsewhere(
    house: House, engine: tests.engine.Running, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Resident]:
    """Ready on an engine that somebody else runs. Each step is the test's."""
    monkeypatch.setattr(resident, "LIMIT_SECONDS", 30)
    made = house.resident()
    made.make = lambda path: OpenAIEngine(url=engine.url)
    await made.step()
    assert made.health.ready
    yield made
    await made.stop()


async def test_what_somebody_else_runs_is_not_ours_to_unload(elsewhere: Resident) -> None:
    engine, elsewhere.used_at = elsewhere.engine, 0.0
    elsewhere.want(Desired(pool="a", park_after_seconds=0))
    await elsewhere.step()
    assert elsewhere.engine is engine


async def test_one_that_somebody_else_runs_has_a_moment_before_it_is_an_error(house: House) -> None:
    made = house.resident()
    made.make = lambda path: OpenAIEngine(url="http://127.0.0.1:9/v1")
    await made.load(None)
    made.load_began += 60  # however long the look takes
    await made.look()
    assert (made.state, made.health.ready) == ("loading", False)
    made.load_began -= 120
    await made.look()
    assert made.state == "error"
    await made.stop()


async def test_work_waits_for_a_parked_model_but_not_for_ever(
    elsewhere: Resident, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resident, "WAKE_SECONDS", 0.01)
    elsewhere.show("parked", "", ready=True)
    elsewhere.parked = True
    async with asyncio.timeout(10):
        with pytest.raises(EngineFailed, match="not loaded in time"):
            await answer(elsewhere)


async def test_what_parked_itself_stays_so_until_the_portal_wants_something_else_of_it(elsewhere: Resident) -> None:
    elsewhere.parked = True
    elsewhere.want(Desired(pool="a", park_after_seconds=60))
    await elsewhere.step()
    assert elsewhere.state == "parked"
    elsewhere.want(Desired(pool="a", state="parked"))
    elsewhere.want(Desired(pool="a", park_after_seconds=60))
    await elsewhere.step()
    assert elsewhere.state != "parked"


async def test_what_the_portal_removes_ends_what_runs_first(elsewhere: Resident, house: House) -> None:
    house.running = 1
    elsewhere.want(Desired(pool="a", state="absent"))
    await elsewhere.step()
    assert elsewhere.engine is not None
    assert elsewhere.health == Health(
        ready=False, reason="removed by the portal, when its running work is done"
    )  # takes no more
    house.running = 0
    await elsewhere.step()
    assert (elsewhere.state, elsewhere.engine) == ("absent", None)


async def test_a_fetch_that_failed_is_tried_again_after_pauses_that_grow_to_a_bound(house: House, shelf: Shelf) -> None:
    made = house.resident(fed=True)
    made.want(Desired(pool="a", weights=shelf.weights))
    shelf.status = 503
    pauses = []
    for tries in range(1, 11):
        await made.step()
        assert made.fetching
        await asyncio.wait({made.fetching})
        await made.step()
        await made.step()  # not at once
        assert (made.fetching, len(shelf.asked)) == (None, tries)
        pauses.append(int(made.health.reason.split()[-2]))
        made.retry_at = 0.0  # it is over
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


@pytest.mark.story
async def test_what_the_portal_parks_takes_no_work_and_ends_what_runs_first(house: House) -> None:
    async with tended(house.resident()) as made:
        await ready(made)
        house.running = 1
        made.want(Desired(pool="a", state="parked"))
        await until(lambda: not made.health.ready)
        assert (made.state, made.health.reason) == ("ready", "parked by the portal, when its running work is done")
        assert child_of(made).pid
        house.running = 0
        await until(lambda: made.state == "parked")
        assert not made.health.ready
        with pytest.raises(EngineFailed, match="not loaded here"):
            await answer(made)
        made.want(Desired(pool="a"))
        await ready(made)
