"""One turn for all who ask meanwhile, answers that are never older than the question, and nobody held up by another."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from apps.core.turns import Shared, Turns
from cango_portal import valkey as hot


class World:
    """It changes, and how it stood is read slowly."""

    def __init__(self) -> None:
        self.version = 0
        self.reads: list[str] = []
        self.gate = asyncio.Event()

    async def read(self, key: str) -> int:
        self.reads.append(key)
        seen = self.version
        await self.gate.wait()
        if key == "broken":
            raise LookupError(key)
        return seen


async def started(world: World, reads: int) -> None:
    async with asyncio.timeout(2):
        while len(world.reads) < reads:  # noqa: ASYNC110 - one line is enough here
            await asyncio.sleep(0)


async def test_who_comes_during_a_read_shares_the_next_one_and_sees_what_was_true_when_it_asked() -> None:
    world = World()
    shared = Shared(world.read)
    first = [asyncio.create_task(shared("a")) for _ in range(3)]
    await started(world, 1)
    world.version = 1
    later = [asyncio.create_task(shared("a")) for _ in range(4)]
    await asyncio.sleep(0)
    world.gate.set()
    assert await asyncio.gather(*first) == [0, 0, 0]
    assert await asyncio.gather(*later) == [1, 1, 1, 1]
    assert world.reads == ["a", "a"]
    assert not shared.loops[asyncio.get_running_loop()]  # nothing is kept


async def test_another_key_does_not_wait_and_a_failure_is_told_to_all_who_asked() -> None:
    world = World()
    shared = Shared(world.read)
    readers = [asyncio.create_task(shared(key)) for key in ("a", "broken", "broken", "b")]
    await started(world, 3)
    world.gate.set()
    assert [str(each) for each in await asyncio.gather(*readers, return_exceptions=True)] == [
        "0",
        "broken",
        "broken",
        "0",
    ]
    assert await shared("a") == 0  # it goes on


async def test_who_gives_up_takes_nobody_else_along() -> None:
    world = World()
    shared = Shared(world.read)
    leaving, staying = (asyncio.create_task(shared("a")) for _ in range(2))
    await started(world, 1)
    leaving.cancel()
    world.gate.set()
    assert await staying == 0
    with pytest.raises(asyncio.CancelledError):
        await leaving


async def test_each_gets_the_answer_to_its_own_question_or_its_own_error() -> None:
    turns: list[Sequence[int]] = []

    async def halves(numbers: Sequence[int]) -> Sequence[int | Exception]:
        turns.append(numbers)
        await asyncio.sleep(0)
        return [ValueError(number) if number % 2 else number // 2 for number in numbers]

    asking: Turns[int, int] = Turns(halves)
    answers = await asyncio.gather(*(asking.ask(number) for number in range(6)), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["0", "1", "1", "3", "2", "5"]
    assert turns == [[0, 1, 2, 3, 4, 5]]


async def test_a_question_that_was_given_up_before_its_turn_is_not_asked() -> None:
    turns: list[Sequence[str]] = []
    gate = asyncio.Event()

    async def all_of(questions: Sequence[str]) -> Sequence[str]:
        turns.append(questions)
        await gate.wait()
        return questions

    asking: Turns[str, str] = Turns(all_of)
    tasks = [asyncio.create_task(asking.ask("first"))]
    await asyncio.sleep(0.01)
    tasks += [asyncio.create_task(asking.ask(question)) for question in ("given up", "last")]
    await asyncio.sleep(0)
    tasks[1].cancel()
    gate.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert (answers[0], answers[2], turns) == ("first", "last", [["first"], ["last"]])


async def test_commands_of_one_moment_go_to_valkey_together_and_a_wrong_one_fails_alone(valkey: Any) -> None:
    key = "turns:test"
    answers = await asyncio.gather(
        hot.ask_async("SET", key, "1"),
        hot.ask_async("LPUSH", key, "x"),
        hot.ask_async("INCR", key),
        hot.ask_async("DEL", key),
        return_exceptions=True,
    )
    assert answers[0] in (True, "OK", b"OK")
    assert "WRONGTYPE" in str(answers[1])
    assert answers[2:] == [2, 1]
