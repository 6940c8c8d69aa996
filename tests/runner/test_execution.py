"""One attempt against a real Valkey and an engine of our own pace."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
import redis
import redis.asyncio

import tests.engine
from apps.runner.engines.engine import Piece, Work
from apps.runner.engines.openai_http import OpenAIEngine
from apps.runner.execution import Execution, Station
from apps.runner.output import Output, Writer
from apps.runner.portal import Portal
from apps.runner.protocol import Entry, Order, Report, Usage, stream
from tests.runner.conftest import order, text_of
from tests.runner.portal import TOKEN, FakePortal

Reader = Callable[[Order], list[Entry]]
QUESTION_TOKENS = 5


class Bench:
    """Makes executions as a runner process would, and keeps what they report."""

    def __init__(self, engine_url: str, streams: redis.asyncio.Redis, portal_url: str = "http://127.0.0.1:9") -> None:
        self.engine = OpenAIEngine(url=engine_url)
        self.portal = Portal(url=portal_url, token=TOKEN)
        self.streams = streams
        self.reports: list[Report] = []

    def execution(self, order: Order, claimant: str = "a" * 32, redis: redis.asyncio.Redis | None = None) -> Execution:
        station = Station(
            engine=self.engine, meter=None, portal=self.portal, claimant=claimant, report=self.reports.append
        )
        return Execution(order, station=station, output=Output(Writer(redis or self.streams), order, claimant))

    @property
    def finished(self) -> Report:
        (report,) = [report for report in self.reports if report.kind == "finished"]
        return report


@pytest.fixture
def bench(engine: tests.engine.Running, streams: redis.asyncio.Redis, portal: FakePortal) -> Bench:
    return Bench(engine.url, streams, portal.url)


async def until(condition: Callable[[], object], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_chat_is_claimed_streamed_and_reported(bench: Bench, entries: Reader, valkey: redis.Redis) -> None:
    job = order()
    await bench.execution(job).run()
    written = entries(job)
    assert (written[0].seq, written[0].chunks, written[0].end) == (0, [], None)
    assert {(entry.claimant, entry.fence) for entry in written} == {("a" * 32, job.fence)}
    assert text_of(written) == tests.engine.text(8)
    last = written[-1]
    assert last.end
    assert last.end.state == "succeeded"
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (QUESTION_TOKENS, 8)
    assert 3500 < valkey.ttl(stream(job.pool, job.job, 1)) <= 3600
    started, finished = bench.reports
    assert (started.kind, started.claimant, started.fence) == ("started", "a" * 32, job.fence)
    assert (finished.state, finished.text, finished.finish_reason) == ("succeeded", tests.engine.text(8), "length")
    assert finished.usage == last.usage
    assert (finished.streamed, finished.result, finished.energy) == (True, None, None)
    assert finished.first_token_at
    assert started.at <= finished.first_token_at <= finished.at


async def test_chunks_that_arrive_together_travel_together(
    bench: Bench, engine: tests.engine.Running, entries: Reader
) -> None:
    engine.control(tokens_per_second=1000)
    job = order(max_completion_tokens=200)
    await bench.execution(job).run()
    written = entries(job)
    assert text_of(written) == tests.engine.text(200)
    assert 5 < len(written) < 60  # 0.2 s, an entry per 15 ms at most


async def test_an_order_delivered_twice_runs_once(bench: Bench, engine: tests.engine.Running, entries: Reader) -> None:
    job = order()
    await asyncio.gather(bench.execution(job, "a" * 32).run(), bench.execution(job, "b" * 32).run())
    assert engine.counts().started == 1
    assert [report.kind for report in bench.reports] == ["started", "finished"]
    assert len({entry.claimant for entry in entries(job)}) == 1


async def test_a_second_claimant_changes_nothing(bench: Bench, engine: tests.engine.Running, entries: Reader) -> None:
    job = order()
    await bench.execution(job, "a" * 32).run()
    before = entries(job)
    await bench.execution(job, "b" * 32).run()
    await bench.execution(job.model_copy(update={"fence": "other"}), "a" * 32).run()
    assert entries(job) == before
    assert engine.counts().started == 1
    assert len(bench.reports) == 2


async def test_a_stream_taken_over_ends_the_attempt_without_a_word(
    bench: Bench, engine: tests.engine.Running, valkey: redis.Redis, entries: Reader
) -> None:
    engine.control(tokens_per_second=50)
    job = order(max_completion_tokens=500)
    running = asyncio.create_task(bench.execution(job, "a" * 32).run())
    await until(lambda: text_of(entries(job)))
    valkey.flushall()
    await Output(Writer(bench.streams), job, "b" * 32).claim()
    await asyncio.wait_for(running, 3)
    engine.wait(lambda counts: counts.hung_up == 1)
    assert [report.kind for report in bench.reports] == ["started"]
    assert [entry.claimant for entry in entries(job)] == ["b" * 32]


async def test_a_flushed_stream_is_written_again_from_its_start(
    bench: Bench, engine: tests.engine.Running, valkey: redis.Redis, entries: Reader
) -> None:
    engine.control(tokens_per_second=100)
    job = order(max_completion_tokens=40)
    running = asyncio.create_task(bench.execution(job).run())
    await until(lambda: len(text_of(entries(job)).split()) > 10)
    valkey.flushall()
    await running
    written = entries(job)
    assert written[0].seq == 0
    assert len(written[0].chunks) > 10  # claim and content at once: dying in between would look as if nothing was said
    assert text_of(written) == tests.engine.text(40) == bench.finished.text


async def test_what_redis_missed_is_written_when_it_is_back(
    bench: Bench, engine: tests.engine.Running, entries: Reader
) -> None:
    job = order()
    execution = bench.execution(job)
    refusing = Refusing(execution.output)
    await execution.claim()
    refusing.away = True
    running = asyncio.create_task(execution.work())
    await until(lambda: engine.counts().finished == 1)
    assert not text_of(entries(job))
    refusing.away = False
    await running
    assert text_of(entries(job)) == tests.engine.text(8)
    assert bench.finished.streamed


async def test_the_report_goes_where_the_stream_cannot(
    bench: Bench, entries: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.runner.execution.SETTLE_SECONDS", 0.1)
    monkeypatch.setattr("apps.runner.execution.LINGER_SECONDS", 0.2)
    job = order()
    execution = bench.execution(job)
    await execution.claim()
    Refusing(execution.output).away = True
    await execution.work()
    assert (bench.finished.state, bench.finished.text) == ("succeeded", tests.engine.text(8))
    assert bench.finished.streamed  # each write may have arrived, and only its answer been lost


class Refusing:
    """Redis away, for one output."""

    def __init__(self, output: Output) -> None:
        self.away = False
        real = output.writer.write

        async def write(key: str, *arguments: str | int) -> str:
            if self.away:
                raise redis.ConnectionError
            return await real(key, *arguments)

        output.writer.write = write  # type: ignore[method-assign]


@pytest.mark.story
async def test_a_write_whose_answer_was_lost_counts_as_delivered(
    bench: Bench, engine: tests.engine.Running, entries: Reader
) -> None:
    engine.control(tokens_per_second=50, cut_after=3)
    job = order()
    execution = bench.execution(job)
    await execution.claim()
    real = execution.output.writer.write

    async def write(key: str, *arguments: str | int) -> str:
        await real(key, *arguments)
        raise redis.ConnectionError

    execution.output.writer.write = write  # type: ignore[method-assign]
    running = asyncio.create_task(execution.work())
    await until(lambda: bench.reports)
    assert text_of(entries(job))
    assert (bench.finished.state, bench.finished.streamed) == ("failed", True)
    running.cancel()


async def test_without_redis_no_claim_and_no_work(bench: Bench, engine: tests.engine.Running) -> None:
    away = redis.asyncio.Redis.from_url("unix:///nonexistent/valkey.sock")
    job = order()
    await bench.execution(job.model_copy(update={"expires_at": job.expires_at - 29.8}), redis=away).run()
    assert engine.counts().started == 0
    assert bench.reports == []


async def test_an_expired_order_is_dropped(bench: Bench, entries: Reader) -> None:
    job = order(expires_at=1.0)
    await bench.execution(job).run()
    assert entries(job) == []
    assert bench.reports == []


async def test_cancel_hangs_up_and_is_charged_to_the_last_entry(
    bench: Bench, engine: tests.engine.Running, entries: Reader
) -> None:
    engine.control(tokens_per_second=100)
    job = order(max_completion_tokens=1000)
    execution = bench.execution(job)
    running = asyncio.create_task(execution.run())
    await until(lambda: len(text_of(entries(job)).split()) > 5)
    execution.finish("cancel")
    await asyncio.wait_for(running, 1)
    engine.wait(lambda counts: counts.hung_up == 1)
    last = entries(job)[-1]
    report = bench.finished
    assert last.end
    assert last.end.state == report.state == "cancelled"
    assert report.failure is None
    assert report.usage == last.usage == entries(job)[-2].usage
    assert report.text == text_of(entries(job)) == tests.engine.text(report.usage.completion_tokens)


async def test_the_deadline_ends_it(bench: Bench, engine: tests.engine.Running, entries: Reader) -> None:
    engine.control(tokens_per_second=20)
    job = order(max_completion_tokens=1000)
    job = job.model_copy(update={"deadline_at": job.deadline_at - 59.7})
    await asyncio.wait_for(bench.execution(job).run(), 3)
    failure = bench.finished.failure
    assert failure
    assert (bench.finished.state, failure.code, failure.status, failure.retryable) == (
        "failed",
        "deadline_exceeded",
        504,
        False,
    )
    assert entries(job)[-1].end
    engine.wait(lambda counts: counts.hung_up == 1)


async def test_a_lost_lease_stops_emitting_and_still_reports(
    bench: Bench, engine: tests.engine.Running, entries: Reader
) -> None:
    engine.control(tokens_per_second=100)
    job = order(max_completion_tokens=1000)
    execution = bench.execution(job)
    running = asyncio.create_task(execution.run())
    await until(lambda: text_of(entries(job)))
    execution.finish("lost")
    await asyncio.wait_for(running, 1)
    assert all(entry.end is None for entry in entries(job))
    assert bench.finished.failure
    assert (bench.finished.failure.code, bench.finished.failure.retryable) == ("lease_lost", True)
    assert bench.finished.usage == entries(job)[-1].usage


@pytest.mark.parametrize("reason", ["lost", "stop", None])
async def test_what_is_not_ours_any_more_is_not_written(bench: Bench, entries: Reader, reason: Any) -> None:
    """Chunks that were computed and not yet written when it was heard."""
    job = order()
    execution = bench.execution(job)
    assert await execution.claim()
    execution.chunks.append([{"index": 0, "delta": {"content": "too late"}, "finish_reason": None}])
    if reason:
        execution.finish(reason)
    await execution.flush()
    assert text_of(entries(job)) == ("" if reason else "too late")


async def test_a_large_body_is_fetched_by_its_signed_path(bench: Bench, portal: FakePortal) -> None:
    portal.files["/agent/v1/bodies/1?signature=x"] = b'{"messages": [{"role": "user", "content": "one two three"}]}'
    job = order(body=None, body_url="/agent/v1/bodies/1?signature=x")
    await bench.execution(job).run()
    assert bench.finished.usage.prompt_tokens == 3


async def test_an_input_that_is_gone_fails_the_attempt(bench: Bench, engine: tests.engine.Running) -> None:
    await bench.execution(order(body=None, body_url="/agent/v1/bodies/gone")).run()
    assert bench.finished.failure
    assert (bench.finished.failure.code, bench.finished.failure.status) == ("input_expired", 410)
    assert engine.counts().started == 0


async def test_an_input_too_large_is_not_read_to_its_end(
    bench: Bench, portal: FakePortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.runner.execution.BODY_BYTES", 1000)
    portal.files["/large"] = b" " * 100_000
    await bench.execution(order(body=None, body_url="/large")).run()
    assert bench.finished.failure
    assert bench.finished.failure.code == "input_too_large"


class PageReader:
    """Reads two pages of whatever it is given."""

    def __init__(self) -> None:
        self.given: list[Work] = []

    async def run(self, work: Work) -> AsyncGenerator[Piece, None]:
        self.given.append(work)
        pages = []
        for number in (1, 2):
            pages.append({"page": number, "text": f"page {number}", "lines": []})
            choice = {"index": 0, "delta": {"content": f"page {number}"}, "finish_reason": None}
            yield Piece(choices=[choice], usage=Usage(pages=number), done=number, total=2)
            await asyncio.sleep(0.02)
        yield Piece(result={"pages": pages})


async def test_a_file_is_fetched_and_read_with_progress(bench: Bench, portal: FakePortal, entries: Reader) -> None:
    portal.files["/agent/v1/files/7?signature=x"] = b"%PDF-"
    reader: Any = PageReader()
    bench.engine = reader
    job = order(kind="ocr", body={}, file_url="/agent/v1/files/7?signature=x", file_type="application/pdf")
    await bench.execution(job).run()
    (work,) = reader.given
    assert (work.file, work.file_type) == (b"%PDF-", "application/pdf")
    written = entries(job)
    assert [(entry.done, entry.total) for entry in written if entry.chunks] == [(1, 2), (2, 2)]
    assert written[-1].end
    assert written[-1].end.result == bench.finished.result
    assert [page["text"] for page in written[-1].end.result["pages"]] == ["page 1", "page 2"]  # type: ignore[index]
    assert (bench.finished.usage.pages, bench.finished.text) == (2, "page 1page 2")
    assert bench.finished.first_token_at


async def test_an_error_of_ours_is_reported_and_may_be_tried_again(bench: Bench) -> None:
    class Broken:
        async def run(self, work: Work) -> AsyncGenerator[Piece, None]:
            yield Piece()
            raise ZeroDivisionError("secret detail")

    broken: Any = Broken()
    bench.engine = broken
    await bench.execution(order()).run()
    failure = bench.finished.failure
    assert failure
    assert (failure.code, failure.status, failure.retryable) == ("runner_error", 500, True)
    assert "secret" not in failure.message
