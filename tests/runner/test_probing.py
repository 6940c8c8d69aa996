"""A pool without work is asked what it must know; a node in burn-in is tested and measured. Energy of both is the platform's."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

import tests.engine
from apps.runner import burning_in, config, golden, probing
from apps.runner.engines.engine import Piece, Work, unavailable
from apps.runner.engines.openai_http import OpenAIEngine, packed
from apps.runner.golden import USUAL, House
from apps.runner.meter import Meter
from apps.runner.probing import Probe
from apps.runner.process import Runner
from apps.runner.protocol import Desired, Golden, Quality, Usage
from apps.runner.resident import Resident
from apps.runner.weights import Store
from tests.runner.conftest import POOL
from tests.runner.portal import FakePortal
from tests.runner.test_execution import until
from tests.runner.test_process import settings

CHAT = {"messages": [{"role": "user", "content": "What sells?"}]}


class Oracle:
    """An engine at its edge: says what a test wants, and how much that was."""

    def __init__(self) -> None:
        self.text = "the site"
        self.result: dict[str, Any] | None = None
        self.fails = False
        self.asked: list[Work] = []
        self.seconds = 0.0

    async def run(self, work: Work) -> AsyncGenerator[Piece, None]:
        self.asked.append(work)
        if self.fails:
            raise unavailable("out of order")
        await asyncio.sleep(self.seconds)
        if self.result is None:
            choice = {"index": 0, "delta": {"content": self.text}, "finish_reason": None}
            yield Piece(choices=[choice], usage=Usage(prompt_tokens=3, completion_tokens=10))
        else:
            yield Piece(result=self.result, usage=Usage(prompt_tokens=3))


class Steady:
    """A counter that adds so many millijoules whenever it is read."""

    quality: Quality = "counter"

    def __init__(self) -> None:
        self.millijoules = 0

    async def read(self) -> int | None:
        self.millijoules += 1000
        return self.millijoules


def vector(*values: float) -> dict[str, Any]:
    return {"data": [{"index": 0, "embedding": packed(list(values))}]}


@pytest.mark.parametrize(
    ("kind", "known", "said", "found"),
    [
        ("chat", Golden(body=CHAT, contains="SITE"), {}, ""),
        ("chat", Golden(body=CHAT, contains="Paris"), {}, 'it answers "the site", without "Paris"'),
        ("chat", USUAL["chat"], {"text": " \n"}, "it answers nothing"),
        ("chat", USUAL["chat"], {"fails": True}, "engine_unavailable: out of order"),
        ("chat", USUAL["chat"], {"seconds": 9.0}, "no answer within 0 s"),
        ("embeddings", USUAL["embeddings"], {"result": vector(0.6, 0.8)}, ""),
        ("embeddings", USUAL["embeddings"], {"result": vector(0.0, 0.0)}, "its vector is empty or not made of numbers"),
        ("embeddings", USUAL["embeddings"], {"result": vector(float("nan"), 1.0)}, "its vector is empty or not made of numbers"),
        ("embeddings", Golden(body={}, vector=[0.6, 0.8]), {"result": vector(0.6, 0.801)}, ""),
        ("embeddings", Golden(body={}, vector=[0.8, -0.6]), {"result": vector(0.6, 0.8)}, "its vector is like the known one by 0.000 only"),
        ("embeddings", Golden(body={}, vector=[1.0]), {"result": vector(0.6, 0.8)}, "its vector has 2 dimensions, not 1"),
        ("rerank", Golden(body={}, best=1), {"result": {"results": [{"index": 1, "relevance_score": 1.0}]}}, ""),
        ("rerank", Golden(body={}, best=0), {"result": {"results": [{"index": 1, "relevance_score": 1.0}]}}, "document 1 is said to be the best, not 0"),
    ],
)  # fmt: skip
async def test_an_answer_is_right_or_told_in_words(kind: Any, known: Golden, said: dict[str, Any], found: str) -> None:
    oracle = Oracle()
    for name, value in said.items():
        setattr(oracle, name, value)
    assert await golden.tried(oracle, kind=kind, model="m", golden=known, house=House(), seconds=0.2) == found
    (work,) = oracle.asked
    if kind == "chat":
        assert (work.body["temperature"], work.max_completion_tokens) == (0, 16)


async def test_what_is_asked_for_nobody_costs_no_customer() -> None:
    """Beside it a customer's work has its own tokens and time: half of one, none of the other's."""
    meter = Meter(Steady(), fixed_w=0.0)
    meter.last = await meter.counter.read()
    oracle, done = Oracle(), 0
    meter.begin("customer", lambda: done)
    async with golden.on_the_house(meter) as house:
        assert await golden.tried(oracle, kind="chat", model="m", golden=USUAL["chat"], house=house, seconds=1) == ""
        done = house.units
    used = await meter.end("customer")
    assert house.units > 0
    assert house.energy
    assert used
    assert house.energy.gpu_energy_mj == 500
    assert used.gpu_energy_mj + meter.idle_mj == meter.total_mj  # nothing is lost, nothing counted twice
    assert used.gpu_energy_mj == meter.total_mj - 500


class Bed:
    """A probe whose resident is ready, with an oracle for its engine."""

    def __init__(self, directory: Path) -> None:
        self.oracle = Oracle()
        self.running = 0
        self.resident = Resident(
            "a", make=lambda _: self.engine, store=Store(directory), file=None, fed=False, slots=2,
            busy=lambda: self.running, changed=lambda: None,
        )  # fmt: skip
        self.engine: Any = self.oracle
        self.resident.engine = self.engine
        self.resident.show("ready", "", ready=True)
        self.probe = Probe(self.resident, kind="chat", model="m")

    async def look(self) -> int:
        """How often it was asked by this look."""
        before = len(self.oracle.asked)
        await self.probe.look(None)
        return len(self.oracle.asked) - before


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path)


async def test_only_a_quiet_pool_is_asked(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await bed.look() == 0  # it has begun a moment ago
    monkeypatch.setattr(probing, "QUIET_SECONDS", 0.05)
    monkeypatch.setattr(probing, "AGAIN_SECONDS", 0.0)
    await asyncio.sleep(0.06)
    bed.running = 2
    assert await bed.look() == 0  # it is full
    bed.running = 1
    assert await bed.look() == 1
    assert await bed.look() == 0  # it was well a moment ago
    await asyncio.sleep(0.06)
    bed.probe.worked()
    assert await bed.look() == 0
    await asyncio.sleep(0.06)
    bed.resident.show("parked", "", ready=True)
    assert await bed.look() == 0  # not woken for this


async def test_a_wrong_answer_takes_the_pool_out_until_it_is_right(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "QUIET_SECONDS", 0.0)
    bed.resident.desired = Desired(
        pool="a", golden=[Golden(body=CHAT, contains="site"), Golden(body=CHAT, contains="none")]
    )
    bed.oracle.text = "a a a a"
    assert await bed.probe.look(None) is True
    assert bed.probe.failure == 'its probe failed: it answers "a a a a", without "site"'
    assert await bed.look() == 0  # not at once again
    bed.probe.due_at = 0.0
    bed.oracle.text = "the site"
    assert await bed.probe.look(None) is True
    assert bed.probe.failure == ""
    bed.probe.failure = "x"
    bed.resident.show("error", "it ended")
    await bed.probe.look(None)
    assert bed.probe.failure == ""  # that itself is told


async def test_work_that_succeeds_says_as_much_as_a_right_answer(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "QUIET_SECONDS", 0.0)
    bed.oracle.text = ""
    await bed.look()
    assert bed.probe.failure == "its probe failed: it answers nothing"
    bed.probe.worked()
    assert bed.probe.failure == ""


@pytest.mark.parametrize("meanwhile", ["parked", "other weights"])
async def test_what_was_unloaded_while_it_was_asked_has_not_failed(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    monkeypatch.setattr(probing, "QUIET_SECONDS", 0.0)
    bed.oracle.seconds, bed.oracle.text = 0.02, ""
    asked = asyncio.create_task(bed.probe.look(None))
    await until(lambda: bed.oracle.asked)
    if meanwhile == "parked":
        bed.resident.show("parked", "", ready=True)
    else:
        bed.resident.engine = Oracle()  # type: ignore[assignment]
    assert await asked is False
    assert (bed.probe.failure, bed.probe.due_at) == ("", 0.0)


@pytest.mark.story
async def test_a_test_measures_growing_concurrency_and_names_what_is_wrong(
    bed: Bed, engine: tests.engine.Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(burning_in, "LEVEL_SECONDS", 0.05)
    monkeypatch.setattr(burning_in, "IDLE_SECONDS", 0.05)
    engine.control(tokens_per_second=400)
    bed.resident.engine = OpenAIEngine(url=engine.url)
    bed.resident.slots = 6
    known = [Golden(body=CHAT, contains="site"), Golden(body=CHAT, contains="Paris")]
    bed.resident.desired = Desired(pool="a", test=7, golden=known)
    meter = Meter(Steady())
    await meter.start()

    async def tested(fault: str = "") -> Any:
        return await burning_in.test(
            bed.resident, kind="chat", model=tests.engine.MODEL, meter=meter,
            gpus={"GPU-0": {"name": "NVIDIA H200", "driver": "570.86.15"}}, fault=lambda: fault,
        )  # fmt: skip

    result = await tested()
    assert [level.concurrency for level in result.levels] == [1, 2, 4, 6]
    assert [level.requests >= level.concurrency for level in result.levels] == [True] * 4
    speeds = [level.tokens_per_second for level in result.levels]
    assert 100 < speeds[0] <= 420
    assert speeds[3] > 2 * speeds[0]
    assert all(level.power_w is not None and level.power_w > 0 for level in result.levels)
    assert result.idle_w is not None
    assert (result.test, result.gpu, result.driver, result.quality) == (7, "NVIDIA H200", "570.86.15", "counter")
    assert result.passed is False
    assert [(each.good, each.text) for each in result.findings][::2] == [
        (True, "golden prompt 1: right"),
        (True, "its GPUs are well"),
    ]
    assert result.findings[1].text.startswith("golden prompt 2: it answers")
    bed.resident.desired = Desired(pool="a", test=8, golden=known[:1])
    assert (await tested()).passed
    result = await tested("GPU-0: XID 79: the GPU fell off the bus")
    assert (result.passed, result.findings[-1].text) == (False, "GPU-0: XID 79: the GPU fell off the bus")
    engine.control(fail_status=500)
    result = await tested()
    assert (result.passed, result.levels) == (False, [])
    assert any(each.text.startswith("1 requests at a time: ") for each in result.findings)
    await meter.stop()
    await bed.resident.engine.stop()


@pytest.mark.whole
async def test_a_failing_probe_takes_its_own_pool_out_and_a_test_is_reported_once(
    portal: FakePortal, engine: tests.engine.Running, tmp_path: Path, valkey: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "QUIET_SECONDS", 0.1)
    monkeypatch.setattr(probing, "AGAIN_SECONDS", 0.1)
    monkeypatch.setattr("apps.runner.checks.LOOK_SECONDS", 0.05)
    monkeypatch.setattr("apps.runner.heartbeat.BEAT_SECONDS", 0.1)
    monkeypatch.setattr(burning_in, "LEVEL_SECONDS", 0.05)
    monkeypatch.setattr(burning_in, "IDLE_SECONDS", 0.05)
    given = settings(portal, engine, tmp_path / "spool")
    given["pools"].append({**given["pools"][0], "code": "other"})
    wrong = Golden(body=CHAT, contains="Paris")
    portal.wanted = portal.want(Desired(pool=POOL, golden=[wrong]), Desired(pool="other", test=4))
    usual, tested = portal.answer, []

    def answer(path: str, body: bytes) -> tuple[int, bytes]:
        if path == "/agent/v1/burn-in":
            tested.append(path)
        return (503, b"{}") if len(tested) == 1 and path == tested[0] else usual(path, body)

    portal.answer = answer  # type: ignore[method-assign]
    runner = Runner(config.Configuration.model_validate(given))
    await runner.start()

    def said() -> dict[str, tuple[bool, str]]:
        return {each.pool: (each.ready, each.reason) for each in portal.heartbeats[-1].pools}

    reason = f'its probe failed: it answers "{tests.engine.text(16)[:80]}", without "Paris"'
    try:
        await asyncio.to_thread(
            portal.wait, lambda: portal.heartbeats and said() == {POOL: (False, reason), "other": (True, "")}
        )
        await asyncio.to_thread(portal.wait, lambda: portal.burn_ins)
        await until(lambda: not runner.posts["other"].testing)
        (result,) = portal.burn_ins
        assert (result.pool, result.test, result.passed) == ("other", 4, True)
        assert [level.concurrency for level in result.levels] == [1, 2, 4]
        portal.wanted = portal.want(Desired(pool=POOL), Desired(pool="other"))
        await asyncio.to_thread(portal.wait, lambda: said()[POOL] == (True, ""))
        assert (len(tested), len(portal.burn_ins)) == (2, 1)  # the first result found the portal away
    finally:
        await runner.stop(asyncio.Event())


@pytest.mark.story
async def test_a_test_waits_for_a_ready_pool_counts_as_its_work_and_has_it_alone(
    portal: FakePortal, engine: tests.engine.Running, tmp_path: Path, valkey: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.runner.checks.LOOK_SECONDS", 0.02)
    monkeypatch.setattr("apps.runner.heartbeat.BEAT_SECONDS", 0.05)
    monkeypatch.setattr("apps.runner.attempts.FINISH_SECONDS", 0.0)
    states, looks, look = [], [], Probe.look

    async def measured(resident: Resident, **_: Any) -> None:
        states.append(resident.state)
        await asyncio.Event().wait()

    async def looked(probe: Probe, meter: Meter | None) -> bool:
        looks.append(runner.posts[POOL].testing)
        return await look(probe, meter)

    monkeypatch.setattr(burning_in, "test", measured)
    monkeypatch.setattr(Probe, "look", looked)
    portal.wanted = portal.want(Desired(pool=POOL, state="parked"))
    runner = Runner(config.Configuration.model_validate(settings(portal, engine, tmp_path)))
    await runner.start()
    try:
        resident = runner.posts[POOL].resident
        await until(lambda: resident.state == "parked")
        portal.wanted = portal.want(Desired(pool=POOL, state="parked", test=4))
        await until(lambda: resident.desired.test)
        before = len(looks)
        await until(lambda: len(looks) > before + 2)
        assert (states, resident.busy()) == ([], 0)
        portal.wanted = portal.want(Desired(pool=POOL, test=4))
        await until(lambda: states)
        assert (states, resident.busy()) == (["ready"], 1)
        before = len(looks)
        await asyncio.sleep(0.2)
        assert (len(looks), 1 in looks) == (before, False)
    finally:
        await runner.stop(asyncio.Event())
