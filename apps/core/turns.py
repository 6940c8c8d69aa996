"""What several ask for at the same moment, asked once: who comes while a turn is under way goes with the next.

So what anybody is told was found out after they asked, nothing is remembered, and the busier a process is, the less each
request costs it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextvars import Context
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

Q = TypeVar("Q")
A = TypeVar("A")
K = TypeVar("K", bound=Hashable)


class Turns(Generic[Q, A]):
    """Questions of one event loop. `ask_all` has an answer to each in their order, or the exception to raise instead."""

    def __init__(self, ask_all: Callable[[Sequence[Q]], Awaitable[Sequence[A | Exception]]]) -> None:
        self.ask_all = ask_all
        self.waiting: list[tuple[Q, asyncio.Future[A]]] = []
        self.task: asyncio.Task[None] | None = None

    async def ask(self, question: Q) -> A:
        """Who is cancelled meanwhile keeps nobody else from an answer."""
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self.waiting.append((question, answer))
        if self.task is None:  # in a context of its own: a turn is nobody's request
            self.task = asyncio.get_running_loop().create_task(self.run(), name="turns", context=Context())
        return await answer

    async def run(self) -> None:
        turn: list[tuple[Q, asyncio.Future[A]]] = []
        try:
            while self.waiting:
                turn, self.waiting = self.waiting, []
                try:
                    answers = await self.ask_all([question for question, _ in turn])
                except Exception as error:
                    answers = [error] * len(turn)
                for (_, asked), answer in zip(turn, answers, strict=True):
                    if asked.done():
                        continue
                    if isinstance(answer, Exception):
                        asked.set_exception(answer)
                    else:
                        asked.set_result(answer)
        finally:
            self.task = None
            for _, asked in [*turn, *self.waiting]:  # the loop ends
                asked.cancel()


class Shared(Generic[K, A]):
    """A read by its key. Readers of one key share a turn, those of different keys do not wait for each other."""

    def __init__(self, read: Callable[[K], Awaitable[A]]) -> None:
        self.read = read
        self.loops: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[K, Turns[None, A]]] = WeakKeyDictionary()

    async def __call__(self, key: K) -> A:
        keys = self.loops.setdefault(asyncio.get_running_loop(), {})

        async def read(readers: Sequence[None]) -> Sequence[A]:
            return [await self.read(key)] * len(readers)

        turns = keys.get(key)
        if turns is None:
            turns = keys[key] = Turns(read)
        try:
            return await turns.ask(None)
        finally:
            if keys.get(key) is turns and turns.task is None and not turns.waiting:
                del keys[key]
