"""A row in progress is shown to who watches, as it is written, and nothing is sent where nobody does."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import redis
import redis.asyncio

import tests.engine
from apps.batches.writing import Writing as Heard
from apps.runner import protocol, shard, showing
from apps.runner.engines.engine import Piece, Work
from apps.runner.execution import Station
from apps.runner.gate import Gate
from apps.runner.output import Output, Writer
from apps.runner.process import Runner
from apps.runner.protocol import Order, Task, Usage, Watch, Writing
from apps.runner.shard import ShardExecution
from tests.runner.conftest import order
from tests.runner.portal import FakePortal
from tests.runner.test_execution import Bench, until
from tests.runner.test_leases import begun, runner  # noqa: F401

SAID = ["Brot 🥐", "面包", " — ", "👩‍🍳", "é\n", "𠜎"]


class Paced:
    """An engine whose rows say a piece each time they are let go on."""

    def __init__(self) -> None:
        self.steps: dict[str, asyncio.Queue[str | None]] = {}

    async def run(self, work: Work) -> AsyncGenerator[Piece, None]:
        name = work.body["name"]
        queue = self.steps.setdefault(name, asyncio.Queue())
        count = 0
        while (said := await queue.get()) is not None:
            count += 1
            yield Piece(
                choices=[{"index": 0, "delta": {"content": said}}, {"index": 1, "delta": {"content": "other"}}],
                usage=Usage(prompt_tokens=3, completion_tokens=count),
            )
        yield Piece(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])

    def say(self, name: str, *words: str | None) -> None:
        for word in words:
            self.steps.setdefault(name, asyncio.Queue()).put_nowait(word)


class Shard:
    """One of some rows, two of them at a time, and what is read of it."""

    def __init__(
        self,
        streams: redis.asyncio.Redis,
        portal: FakePortal,
        valkey: redis.Redis,
        rows: int,
        first: int = 1,
        **fields: Any,
    ) -> None:
        self.bench = Bench("http://127.0.0.1:9/v1", streams, portal.url)
        self.valkey = valkey
        self.engine = Paced()
        tasks = [Task(line=n, body={"name": f"row {n}"}) for n in range(first, first + rows)]
        self.order = order(shard=True, body=None, body_url="/shard", **fields)
        portal.files["/shard"] = b"".join(task.model_dump_json().encode() + b"\n" for task in tasks)
        station = Station(
            engine=self.engine,
            meter=None,
            portal=self.bench.portal,
            claimant="a" * 32,
            report=self.bench.reports.append,
        )
        output = Output(Writer(streams), self.order, "a" * 32)
        self.execution = ShardExecution(self.order, station=station, output=output, gate=Gate(2))
        self.key = protocol.rows(self.order.pool, self.order.job, self.order.attempt)
        self.running = asyncio.create_task(self.execution.run())

    def watch(self, *, text: bool = True, seconds: float = 15) -> None:
        self.execution.showing.watch(Watch(job=self.order.job, attempt=1, text=text, seconds=seconds))

    @property
    def said(self) -> list[Writing]:
        found: Any = self.valkey.xrange(self.key)
        return [Writing.model_validate_json(fields["e"]) for _, fields in found]

    @property
    def heard(self) -> Heard:
        """What a reader who comes now has of it."""
        heard = Heard()
        for entry in self.said:
            heard.take({"e": entry.model_dump_json()})
        return heard

    async def until_heard(self, text: str) -> Heard:
        await until(lambda: str(self.heard.text) == text)
        return self.heard

    async def end(self, rows: int) -> None:
        for n in range(1, rows + 1):
            self.engine.say(f"row {n}", "x", None)
        await asyncio.wait_for(self.running, 5)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(showing, "PACE_SECONDS", 0.01)
    monkeypatch.setattr(showing, "ROW_SECONDS", 0.05)


async def test_the_newest_row_is_shown_exactly_and_then_the_next(
    streams: redis.asyncio.Redis, portal: FakePortal, valkey: redis.Redis
) -> None:
    made = Shard(streams, portal, valkey, 3)
    await until(lambda: len(made.engine.steps) == 2)
    made.engine.say("row 2", *SAID[:3])
    await until(made.engine.steps["row 2"].empty)
    made.watch()
    heard = await made.until_heard("".join(SAID[:3]))
    assert (heard.line, heard.running, heard.tokens, heard.ended) == (2, 2, 3, False)
    for said in SAID[3:]:
        made.engine.say("row 2", said)
        await until(made.engine.steps["row 2"].empty)
    heard = await made.until_heard("".join(SAID))
    assert [entry.off for entry in made.said] == sorted({entry.off for entry in made.said})
    first = heard.number
    made.engine.say("row 2", None)
    await until(lambda: (made.heard.line, made.heard.running) == (3, 2))  # row 3 took its place beside row 1
    heard = made.heard
    assert (str(heard.text), heard.tokens, heard.ended) == ("", 0, False)
    assert heard.number > first
    assert {entry.line for entry in made.said} == {3}  # of the one before nothing is left
    assert 0 < valkey.ttl(made.key) <= 60
    await made.end(3)
    assert 0 < valkey.ttl(made.key) <= 10
    (report,) = [report for report in made.bench.reports if report.kind == "finished"]
    rows = {row.line: row for each in made.bench.reports for row in each.rows}
    assert report.state == "succeeded"
    assert rows[2].choices == [
        {"index": 0, "delta": {"content": "".join(SAID)}, "finish_reason": "stop"},
        {"index": 1, "delta": {"content": "other" * len(SAID)}},
    ]


async def test_nothing_is_said_where_nobody_watches_and_no_more_when_they_have_gone(
    streams: redis.asyncio.Redis, portal: FakePortal, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Shard(streams, portal, valkey, 2)
    await until(lambda: len(made.engine.steps) == 2)
    made.engine.say("row 2", "unseen")
    await asyncio.sleep(0.1)
    assert valkey.keys("*:rows") == []
    assert made.execution.showing.telling is None
    made.watch(seconds=0.2)
    await made.until_heard("unseen")
    telling = made.execution.showing.telling
    assert telling
    await asyncio.wait_for(telling, 2)
    before = made.said
    made.engine.say("row 2", " too")
    await asyncio.sleep(0.1)
    assert made.said == before
    made.watch(seconds=0.2)  # somebody comes back soon: the text goes on
    heard = await made.until_heard("unseen too")
    assert heard.number == before[-1].number
    await asyncio.wait_for(made.execution.showing.telling, 2)  # type: ignore[arg-type]
    valkey.delete(made.key)  # a minute later: it is begun anew
    made.watch(seconds=0.2)
    assert (await made.until_heard("unseen too")).number > heard.number
    await asyncio.wait_for(made.execution.showing.telling, 2)  # type: ignore[arg-type]
    made.engine.say("row 2", None)
    await until(lambda: len(made.execution.showing.rows) == 1)
    valkey.delete(made.key)
    monkeypatch.setattr(showing, "ROW_SECONDS", 60)
    made.watch()  # what has ended meanwhile is not shown: the next is
    await until(lambda: made.heard.line == 1)
    assert {entry.line for entry in made.said} == {1}
    await made.end(2)


async def test_the_next_row_is_shown_though_others_end_all_the_time(
    streams: redis.asyncio.Redis, portal: FakePortal, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(showing, "ROW_SECONDS", 0.2)
    made = Shard(streams, portal, valkey, 2)
    await until(lambda: len(made.engine.steps) == 2)
    made.watch()
    made.engine.say("row 2", "x", None)
    await until(lambda: made.heard.ended)
    seen = 0
    while made.heard.line == 2:
        other = made.execution.showing.begin(1000)
        await until(lambda: made.heard.running == 2)
        made.execution.showing.end(other)
        await until(lambda: made.heard.running == 1)
        seen += 1
        assert seen < 50
    assert seen > 2
    await made.end(1)


async def test_of_other_shards_only_how_many_rows_are_in_progress(
    streams: redis.asyncio.Redis, portal: FakePortal, valkey: redis.Redis
) -> None:
    made = Shard(streams, portal, valkey, 2)
    await until(lambda: len(made.engine.steps) == 2)
    made.engine.say("row 1", "unseen")
    made.watch(text=False)
    await until(lambda: made.said)
    assert [(entry.running, entry.line, entry.text) for entry in made.said] == [(2, None, "")]
    made.engine.say("row 1", None)
    await until(lambda: made.heard.running == 1)
    assert len(made.said) == 1  # however long it is watched
    made.watch()
    made.engine.say("row 2", "seen")
    heard = await made.until_heard("seen")
    assert (heard.line, heard.running) == (2, 1)
    await made.end(2)


async def test_a_lost_stream_is_begun_anew_and_a_valkey_that_is_away_costs_no_row(
    streams: redis.asyncio.Redis, portal: FakePortal, valkey: redis.Redis
) -> None:
    made = Shard(streams, portal, valkey, 2)
    await until(lambda: len(made.engine.steps) == 2)
    made.watch()
    made.engine.say("row 2", *SAID)
    first = (await made.until_heard("".join(SAID))).number
    valkey.delete(made.key)
    made.engine.say("row 2", "more")
    assert (await made.until_heard("".join([*SAID, "more"]))).number > first

    async def away(*_: Any) -> None:
        raise redis.ConnectionError

    made.execution.output.show = away  # type: ignore[method-assign]
    made.execution.output.leave = away  # type: ignore[method-assign]
    await made.end(2)
    rows = {row.line: row for each in made.bench.reports for row in each.rows}
    assert sorted(rows) == [1, 2]
    assert rows[2].choices[0]["delta"]["content"] == "".join([*SAID, "more", "x"])


async def test_the_text_of_the_last_row_is_told_whole_with_its_end(
    streams: redis.asyncio.Redis, portal: FakePortal, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Shard(streams, portal, valkey, 2)
    await until(lambda: len(made.engine.steps) == 2)
    made.watch()
    made.engine.say("row 2", *SAID[:2])
    await made.until_heard("".join(SAID[:2]))
    monkeypatch.setattr(showing, "PACE_SECONDS", 60)
    await asyncio.sleep(0.1)  # the teller sleeps until long after the end
    made.engine.say("row 2", *SAID[2:])
    await made.end(2)
    heard = made.heard
    assert (str(heard.text), heard.ended, heard.running) == ("".join([*SAID, "x"]), True, 0)


async def test_a_long_text_stops_between_two_characters(
    streams: redis.asyncio.Redis, portal: FakePortal, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(showing, "TEXT_UNITS", 8)
    made = Shard(streams, portal, valkey, 2)
    await until(lambda: len(made.engine.steps) == 2)
    made.watch()
    made.engine.say("row 2", "面包🥐123🥐", "4")
    await until(lambda: made.heard.tokens == 2)
    assert str(made.heard.text) == "面包🥐123"
    assert [entry.text for entry in made.said if entry.text] == ["面包🥐123"]
    await made.end(2)


async def test_a_runner_hears_who_watches_by_its_own_stream(
    runner: Runner,  # noqa: F811
    portal: FakePortal,
    engine: tests.engine.Running,
    valkey: redis.Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine.control(tokens_per_second=20)
    row = Task(line=7, body={"messages": []}, max_completion_tokens=1000)
    portal.files["/shard"] = row.model_dump_json().encode() + b"\n"
    job: Order = order(shard=True, body=None, body_url="/shard")
    execution = await begun(runner, job)
    chat = await begun(runner, order(max_completion_tokens=1000))
    told = protocol.watching(runner.claimant)
    for each in (job.job, chat.order.job, "unknown"):
        valkey.xadd(told, {"e": Watch(job=each, attempt=1, text=True, seconds=15).model_dump_json()})
    valkey.xadd(told, {"e": "no JSON"})
    key = protocol.rows(job.pool, job.job, 1)
    heard = Heard()

    def read() -> bool:
        for _, fields in valkey.xrange(key):
            heard.take(fields)
        return str(heard.text).startswith(tests.engine.text(5))

    await until(read)
    assert (heard.line, heard.running) == (7, 1)
    assert valkey.keys("*:rows") == [key]
    assert "a word of who watches is malformed" in caplog.text
    for each in (execution, chat):
        each.finish("stop")
    await until(lambda: not runner.attempts.executions)
    assert 0 < valkey.ttl(key) <= 10


def test_units_are_those_of_javascript() -> None:
    for text in SAID:
        assert showing.units(text) == len(text.encode("utf-16-le")) // 2
    assert shard.Showing is showing.Showing
