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
    """Questions, each event loop's by themselves. `ask_all` has an answer to each in their order, or the exception to raise instead."""

    def __init__(self, ask_all: Callable[[Sequence[Q]], Awaitable[Sequence[A | Exception]]]) -> None:
        self.ask_all = ask_all
        self.lines: WeakKeyDictionary[asyncio.AbstractEventLoop, Line[Q, A]] = WeakKeyDictionary()

    async def ask(self, question: Q) -> A:
        """Who is cancelled meanwhile keeps nobody else from an answer; a question that had not gone by then never goes."""
        loop = asyncio.get_running_loop()
        line = self.lines.get(loop)
        if line is None:
            line = self.lines[loop] = Line(self.ask_all)
        return await line.ask(question)


class Line(Generic[Q, A]):
    """Who waits for the next turn."""

    def __init__(self, ask_all: Callable[[Sequence[Q]], Awaitable[Sequence[A | Exception]]]) -> None:
        self.ask_all = ask_all
        self.waiting: list[tuple[Q, asyncio.Future[A]]] = []
        self.task: asyncio.Task[None] | None = None

    async def ask(self, question: Q) -> A:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[A] = loop.create_future()
        self.waiting.append((question, answer))
        if self.task is None:  # in a context of its own: a turn is nobody's request
            self.task = loop.create_task(self.run(), name="turns", context=Context())
        return await answer

    async def run(self) -> None:
        turn: list[tuple[Q, asyncio.Future[A]]] = []
        try:
            while self.waiting:
                turn, self.waiting = [each for each in self.waiting if not each[1].done()], []
                if not turn:
                    continue
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

    @property
    def idle(self) -> bool:
        return self.task is None and not self.waiting


class Shared(Generic[K, A]):
    """A read by its key. Readers of one key share a turn, those of different keys do not wait for each other."""

    def __init__(self, read: Callable[[K], Awaitable[A]]) -> None:
        self.read = read
        self.loops: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[K, Line[None, A]]] = WeakKeyDictionary()

    async def __call__(self, key: K) -> A:
        lines = self.loops.setdefault(asyncio.get_running_loop(), {})

        async def read(readers: Sequence[None]) -> Sequence[A]:
            return [await self.read(key)] * len(readers)

        line = lines.get(key)
        if line is None:
            line = lines[key] = Line(read)
        try:
            return await line.ask(None)
        finally:
            if lines.get(key) is line and line.idle:
                del lines[key]
