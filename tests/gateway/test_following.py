import asyncio
import contextlib
import time

import psycopg
import pytest
from django.db import connection

from apps.core.errors import NotFound, Unavailable
from apps.core.ids import uuid7
from apps.jobs import following
from apps.jobs.following import Ended, Piece, Waiting, follow
from apps.jobs.models import Job
from apps.live import bell, streams
from apps.runner.protocol import Entry, Usage, stream
from cango_portal import database
from tests import make


@pytest.fixture
def running(transactional_db):
    """A running chat, its stream's key, and a way to write to it."""
    organization = make.organization()
    model = make.model()
    job = make.job(organization=organization, model=model, state="running", streaming=True)
    job.refresh_from_db()
    assert job.pool is not None  # loaded here: the tests may not ask
    return job


@pytest.fixture(autouse=True)
async def _closed():
    yield
    await streams.close()
    await bell.close()
    await database.close()


async def in_thread(work, *args, **kwargs):
    """Django's ORM beside a running loop; the thread's connection goes back."""

    def one():
        try:
            return work(*args, **kwargs)
        finally:
            connection.close()

    return await asyncio.to_thread(one)


def key(job: Job) -> str:
    return stream(job.pool.code, str(job.pk), job.attempt)


def entry(job: Job, seq: int, *texts: str, claimant: str = "one", **fields) -> dict[str, str]:
    chunks = [[{"index": 0, "delta": {"content": text}}] for text in texts]
    return {"e": Entry(claimant=claimant, fence=str(job.fence), seq=seq, chunks=chunks, **fields).model_dump_json()}


def end(job: Job, text: str, **fields) -> None:
    make.answer(job, text=text, **fields)
    Job.objects.filter(pk=job.pk).update(
        state="succeeded", finished_at=job.created_at, charge_microusd=1, finish_reason="length", lease_expires_at=None
    )
    bell.ring(f"job.{job.public_id}")


async def gather(job: Job) -> tuple[str, list[object]]:
    steps = []
    async with asyncio.timeout(10), contextlib.aclosing(follow(job.pk)) as steps_of:
        async for step in steps_of:
            steps.append(step)
    chunks = [chunk for step in steps if isinstance(step, Piece) for chunk in step.entry.chunks]
    return "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk), steps


async def test_a_job_long_over_is_told_from_what_was_stored(running):
    await in_thread(end, running, "all of it")
    text, steps = await gather(running)
    assert text == "all of it"
    assert steps[-2].entry.chunks[-1][0]["finish_reason"] == "length"
    assert isinstance(steps[-1], Ended)


async def test_other_choices_and_calls_come_from_what_was_stored(running):
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [{"role": "assistant", "content": "one"}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    await in_thread(end, running, "one", result={"choices": messages})
    _, steps = await gather(running)
    first, second = steps[0].entry.chunks[0]
    assert first["delta"] == {"role": "assistant", "content": "one"}
    assert second["delta"] == {"role": "assistant", "tool_calls": [{"index": 0, **call}]}


async def test_a_second_claimant_is_not_heard(running, valkey):
    valkey.xadd(key(running), entry(running, 0))
    valkey.xadd(key(running), entry(running, 0, "mine"))
    valkey.xadd(key(running), entry(running, 0, "theirs", " too", claimant="two"))
    valkey.xadd(key(running), entry(running, 1, " all"))
    asyncio.get_running_loop().call_later(0.3, lambda: asyncio.ensure_future(in_thread(end, running, "mine all")))
    text, _ = await gather(running)
    assert text == "mine all"


async def test_entries_that_cannot_be_read_are_passed_over(running, valkey):
    for fields in ({"e": "{"}, {"x": "1"}, {"e": '{"claimant":1}'}):
        valkey.xadd(key(running), fields)
    valkey.xadd(key(running), entry(running, 0, "good", usage=Usage(prompt_tokens=1)))
    await in_thread(end, running, "good")
    assert (await gather(running))[0] == "good"


async def test_waiting_tells_place_and_deadline_and_news_come_without_bells(running, monkeypatch):
    await in_thread(Job.objects.filter(pk=running.pk).update, state="queued", pool=None, lease_expires_at=None)
    monkeypatch.setattr(following, "QUIET_SECONDS", 0.05)
    async with asyncio.timeout(10), contextlib.aclosing(follow(running.pk)) as steps:
        first = await anext(steps)
        assert isinstance(first, Waiting)
        assert (first.position, first.deadline_at) == (1, running.deadline_at)
        assert isinstance(await anext(steps), Waiting)
        await in_thread(
            Job.objects.filter(pk=running.pk).update, state="expired", finished_at=running.created_at, charge_microusd=0
        )
        async for step in steps:
            last = step
    assert isinstance(last, Ended)
    assert last.job["state"] == "expired"


async def test_a_database_that_is_away_stops_nothing_that_streams(running, valkey, monkeypatch):
    valkey.xadd(key(running), entry(running, 0, "a"))
    real = database.run_async
    async with asyncio.timeout(10), contextlib.aclosing(follow(running.pk)) as steps:
        assert (await anext(steps)).entry.chunks[0][0]["delta"]["content"] == "a"

        async def away(plan):
            plan.close()
            raise psycopg.OperationalError

        monkeypatch.setattr(database, "run_async", away)
        monkeypatch.setattr(following, "QUIET_SECONDS", 0.05)
        await asyncio.sleep(0.2)
        valkey.xadd(key(running), entry(running, 1, "b"))
        assert (await anext(steps)).entry.chunks[0][0]["delta"]["content"] == "b"
        monkeypatch.setattr(database, "run_async", real)
        await in_thread(end, running, "ab")
        async for step in steps:
            last = step
    assert isinstance(last, Ended)


async def test_with_neither_database_nor_stream_it_gives_up(running, monkeypatch):
    async def away(plan):
        plan.close()
        raise psycopg.OperationalError

    monkeypatch.setattr(database, "run_async", away)
    monkeypatch.setattr(following, "QUIET_SECONDS", 0.02)
    monkeypatch.setattr(following, "AWAY_SECONDS", 0.1)
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await gather(running)
    assert time.monotonic() - began < 2


async def test_no_such_job(transactional_db):
    with pytest.raises(NotFound):
        async for _ in follow(uuid7()):
            pass
