"""What a runner holds, by its heartbeats, and what it gives up when none was answered for long."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import tests.engine
from apps.runner import config
from apps.runner.execution import Execution
from apps.runner.heartbeat import LOST_SECONDS, SHARD_LOST_SECONDS
from apps.runner.process import Runner
from apps.runner.protocol import Order, Task
from tests.runner.conftest import POOL, as_json, order
from tests.runner.portal import FakePortal
from tests.runner.test_execution import until
from tests.runner.test_process import settings

pytestmark = pytest.mark.story


@pytest.fixture
async def runner(
    portal: FakePortal, engine: tests.engine.Running, tmp_path: Path, valkey: Any, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Runner]:
    monkeypatch.setattr("apps.runner.attempts.FINISH_SECONDS", 0.0)
    monkeypatch.setattr("apps.runner.worker.BLOCK_SECONDS", 0.05)
    made = Runner(config.Configuration.model_validate(settings(portal, engine, tmp_path)))
    await made.start()
    yield made
    await made.stop(asyncio.Event())


async def begun(runner: Runner, job: Order) -> Execution:
    runner.attempts.accept(as_json(job))
    execution = runner.attempts.executions[job.job, 1]
    await until(lambda: execution.claimed_at is not None)
    return execution


async def test_what_was_claimed_before_the_silence_is_lost_and_a_shard_later(
    runner: Runner, portal: FakePortal, engine: tests.engine.Running
) -> None:
    engine.control(tokens_per_second=50)
    row = Task(line=1, body={"messages": []}, max_completion_tokens=1000)
    portal.files["/shard"] = row.model_dump_json().encode() + b"\n"
    chat = await begun(runner, order(max_completion_tokens=1000))
    shard = await begun(runner, order(shard=True, body=None, body_url="/shard"))
    chat.claimed_at = shard.claimed_at = time.monotonic()  # both were claimed since the last beat
    runner.attempts.lost(SHARD_LOST_SECONDS)
    assert (chat.reason, shard.reason) == (None, None)
    for each in (chat, shard):
        assert each.claimed_at
        each.claimed_at -= 2 * SHARD_LOST_SECONDS
    runner.attempts.lost(LOST_SECONDS)
    assert (chat.reason, shard.reason) == ("lost", None)
    runner.attempts.lost(SHARD_LOST_SECONDS)
    assert shard.reason == "lost"
    for each in (chat, shard):
        report = await asyncio.to_thread(portal.finished, each.order.job)
        assert report.failure
        assert (report.state, report.failure.code) == ("failed", "lease_lost")


async def test_what_ended_is_held_until_the_portal_knows_or_was_silent_for_long(
    runner: Runner, portal: FakePortal
) -> None:
    async def held() -> list[str]:
        return [lease.job for lease in (await runner.heartbeat()).leases]

    portal.away = True
    first, second = await begun(runner, order()), await begun(runner, order())
    await until(lambda: not runner.attempts.executions)
    jobs = {first.order.job, second.order.job}
    assert set(await held()) == jobs
    runner.attempts.lost(LOST_SECONDS)
    assert await held() == []
    portal.away = False
    for job in jobs:
        assert (await asyncio.to_thread(portal.finished, job)).state == "succeeded"


async def test_only_work_that_succeeded_speaks_for_its_pool(runner: Runner, engine: tests.engine.Running) -> None:
    probe = runner.posts[POOL].probe
    probe.due_at, probe.failure = math.inf, "its probe failed: it answers nothing"
    for status, failure in ((500, probe.failure), (0, "")):
        engine.control(fail_status=status)
        await begun(runner, order())
        await until(lambda: not runner.attempts.executions)
        assert probe.failure == failure
