"""The bell: heard once, rung again after a reconnect, harmless without Redis."""

import asyncio
import time

import pytest
import redis.asyncio

from apps.live import bell
from tests.servers import servers


@pytest.fixture(autouse=True)
async def _closed():
    yield
    await bell.close()


async def heard(rung, topic, seconds=5):
    async with asyncio.timeout(seconds):
        while await rung.get() != topic:
            pass


async def test_a_ring_from_a_worker_is_heard(valkey):
    async with bell.bell().listen(["job.a", "job.b"]) as rung:
        assert await rung.wait(5) == {"job.a", "job.b"}  # the connection is new: look at everything
        await asyncio.to_thread(bell.ring, "job.b", "job.c")
        await heard(rung, "job.b")
        assert await rung.wait(0.2) == set()


async def test_a_ring_from_a_door_is_heard(valkey):
    async with bell.bell().listen(["job.a"]) as rung:
        await rung.wait(5)
        await bell.ring_async("job.a")
        await bell.ring_async("job.a")
        await heard(rung, "job.a")


async def test_rings_merge_while_nobody_listens(valkey):
    async with bell.bell().listen(["job.a"]) as rung:
        await rung.wait(5)
        for _ in range(50):
            await bell.ring_async("job.a")
        await asyncio.sleep(0.3)
        assert await rung.wait(1) == {"job.a"}
        assert await rung.wait(0.2) == set()


async def test_many_listeners_share_one_connection(valkey, monkeypatch):
    made = []
    pubsub = redis.asyncio.Redis.pubsub
    monkeypatch.setattr(redis.asyncio.Redis, "pubsub", lambda *given, **more: made.append(1) or pubsub(*given, **more))
    async with bell.bell().listen(["job.a"]) as one, bell.bell().listen(["job.a"]) as two:
        await one.wait(5)
        await bell.ring_async("job.a")
        await heard(one, "job.a")
        await heard(two, "job.a")
    assert len(made) == 1
    assert bell.bell().listeners == {}


async def test_a_broken_connection_rings_everything(valkey):
    async with bell.bell().listen(["job.a"]) as rung:
        await rung.wait(5)
        valkey.client_kill_filter(_type="pubsub")
        await heard(rung, "job.a")
        await asyncio.to_thread(bell.ring, "job.a")
        await heard(rung, "job.a")
        assert not bell.bell().away


async def test_without_redis_nothing_raises_and_readers_look_more_often(settings):
    settings.REDIS_URL = f"unix://{servers.directory}/nobody.sock"
    began = time.monotonic()
    await asyncio.to_thread(bell.ring, "job.a")
    await bell.ring_async("job.a")
    assert time.monotonic() - began < 2
    async with bell.bell().listen(["job.a"]) as rung:
        await rung.wait(0.5)
        assert bell.bell().floor_seconds == bell.FLOOR_WITHOUT_REDIS_SECONDS
    settings.REDIS_URL = servers.redis_url
    async with bell.bell().listen(["job.a"]) as rung:
        await heard(rung, "job.a")
        assert bell.bell().floor_seconds == bell.FLOOR_SECONDS


@pytest.mark.story
async def test_a_server_that_does_not_answer_costs_two_seconds_at_most(settings, tmp_path):
    """A socket that accepts and says nothing."""
    path = f"{servers.directory}/mute.sock"
    server = await asyncio.start_unix_server(lambda reader, writer: asyncio.sleep(30), path)
    settings.REDIS_URL = f"unix://{path}"
    began = time.monotonic()
    await asyncio.to_thread(bell.ring, "job.a")
    assert time.monotonic() - began < 2.5
    server.close()
