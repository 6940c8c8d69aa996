import asyncio
import time

import pytest

from apps.live import streams
from apps.live.streams import listen
from tests.runner.test_execution import until


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


async def end(entries):
    async with asyncio.timeout(10):
        return [fields async for _, fields in entries]


async def test_an_entry_that_is_no_utf8_ends_nobodys_listening(valkey):
    async with listen("bad") as bad, listen("good") as good:
        valkey.xadd("bad", {"n": b"a\xffb"})
        assert await take(bad, 1) == ["a\ufffdb"]
        valkey.xadd("good", {"n": 1})
        valkey.xadd("bad", {"n": 2})
        assert (await take(good, 1), await take(bad, 1)) == (["1"], ["2"])


@pytest.mark.parametrize("checked", [False, True])
async def test_a_key_that_is_no_stream_ends_for_its_listeners_alone(valkey, monkeypatch, caplog, checked):
    monkeypatch.setattr(streams, "CHECK_SECONDS", 0 if checked else 60)
    valkey.xadd("bad", {"n": 1})
    async with listen("bad") as bad, listen("bad") as other, listen("good") as good, listen("none"):
        assert (await take(bad, 1), await take(other, 1)) == (["1"], ["1"])
        valkey.set("bad", "no stream")
        valkey.xadd("good", {"n": 2})
        assert await take(good, 1) == ["2"]
        assert (await end(bad), await end(other)) == ([], [])
        assert await bad.batch(seconds=0.01) == []
        began = time.monotonic()
        assert await bad.batch(seconds=0.1) == []  # and costs no more than one that is silent
        assert time.monotonic() - began > 0.09
        async with listen("bad") as late:
            assert await end(late) == []
        valkey.xadd("good", {"n": 3})
        assert await take(good, 1) == ["3"]
    assert {record.message for record in caplog.records} == {"a key that is listened to is no stream"}


async def test_an_entry_too_large_ends_its_stream_after_what_came_before(valkey):
    async with listen("bad", most=11) as bad, listen("bad") as all_of_it, listen("good", most=11) as good:
        with valkey.pipeline() as pipe:
            for text in ("x" * 10, "x" * 11, "x"):
                pipe.xadd("bad", {"n": text})
            pipe.execute()
        assert await end(bad) == [{"n": "x" * 10}]
        assert await take(all_of_it, 3) == ["x" * 10, "x" * 11, "x"]
        valkey.xadd("good", {"n": 2})
        assert await take(good, 1) == ["2"]


async def test_a_slow_listener_holds_little_of_large_entries_too(valkey, monkeypatch):
    monkeypatch.setattr(streams, "BUFFER_UNITS", 5000)
    async with listen("a") as entries:
        for n in range(40):
            valkey.xadd("a", {"n": f"{n:0999}"})
        await until(lambda: len(entries.buffer) == 5)
        await asyncio.sleep(0.1)
        assert len(entries.buffer) == 5
        assert [int(n) for n in await take(entries, 20)] == list(range(20))
        await until(lambda: len(entries.buffer) == 5)
        taken = []
        while len(taken) < 20:
            batch = await entries.batch(seconds=5)
            assert 1 <= len(batch) <= 5
            taken += [int(fields["n"]) for _, fields in batch]
        assert taken == list(range(20, 40))
