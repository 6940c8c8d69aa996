import asyncio
import time

import pytest

from apps.live import streams
from apps.live.streams import listen


@pytest.fixture(autouse=True)
async def _closed():
    yield
    await streams.close()


async def take(entries, count):
    taken = []
    async with asyncio.timeout(10):
        async for entry in entries:
            taken.append(entry)
            if len(taken) == count:
                return [fields["n"] for _, fields in taken]
    raise AssertionError("the stream ended")


async def test_reads_what_is_there_and_what_comes(valkey):
    for n in range(3):
        valkey.xadd("a", {"n": n})
    async with listen("a") as entries:
        assert await take(entries, 3) == ["0", "1", "2"]
        valkey.xadd("a", {"n": 3})
        assert await take(entries, 1) == ["3"]


async def test_a_new_listener_joins_at_once(valkey):
    async with listen("a"):
        await asyncio.sleep(0.05)  # the reader is blocked in its read by now
        valkey.xadd("b", {"n": "x"})
        began = time.monotonic()
        async with listen("b") as entries:
            assert await take(entries, 1) == ["x"]
        assert time.monotonic() - began < 0.5


async def test_two_listeners_of_one_stream_each_see_all_of_it(valkey):
    for n in range(3):
        valkey.xadd("a", {"n": n})
    async with listen("a") as early:
        assert await take(early, 3) == ["0", "1", "2"]
        async with listen("a") as late:
            assert await take(late, 3) == ["0", "1", "2"]
        valkey.xadd("a", {"n": 3})
        assert await take(early, 1) == ["3"]


async def test_who_joins_while_an_entry_is_on_its_way_gets_what_came_before_it_too(valkey):
    for n in range(3):
        valkey.xadd("a", {"n": n})
    async with listen("a") as early:
        assert await take(early, 3) == ["0", "1", "2"]
        await asyncio.sleep(0.05)  # the reader is blocked in its read by now
        valkey.xadd("a", {"n": 3})  # its answer lies in the socket, and the loop has not read it
        async with listen("a") as late:
            assert await take(late, 4) == ["0", "1", "2", "3"]
        assert await take(early, 1) == ["3"]


async def test_a_slow_listener_loses_nothing_and_holds_little(valkey):
    async with listen("a") as entries:
        for n in range(2000):
            valkey.xadd("a", {"n": n})
            if n % 100 == 0:
                await asyncio.sleep(0)
        await asyncio.sleep(0.2)
        assert len(entries.buffer) < streams.BUFFER + streams.COUNT
        assert await take(entries, 2000) == [str(n) for n in range(2000)]


async def test_batch_waits_no_longer_than_told_and_wakes(valkey):
    async with listen("a") as entries:
        assert await entries.batch(seconds=0.01) == []
        asyncio.get_running_loop().call_later(0.01, entries.wake)
        began = time.monotonic()
        assert await entries.batch(seconds=5) == []
        assert time.monotonic() - began < 1


@pytest.mark.story
async def test_a_flush_is_survived_even_with_smaller_ids(valkey):
    async with listen("a") as entries:
        valkey.xadd("a", {"n": "old"}, id="99999999999999-0")
        assert await take(entries, 1) == ["old"]
        valkey.flushall()
        valkey.xadd("a", {"n": "new"}, id="1-0")
        assert await take(entries, 1) == ["new"]


async def test_lost_connections_are_made_again(valkey):
    async with listen("a") as entries:
        valkey.xadd("a", {"n": 1})
        assert await take(entries, 1) == ["1"]
        valkey.client_kill_filter(_type="normal", skipme=True)
        valkey.xadd("a", {"n": 2})
        assert await take(entries, 1) == ["2"]


async def test_many_listeners_use_few_connections(valkey):
    before = len(valkey.client_list())
    async with asyncio.TaskGroup() as group:

        async def one(n):
            async with listen(f"s{n}") as entries:
                assert await take(entries, 2) == ["0", "1"]
                counts.append(len(valkey.client_list()))

        counts: list[int] = []
        for n in range(100):
            group.create_task(one(n))
        await asyncio.sleep(0.1)
        for m in range(2):
            for n in range(100):
                valkey.xadd(f"s{n}", {"n": m})
    assert max(counts) - before <= 3
