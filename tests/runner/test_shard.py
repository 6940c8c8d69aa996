"""A shard of a batch against an engine of our own pace."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import redis.asyncio

import tests.engine
from apps.runner import shard as shards
from apps.runner.answer import Answer
from apps.runner.engines.engine import EngineFailed, Piece, Work
from apps.runner.execution import Station
from apps.runner.gate import Gate
from apps.runner.output import Output, Writer
from apps.runner.protocol import Energy, Failure, Order, Report, Task, Usage
from apps.runner.reports import Spool
from apps.runner.shard import ShardExecution, merged
from tests.runner.conftest import order
from tests.runner.portal import FakePortal
from tests.runner.test_execution import Bench, until

BODY = {"messages": [{"role": "user", "content": "how much power is left"}]}
AWAY = Failure(code="engine_unavailable", message="The engine stopped.", status=503, retryable=True)
BAD = Failure(code="invalid_request", message="That cannot be done.", status=400)


class Counter:
    """A meter of 1,000 mJ more at each reading."""

    def __init__(self) -> None:
        self.used = 0

    def begin(self, key: object, work: Any) -> None:
        self.work = work

    async def so_far(self, key: object) -> Energy:
        self.used += 1000
        return Energy(gpu_energy_mj=self.used, quality="counter")

    end = so_far


class Scripted:
    """An engine that fails the lines it is told to, so many times."""

    def __init__(self, fails: dict[str, list[Failure]] | None = None, *, seconds: float = 0) -> None:
        self.fails = fails or {}
        self.seconds = seconds
        self.most = self.active = 0

    async def run(self, work: Work) -> AsyncGenerator[Piece, None]:
        self.active += 1
        self.most = max(self.most, self.active)
        try:
            await asyncio.sleep(self.seconds)
            name = work.body["name"]
            if self.fails.get(name):
                raise EngineFailed(self.fails[name].pop(0))
            yield Piece(
                choices=[{"index": 0, "delta": {"content": name}, "finish_reason": "stop"}],
                usage=Usage(prompt_tokens=3, completion_tokens=1),
            )
        finally:
            self.active -= 1


@pytest.fixture
def execution(streams: redis.asyncio.Redis, portal: FakePortal) -> Any:
    bench = Bench("http://127.0.0.1:9/v1", streams, portal.url)

    def make(engine: Any, count: int, *, slots: int = 4, meter: Any = None, bodies: Any = None) -> tuple[Any, Bench]:
        tasks = [
            Task(line=n, body={"name": f"row {n}"} if bodies is None else bodies, max_completion_tokens=4)
            for n in range(1, count + 1)
        ]
        job: Order = order(shard=True, body=None, body_url="/shard")
        portal.files["/shard"] = b"".join(task.model_dump_json().encode() + b"\n" for task in tasks)
        station = Station(
            engine=engine, meter=meter, portal=bench.portal, claimant="a" * 32, report=bench.reports.append
        )
        return ShardExecution(
            job, station=station, output=Output(Writer(streams), job, "a" * 32), gate=Gate(slots)
        ), bench

    return make


def rows(bench: Bench) -> list[Any]:
    return [row for report in bench.reports for row in report.rows]


async def test_rows_run_side_by_side_and_each_is_reported_once(execution: Any, engine: tests.engine.Running) -> None:
    made, bench = execution(Bench(engine.url, None, "http://127.0.0.1:9").engine, 30, bodies=BODY)
    await made.run()
    assert [report.kind for report in bench.reports][:1] == ["started"]
    assert sorted(row.line for row in rows(bench)) == list(range(1, 31))
    assert all(row.choices[0]["delta"]["content"] == tests.engine.text(4) for row in rows(bench))
    assert {(row.usage.prompt_tokens, row.usage.completion_tokens) for row in rows(bench)} == {(5, 4)}
    last = bench.finished
    assert (last.state, last.shard, made.lease.done, made.lease.total) == ("succeeded", True, 30, 30)


async def test_no_more_rows_run_than_the_engine_takes_beside_its_other_work(execution: Any) -> None:
    engine = Scripted(seconds=0.01)
    made, bench = execution(engine, 20, slots=4)
    made.gate.enter()
    await made.run()
    assert (engine.most, len(rows(bench))) == (3, 20)
    full = execution(Scripted(), 3, slots=1)[0]
    full.gate.enter()
    await full.run()  # one may always run


async def test_the_shard_that_came_first_ends_first(execution: Any) -> None:
    engine = Scripted(seconds=0.01)
    first, _ = execution(engine, 20, slots=4)
    second, bench = execution(engine, 20, slots=4)
    second.gate, second.place = first.gate, first.gate.number()
    running = asyncio.create_task(second.run())
    await first.run()
    assert (second.done or 0) <= 8  # side by side both would be nearly through
    await running
    assert (engine.most, len(rows(bench))) == (4, 40)


async def test_a_row_that_is_given_up_in_line_leaves_no_place_taken(execution: Any) -> None:
    gate = execution(Scripted(), 1, slots=1)[0].gate

    async def row(shard: int) -> None:
        async with gate.row(shard):
            await asyncio.sleep(0)

    async with gate.row(1):
        waiting = [asyncio.create_task(row(shard)) for shard in (2, 3, 4)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        waiting[1].cancel()  # and is still in line when the row before it ends
    await asyncio.wait_for(waiting[2], 1)
    assert (gate.rows, gate.line) == (0, [])
    await asyncio.wait_for(row(5), 1)


async def test_energy_of_the_rows_sums_to_what_the_meter_gave(execution: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(shards, "PART_SECONDS", 0.02)
    meter = Counter()
    made, bench = execution(Scripted(seconds=0.01), 23, slots=3, meter=meter)
    await made.run()
    parts = [report for report in bench.reports if report.kind == "rows"]
    assert len(parts) >= 2
    assert [part.part for part in parts] == list(range(1, len(parts) + 1))
    assert sum(row.gpu_energy_mj for row in rows(bench)) == meter.used
    assert made.units() == 23 * (3 + 10)


async def test_reports_are_cut_by_their_bytes_too(execution: Any, monkeypatch: Any) -> None:
    made, bench = execution(Scripted(), 9)
    monkeypatch.setattr(
        shards, "PART_BYTES", 3 * shards.size_of(await made.answer_of(Task(line=1, body={"name": "row 1"})))
    )
    await made.run()
    assert sorted(row.line for row in rows(bench)) == list(range(1, 10))
    told = [report for report in bench.reports if report.rows]
    assert len(told) >= 3
    assert max(len(report.rows) for report in told) == 3
    assert bench.finished.rows
    bench.reports.clear()
    monkeypatch.setattr(shards, "ROW_BYTES", 10)
    made, bench = execution(Scripted(), 2)
    await made.run()
    assert [row.failure.code for row in rows(bench)] == ["answer_too_large"] * 2


async def test_a_row_that_failed_is_tried_again_and_a_bad_one_is_not(execution: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(shards, "FIRST_PAUSE", 0.001)
    made, bench = execution(Scripted({"row 2": [AWAY, AWAY], "row 3": [BAD, BAD]}), 4)
    await made.run()
    found = {row.line: row for row in rows(bench)}
    assert (found[2].failure, found[3].failure) == (None, BAD)
    assert bench.finished.state == "succeeded"


async def test_what_an_engine_did_not_do_is_left_for_another_attempt(execution: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(shards, "FIRST_PAUSE", 0.001)
    made, bench = execution(Scripted({"row 2": [AWAY] * 9}), 4)
    await made.run()
    assert sorted(row.line for row in rows(bench)) == [1, 3, 4]
    assert (bench.finished.state, bench.finished.failure) == ("failed", AWAY)
    bench.reports.clear()
    broken = Scripted({f"row {n}": [AWAY] * 9 for n in range(1, 100)})
    made, bench = execution(broken, 90)
    await made.run()
    assert rows(bench) == []
    assert bench.finished.failure == AWAY
    assert sum(9 - len(left) for left in broken.fails.values()) < 20  # it gives up soon


@pytest.mark.parametrize("reason", ["cancel", "stop", "shutdown"])
async def test_it_ends_early_with_the_rows_that_are_done(execution: Any, reason: str) -> None:
    engine = Scripted(seconds=0.02)
    made, bench = execution(engine, 1000, slots=2)
    running = asyncio.create_task(made.run())
    await until(lambda: (made.done or 0) >= 6)
    made.finish(reason)
    await asyncio.wait_for(running, 2)
    await until(lambda: engine.active == 0)
    if reason == "stop":
        assert [report.kind for report in bench.reports if report.kind == "finished"] == []
    else:
        assert bench.finished.state == ("cancelled" if reason == "cancel" else "failed")
        assert len(rows(bench)) == made.done


def test_parts_lie_side_by_side_in_the_spool(tmp_path: Any) -> None:
    spool = Spool(tmp_path)
    common = {"job": "j", "attempt": 1, "fence": "f", "claimant": "c", "at": 1.0, "shard": True}
    reports = [Report(kind="rows", part=n, **common) for n in (1, 2)] + [Report(kind="finished", part=2, **common)]
    for each in reports:
        spool.keep([each])
    assert sorted(spool.left(), key=reports.index) == reports
    spool.drop(reports[:2])
    assert spool.left() == reports[2:]
    spool.close()


def test_the_merged_chunk_says_what_all_said() -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a'}}
    chunks = [
        [{"index": 0, "delta": {"role": "assistant", "content": "Hel"}, "logprobs": {"content": [{"token": "Hel"}]}}],
        [{"index": 1, "delta": {"content": "other"}, "finish_reason": "length"}],
        [{"index": 0, "delta": {"content": "lo"}, "logprobs": {"content": [{"token": "lo"}]}}],
        [{"index": 0, "delta": {"tool_calls": [call]}}],
        [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": '": 1}'}}]}}],
        [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}],
    ]
    made = merged(chunks)
    first = made[0]
    assert (first["delta"]["role"], first["delta"]["content"], first["finish_reason"]) == (
        "assistant",
        "Hello",
        "tool_calls",
    )
    assert first["logprobs"] == {"content": [{"token": "Hel"}, {"token": "lo"}]}
    assert first["delta"]["tool_calls"] == [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}]  # fmt: skip
    assert made[1] == {"index": 1, "delta": {"content": "other"}, "finish_reason": "length"}
    one, many = Answer(), Answer()
    one.add(made)
    for chunk in chunks:
        many.add(chunk)
    assert one.messages() == many.messages()
