"""The runner whole: orders through a real broker, leases, cancelling, and its ends."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

import tests.engine
from apps.runner import config, heartbeat, models
from apps.runner.process import Runner
from apps.runner.protocol import TASK, Attempt, Control, Desired, Entry, Order, Wanted, control, queue
from tests.runner.conftest import POOL, as_json, order, text_of
from tests.runner.portal import TOKEN, FakePortal
from tests.runner.test_execution import until
from tests.servers import servers

pytestmark = pytest.mark.whole

Reader = Callable[[Order], list[Entry]]
Publish = Callable[[Order], None]


@pytest.fixture
def publish(valkey: redis.Redis) -> Iterator[Publish]:
    """As the portal's outbox does."""
    app = Celery("portal", broker=servers.redis_url.replace("unix://", "redis+socket://"), set_as_current=False)

    def send(order: Order) -> None:
        app.send_task(TASK, args=[as_json(order)], queue=queue(order.pool), ignore_result=True)

    yield send
    app.close()


def settings(portal: FakePortal, mock: tests.engine.Running, spool: Path, **pool: Any) -> dict[str, Any]:
    return {
        "portal_url": portal.url,
        "redis_url": servers.redis_url,
        "broker_url": servers.redis_url,
        "node_token": TOKEN,
        "spool": str(spool),
        "pools": [
            {"code": POOL, "kind": "chat", "slots": 4, "engine": "url", "url": mock.url, "model": tests.engine.MODEL}
            | pool
        ],
    }


@pytest.fixture
async def runner(
    portal: FakePortal,
    engine: tests.engine.Running,
    tmp_path: Path,
    valkey: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Runner]:
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr("apps.runner.attempts.FINISH_SECONDS", 0.1)
    monkeypatch.setattr("apps.runner.worker.BLOCK_SECONDS", 0.05)
    made = Runner(config.Configuration.model_validate(settings(portal, engine, tmp_path)))
    await made.start()
    yield made
    if not made.stopping.is_set():
        await made.stop(asyncio.Event())


async def finished(portal: FakePortal, job: Order) -> Any:
    return await asyncio.to_thread(portal.finished, job.job)


async def test_an_order_goes_from_the_broker_to_a_report(
    runner: Runner,
    publish: Publish,
    portal: FakePortal,
    entries: Reader,
    valkey: redis.Redis,
    engine: tests.engine.Running,
) -> None:
    job = order()
    publish(job)
    publish(job)  # delivered twice
    report = await finished(portal, job)
    assert (report.state, report.text, report.claimant) == ("succeeded", tests.engine.text(8), runner.claimant)
    assert text_of(entries(job)) == report.text
    assert report.started_at is not None  # the end of a short attempt tells its start
    await until(lambda: not runner.attempts.unanswered)
    assert engine.counts().started == 1
    # Beside what the sender keeps, nothing lies outside the pool's own names.
    names = {name for name in valkey.scan_iter() if not name.startswith(("out:", f"pool.{POOL}", "_kombu.binding"))}
    assert names == set()


async def test_leases_and_health_are_in_the_heartbeats(
    runner: Runner, publish: Publish, portal: FakePortal, engine: tests.engine.Running
) -> None:
    engine.control(tokens_per_second=50)
    job = order(max_completion_tokens=1000)
    publish(job)

    def told() -> Any:
        beats = [beat for beat in portal.heartbeats if beat.leases]
        return beats and beats[-1]

    beat = await asyncio.to_thread(portal.wait, told)
    assert beat.claimant == runner.claimant
    assert [(lease.job, lease.attempt, lease.fence) for lease in beat.leases] == [(job.job, 1, job.fence)]
    assert [(pool.pool, pool.ready, pool.running) for pool in beat.pools] == [(POOL, True, 1)]


@pytest.mark.parametrize("way", ["control", "heartbeat"])
@pytest.mark.parametrize("what", ["cancel", "stop"])
async def test_the_portal_ends_an_attempt(
    runner: Runner, publish: Publish, portal: FakePortal, engine: tests.engine.Running, valkey: redis.Redis, entries: Reader,
    way: str, what: Any,
) -> None:  # fmt: skip
    engine.control(tokens_per_second=50)
    job = order(max_completion_tokens=1000)
    publish(job)
    await until(lambda: text_of(entries(job)))
    began = time.monotonic()
    if way == "control":
        message = Control(kind=what, job=job.job, attempt=1).model_dump_json()
        valkey.xadd(control(runner.claimant), {"e": message})
    else:
        getattr(portal, what).append(Attempt(job=job.job, attempt=1))
    if what == "cancel":
        assert (await finished(portal, job)).state == "cancelled"
    await until(lambda: not runner.attempts.executions)
    assert time.monotonic() - began < 1
    engine.wait(lambda counts: counts.hung_up == 1)
    assert len(portal.of(job.job)) == (what == "cancel")


async def test_a_start_the_portal_refuses_is_stopped(
    runner: Runner, publish: Publish, portal: FakePortal, engine: tests.engine.Running
) -> None:
    engine.control(tokens_per_second=20)
    portal.accepts = False
    job = order(max_completion_tokens=1000)
    publish(job)
    await asyncio.to_thread(engine.wait, lambda counts: counts.hung_up == 1)
    await until(lambda: not runner.attempts.executions)
    assert portal.of(job.job) == []


@pytest.mark.parametrize(("status", "seconds"), [(500, "LOST_SECONDS"), (401, "LOST_SECONDS"), (503, "DOWN_SECONDS")])
async def test_without_heartbeats_running_work_is_given_up(
    runner: Runner, publish: Publish, portal: FakePortal, engine: tests.engine.Running, monkeypatch: pytest.MonkeyPatch,
    entries: Reader, status: int, seconds: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(heartbeat, "LOST_SECONDS", 0.3)
    monkeypatch.setattr(heartbeat, seconds, 0.3)
    monkeypatch.setattr(heartbeat, "AWAY_SECONDS", 0.05)
    engine.control(tokens_per_second=50)
    job = order(max_completion_tokens=1000)
    publish(job)
    await until(lambda: text_of(entries(job)))
    portal.away_status, portal.away = status, True
    await until(lambda: not runner.attempts.executions)
    await until(lambda: engine.counts().hung_up == 1)
    portal.away = False
    report = await finished(portal, job)
    assert (report.state, report.failure.code, report.failure.retryable) == ("failed", "lease_lost", True)


async def test_a_portal_that_is_down_takes_no_running_work_away(
    runner: Runner, publish: Publish, portal: FakePortal, engine: tests.engine.Running, monkeypatch: pytest.MonkeyPatch,
    entries: Reader,
) -> None:  # fmt: skip
    monkeypatch.setattr(heartbeat, "LOST_SECONDS", 0.3)
    monkeypatch.setattr(heartbeat, "AWAY_SECONDS", 0.05)
    engine.control(tokens_per_second=50)
    job = order(max_completion_tokens=100)
    publish(job)
    await until(lambda: text_of(entries(job)))
    portal.away = True
    await asyncio.sleep(1)
    assert runner.attempts.executions
    portal.away = False
    report = await finished(portal, job)
    assert (report.state, report.text) == ("succeeded", tests.engine.text(100))


async def test_an_engine_that_goes_away_is_told_and_comes_back(
    runner: Runner, portal: FakePortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.runner.resident.PROBE_SECONDS", 0.05)

    def last(ready: bool) -> Callable[[], bool]:
        return lambda: bool(portal.heartbeats) and portal.heartbeats[-1].pools[0].ready is ready

    await asyncio.to_thread(portal.wait, last(True))
    adapter: Any = runner.posts[POOL].resident.engine
    url, adapter.url = adapter.url, "http://127.0.0.1:9/v1"
    await asyncio.to_thread(portal.wait, last(False))
    assert portal.heartbeats[-1].pools[0].reason
    adapter.url = url
    await asyncio.to_thread(portal.wait, last(True))


async def test_what_the_portal_wants_is_done_told_and_known_at_the_next_start(
    runner: Runner, portal: FakePortal, engine: tests.engine.Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.runner.resident.PROBE_SECONDS", 0.05)

    def said() -> dict[str, tuple[Any, ...]]:
        return {each.pool: (each.ready, each.state, each.reason) for each in portal.heartbeats[-1].pools}

    await asyncio.to_thread(portal.wait, lambda: portal.heartbeats and said() == {POOL: (True, "ready", "")})
    elsewhere = (False, "absent", "runner.toml of this node has no pool of this code")
    parked = {POOL: (False, "parked", "parked by the portal"), "other": elsewhere}
    wanted = [Desired(pool=POOL, state="parked"), Desired(pool="other")]
    portal.wanted = Wanted(version="2", pools=wanted)
    await asyncio.to_thread(portal.wait, lambda: said() == parked)
    assert portal.heartbeats[-1].wanted == "2"
    await runner.stop(asyncio.Event())
    portal.wanted = None
    portal.heartbeats.clear()
    again = Runner(runner.configuration)
    await again.start()
    try:
        await asyncio.to_thread(portal.wait, lambda: portal.heartbeats and said() == parked)
        assert {each.state for beat in portal.heartbeats for each in beat.pools if each.pool == POOL} <= {
            "absent",
            "parked",
        }
    finally:
        await again.stop(asyncio.Event())


async def test_strange_orders_change_nothing(
    runner: Runner, publish: Publish, portal: FakePortal, valkey: redis.Redis
) -> None:
    runner.attempts.accept({"job": "x"})
    runner.attempts.accept(as_json(order(pool="elsewhere")))
    runner.attempts.accept(as_json(order(expires_at=1.0)))
    assert runner.attempts.executions == {}


async def test_what_still_runs_at_the_end_is_failed_for_another_try(
    runner: Runner, publish: Publish, portal: FakePortal, engine: tests.engine.Running, entries: Reader
) -> None:
    engine.control(tokens_per_second=50)
    job = order(max_completion_tokens=1000)
    publish(job)
    await until(lambda: text_of(entries(job)))
    await runner.stop(asyncio.Event())
    (report,) = portal.of(job.job)
    assert (report.state, report.failure and report.failure.code, report.failure and report.failure.retryable) == ("failed", "runner_stopped", True)  # fmt: skip
    assert entries(job)[-1].end
    assert list((runner.configuration.spool).glob("*.json")) == []


async def test_the_embedded_engine_has_its_energy_modelled(
    portal: FakePortal, engine: tests.engine.Running, tmp_path: Path, publish: Publish, model_files: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("apps.runner.worker.BLOCK_SECONDS", 0.05)
    gguf = str(model_files / models.CHAT_FILE)
    given = settings(portal, engine, tmp_path, engine="llama", url="", gguf=gguf, model="demo")
    made = Runner(config.Configuration.model_validate(given))
    await made.start()
    try:
        jobs = [order(max_completion_tokens=200) for _ in range(3)]
        for job in jobs:
            publish(job)
        reports = [await finished(portal, job) for job in jobs]
        meter = made.posts[POOL].meter
        assert meter
        await meter.close_window()
        used = [report.energy.gpu_energy_mj for report in reports]
        assert {report.energy.quality for report in reports} == {"modelled"}
        assert all(millijoules > 0 for millijoules in used)
        assert sum(used) + meter.idle_mj == meter.total_mj
    finally:
        await made.stop(asyncio.Event())


async def test_a_faulty_gpu_takes_its_own_pool_out_and_the_other_goes_on(
    portal: FakePortal, engine: tests.engine.Running, tmp_path: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    lies = tmp_path / "lies.json"
    lies.write_text("{}")
    given = settings(portal, engine, tmp_path / "spool", gpus=["GPU-0"])
    given["pools"].append({**given["pools"][0], "code": "other", "gpus": ["GPU-1"]})
    monkeypatch.setattr("apps.runner.watch.LOOK_SECONDS", 0.1)
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr("apps.runner.worker.BLOCK_SECONDS", 0.05)
    monkeypatch.setattr("apps.runner.attempts.FINISH_SECONDS", 0.1)
    made = Runner(config.Configuration.model_validate(given))
    made.sampler.command = [sys.executable, "-m", "tests.runner.fake_nvml", str(lies)]
    made.sampler.present = True
    await made.start()

    def said() -> dict[str, tuple[bool, str]]:
        return {pool.pool: (pool.ready, pool.reason) for pool in portal.heartbeats[-1].pools}

    try:
        await asyncio.to_thread(
            portal.wait, lambda: portal.heartbeats and said() == {POOL: (True, ""), "other": (True, "")}
        )
        lies.write_text(json.dumps({"xids": [[0, 79]], "energy": [200_000, 1_007]}))
        reason = "GPU-0: XID 79: the GPU fell off the bus"
        await asyncio.to_thread(portal.wait, lambda: said() == {POOL: (False, reason), "other": (True, "")})
        job = order(pool="other")
        publish(job)
        report = await finished(portal, job)
        assert report.state == "succeeded"
        assert report.energy.quality == "counter"
    finally:
        await made.stop(asyncio.Event())


# The process itself


def toml(given: dict[str, Any]) -> str:
    lines = [f"{name} = {json.dumps(value)}" for name, value in given.items() if name != "pools"]
    for pool in given["pools"]:
        lines += ["[[pools]]", *(f"{name} = {json.dumps(value)}" for name, value in pool.items())]
    return "\n".join(lines)


@contextlib.contextmanager
def process(directory: Path, given: dict[str, Any]) -> Iterator[subprocess.Popen[str]]:
    path = directory / "runner.toml"
    path.write_text(toml(given))
    # As a Procfile of the portal's would start it: Celery must not go looking for Django.
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "cango_portal.settings"}
    with subprocess.Popen(
        [sys.executable, "-m", "apps.runner", "run", "--config", str(path)],
        env=environment, stderr=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        try:
            yield running
        finally:
            if running.poll() is None:
                running.kill()


def test_killed_in_a_stream_and_started_again(
    portal: FakePortal, engine: tests.engine.Running, tmp_path: Path, publish: Publish, entries: Reader
) -> None:
    given = settings(portal, engine, tmp_path / "spool")
    first, second = order(max_completion_tokens=1000), order()
    engine.control(tokens_per_second=50)
    with process(tmp_path, given) as running:
        publish(first)
        portal.wait(lambda: portal.of(first.job, "started"))
        engine.wait(lambda counts: counts.started == 1)
        running.kill()
        running.wait()
    engine.wait(lambda counts: counts.hung_up == 1)
    engine.control(tokens_per_second=0)
    with process(tmp_path, given) as running:
        publish(first)  # once more: the claim stays with the dead one
        publish(second)
        report = portal.finished(second.job)
        running.send_signal(signal.SIGTERM)
        _, log = running.communicate()
        assert running.returncode == 0
    assert (report.state, report.text) == ("succeeded", tests.engine.text(8))
    assert portal.of(first.job) == []
    assert engine.counts().started == 2
    messages = [json.loads(line)["message"] for line in log.splitlines() if line.startswith("{")]
    assert messages[0] == "runner starts"
    assert messages[-1] == "runner stopped"
    assert "how much power" not in log  # an order is never logged


def stops(portal: FakePortal) -> bool:
    return any(
        (pool.ready, pool.reason) == (False, "the runner is stopping")
        for beat in portal.heartbeats
        for pool in beat.pools
    )


def test_sigterm_finishes_what_runs_and_takes_nothing_new(
    portal: FakePortal, engine: tests.engine.Running, tmp_path: Path, publish: Publish, valkey: redis.Redis
) -> None:
    first, second = order(max_completion_tokens=100), order()
    engine.control(tokens_per_second=50)
    with process(tmp_path, settings(portal, engine, tmp_path / "spool")) as running:
        publish(first)
        portal.wait(lambda: portal.of(first.job, "started"))
        running.send_signal(signal.SIGTERM)
        portal.wait(lambda: stops(portal))
        time.sleep(1.2)  # the last wait for an order is over
        publish(second)
        running.communicate()
        assert running.returncode == 0
    (report,) = portal.of(first.job)
    assert (report.state, report.text) == ("succeeded", tests.engine.text(100))
    assert (engine.counts().started, portal.of(second.job), valkey.llen(queue(POOL))) == (1, [], 1)


def test_the_last_a_portal_hears_of_a_runner_is_that_it_stops(
    portal: FakePortal, engine: tests.engine.Running, tmp_path: Path
) -> None:
    """However slow the answer to the beat before is: work that is sent here after the end waits until the silence is noticed."""
    with process(tmp_path, settings(portal, engine, tmp_path / "spool")) as running:
        portal.wait(lambda: portal.heartbeats and portal.heartbeats[-1].pools[0].ready)
        portal.slow_seconds = 1.9
        heard = len(portal.heartbeats)
        portal.wait(lambda: len(portal.heartbeats) > heard)
        time.sleep(2.5)  # another is on its way
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=15)
        assert running.returncode == 0
    last = portal.heartbeats[-1].pools[0]
    assert (last.ready, last.reason) == (False, "the runner is stopping")


def test_a_second_sigterm_ends_at_once_and_leaves_the_rest_for_another_try(
    portal: FakePortal, engine: tests.engine.Running, tmp_path: Path, publish: Publish
) -> None:
    job = order(max_completion_tokens=1000)
    engine.control(tokens_per_second=50)
    with process(tmp_path, settings(portal, engine, tmp_path / "spool")) as running:
        publish(job)
        portal.wait(lambda: portal.of(job.job, "started"))
        running.send_signal(signal.SIGTERM)
        portal.wait(lambda: stops(portal))
        time.sleep(1.5)  # it waits for what runs
        assert (running.poll(), portal.of(job.job)) == (None, [])
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=10)
        assert running.returncode == 0
    (report,) = portal.of(job.job)
    assert (report.state, report.failure and report.failure.code) == ("failed", "runner_stopped")


def test_a_broker_that_comes_late_is_waited_for(
    portal: FakePortal, engine: tests.engine.Running, tmp_path: Path, publish: Publish, valkey: redis.Redis
) -> None:
    """The socket appears after the runner did; it says so once."""
    late = tmp_path / "late.sock"
    given = settings(portal, engine, tmp_path / "spool") | {"broker_url": f"redis+socket://{late}"}
    with process(tmp_path, given) as running:
        assert running.stderr
        log = ""
        while "the broker does not answer" not in log:
            log += running.stderr.readline()
        late.symlink_to(servers.redis_url.removeprefix("unix://"))
        job = order()
        publish(job)
        portal.finished(job.job)
        running.send_signal(signal.SIGTERM)
        log += running.communicate()[1]
        assert running.returncode == 0
    assert log.count("the broker does not answer") == 1
    assert log.count("the broker answers again") == 1


ENTRANCE = """
portal_url = "https://portal"
spool = "spool"
[[pools]]
code = "a"
kind = "chat"
engine = "url"
url = "http://127.0.0.1:1/v1"
"""


def test_a_bad_configuration_is_named(tmp_path: Path) -> None:
    path = tmp_path / "runner.toml"
    for text, names in (
        ('portal_url = "x"', ["portal_url: must begin with http", "spool: is missing. A directory of this runner's own", "pools: is missing. One section [[pools]]"]),
        ("portal_url = ", ["is not TOML"]),
        (ENTRANCE, ["needs `identity`"]),
        (f'node_token = "x"\nidentity = "i"\n{ENTRANCE}', ["and not both"]),
        (f'node_token = "x"\n{ENTRANCE}', ["needs `redis_url` and `broker_url`"]),
    ):  # fmt: skip
        path.write_text(text)
        with pytest.raises(config.BadConfiguration) as raised:
            config.load(path)
        assert all(name in str(raised.value) for name in names)
    with pytest.raises(config.BadConfiguration, match="cannot be read"):
        config.load(tmp_path / "nothing.toml")


@pytest.mark.parametrize(
    ("pool", "says"),
    [
        ({"engine": "llama", "url": "", "command": ["x"]}, "`command` goes with an engine"),
        ({"engine": "url", "url": "localhost"}, "url"),
        ({"engine": "rapidocr"}, 'kind "ocr"'),
        ({"code": "Bad Code"}, "code"),
        ({"slots": 0}, "pools.0.slots (pool test-chat): Input should be greater than or equal to 1, not 0. Requests"),
        ({"engine": "vllm"}, "not 'vllm'. url: a server you run"),
        ({"colour": "red"}, "colour (pool test-chat): is no field here. There are: code, kind"),
        ({"slotz": 2}, "Did you mean `slots`?"),
    ],
)
def test_a_bad_pool_is_named(
    pool: dict[str, Any], says: str, portal: FakePortal, engine: tests.engine.Running, tmp_path: Path
) -> None:
    path = tmp_path / "runner.toml"
    path.write_text(toml(settings(portal, engine, tmp_path, **pool)))
    with pytest.raises(config.BadConfiguration) as raised:
        config.load(path)
    assert "pools.0" in str(raised.value)
    assert says in str(raised.value)


def test_no_django_and_no_database() -> None:
    """Every module of the runner, imported where Celery is tempted to load Django's settings."""
    program = """
import importlib, pkgutil, sys
import apps.runner
from apps.runner.__main__ import forbid
forbid()
names = [module.name for module in pkgutil.walk_packages(apps.runner.__path__, "apps.runner.")]
for name in names:
    importlib.import_module(name)
from apps.runner import worker
worker.application(broker_url="redis://127.0.0.1:9", pools=["x"], accept=print).loader
banned = {name for name, module in sys.modules.items() if module and name.split(".")[0] in {"django", "psycopg", "cango_portal"}}
others = {name for name in sys.modules if name.startswith("apps.") and name.split(".")[1] not in {"runner", "core"}}
assert not banned | others, banned | others
print(len(names))
"""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "cango_portal.settings"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20
