"""A shard of a batch at this site: its rows side by side, each reported soon after it is done."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from contextlib import aclosing
from typing import Any, Literal

from apps.runner import energy
from apps.runner.engines.engine import Choices, EngineFailed, Work
from apps.runner.execution import SETTLE_SECONDS, Execution, Station, stopped
from apps.runner.gate import Gate
from apps.runner.output import Output
from apps.runner.portal import BODY_BYTES
from apps.runner.protocol import End, Energy, Failure, Order, Report, RowResult, Task
from apps.runner.showing import Showing

log = logging.getLogger(__name__)

PART_SECONDS = 1.0  # rows that are done are reported at least so often
PART_ROWS = 100
PART_BYTES = 8 * 1024 * 1024  # of answers in one report: the portal's door takes 64 MiB of reports at once
ROW_BYTES = 32 * 1024 * 1024  # a longer answer cannot be reported
TRIES = 3  # of one row here
FIRST_PAUSE = 0.5  # seconds, between them
TOO_LARGE = Failure(
    code="answer_too_large", message="The answer is too large for a batch. Ask for less in one row.", status=400
)
BROKEN = 8  # tries in a row that failed, of any rows: the engine does not work


class ShardExecution(Execution):
    """`done` of `total` rows have ended. What is not reported when the process dies is done again elsewhere."""

    def __init__(self, order: Order, *, station: Station, output: Output, gate: Gate) -> None:
        super().__init__(order, station=station, output=output)
        self.gate = gate
        self.place = gate.number()
        self.waiting: deque[Task] = deque()
        self.results: list[RowResult] = []  # not reported yet; the last one is kept until there is another
        self.size = 0  # of `results`
        self.part = 0
        self.spent = 0  # work units
        self.shared_mj = 0  # of the energy so far, what rows that are reported have
        self.misses = 0
        self.missed: EngineFailed | None = None
        self.moved = asyncio.Event()
        self.showing = Showing(output)

    def units(self) -> int:
        return self.spent

    async def work(self) -> None:
        try:
            await super().work()
        finally:
            await self.showing.stop()

    async def compute(self) -> None:
        """Raises EngineFailed where rows are left that another attempt may do."""
        content = await self.fetch(self.order.body_url or "", BODY_BYTES)
        self.waiting = deque(Task.model_validate_json(line) for line in content.splitlines())
        self.done, self.total = 0, len(self.waiting)
        self.news.set()
        workers = [asyncio.create_task(self.pull()) for _ in range(min(self.gate.slots, self.total))]
        telling = asyncio.create_task(self.tell())
        try:
            await asyncio.gather(*workers)
        finally:
            for task in (*workers, telling):
                await stopped(task)
        if self.missed is not None:
            raise self.missed

    async def pull(self) -> None:
        while self.waiting:
            await self.do(self.waiting.popleft())

    async def do(self, task: Task) -> None:
        pause = FIRST_PAUSE
        for left in reversed(range(TRIES)):
            try:
                async with self.gate.row(self.place):
                    result = await self.answer_of(task)
            except EngineFailed as error:
                if not error.failure.retryable:
                    result = RowResult(line=task.line, failure=error.failure)
                else:
                    self.misses += 1
                    if self.misses >= BROKEN:
                        raise
                    if not left:
                        self.missed = error
                        return
                    await asyncio.sleep(pause)
                    pause *= 4
                    continue
            self.misses = 0
            size = size_of(result)
            if size > ROW_BYTES:
                result, size = RowResult(line=task.line, failure=TOO_LARGE), 0
            self.results.append(result)
            self.size += size
            self.done = (self.done or 0) + 1
            self.moved.set()
            return

    async def answer_of(self, task: Task) -> RowResult:
        order = self.order
        work = Work(
            kind=order.kind, model=order.model, body=task.body, max_completion_tokens=task.max_completion_tokens
        )
        counted, result = 0, None
        row = self.showing.begin(task.line)
        try:
            async with aclosing(self.station.engine.run(work)) as pieces:
                async for piece in pieces:
                    if piece.choices:
                        row.add(piece.choices)
                    if usage := piece.usage:
                        row.usage = usage
                        units = energy.units(
                            prompt_tokens=usage.prompt_tokens,
                            completion_tokens=usage.completion_tokens,
                            pages=usage.pages,
                        )
                        self.spent += max(units - counted, 0)
                        counted = max(units, counted)
                    if piece.result is not None:
                        result = piece.result
        finally:
            self.showing.end(row)
        choices = merged(row.chunks) if row.chunks else None
        return RowResult(line=task.line, usage=row.usage, choices=choices, result=result)

    # Reports

    async def tell(self) -> None:
        """A part of the rows whenever there are enough, or time has passed."""
        while True:
            await self.moved.wait()
            self.moved.clear()
            ends = time.monotonic() + PART_SECONDS
            while len(self.results) <= PART_ROWS and self.size < PART_BYTES and (left := ends - time.monotonic()) > 0:
                try:
                    async with asyncio.timeout(left):
                        await self.moved.wait()
                except TimeoutError:
                    break
                self.moved.clear()
            meter = self.station.meter
            used = await meter.so_far(self) if meter else None
            self.tell_parts(self.take(used, len(self.results) - 1), used)

    def tell_parts(self, rows: list[RowResult], used: Energy | None) -> None:
        for part in parts(rows):
            self.part += 1
            self.station.report(self.report("rows", part, used))

    def take(self, used: Energy | None, count: int) -> list[RowResult]:
        """The first `count` results, with the energy that no row has yet, by the work they did."""
        rows, self.results = self.results[: max(count, 0)], self.results[max(count, 0) :]
        self.size = sum(size_of(row) for row in self.results)
        if used is None or not rows:
            return rows
        weights = {
            row.line: energy.units(
                prompt_tokens=row.usage.prompt_tokens, completion_tokens=row.usage.completion_tokens, pages=0
            )
            + 1
            for row in rows
        }
        parts = energy.split(max(used.gpu_energy_mj - self.shared_mj, 0), weights)
        self.shared_mj = max(self.shared_mj, used.gpu_energy_mj)
        return [row.model_copy(update={"gpu_energy_mj": parts[row.line]}) for row in rows]

    def report(
        self, kind: Literal["rows", "finished"], rows: list[RowResult], used: Energy | None, **fields: Any
    ) -> Report:
        order = self.order
        return Report(
            kind=kind,
            job=order.job,
            attempt=order.attempt,
            fence=order.fence,
            claimant=self.station.claimant,
            at=time.time(),
            shard=True,
            part=self.part,
            rows=rows,
            quality=used.quality if used else None,
            **fields,
        )

    async def conclude(self, failure: Any, used: Energy | None, *, cut: bool) -> None:
        """The last rows and the end. What was being computed when it was cut off is nobody's."""
        state: Literal["succeeded", "failed", "cancelled"] = "failed" if failure else "succeeded"
        if self.reason == "cancel" and cut:
            state, failure = "cancelled", None
        self.end = End(state=state, failure=failure, energy=used)
        *earlier, rows = parts(self.take(used, len(self.results))) or [[]]
        for part in earlier:
            self.tell_parts(part, used)
        self.station.report(self.report("finished", rows, used, state=state, failure=failure, energy=used))
        if self.reason != "lost":
            settling = asyncio.create_task(self.settle())
            await asyncio.wait({settling}, timeout=SETTLE_SECONDS)
            await stopped(settling)


def size_of(row: RowResult) -> int:
    """About, in characters."""
    return len(str(row.choices)) + len(str(row.result))


def parts(rows: list[RowResult]) -> list[list[RowResult]]:
    """In their order, each of at most PART_BYTES or of one row."""
    cut: list[list[RowResult]] = []
    size = 0
    for row in rows:
        size += (length := size_of(row))
        if not cut or size > PART_BYTES:
            cut.append([])
            size = length
        cut[-1].append(row)
    return cut


def merged(chunks: list[Choices]) -> Choices:
    """One chunk that says what all of them say: texts and lists joined, of the rest the last."""
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for choice in chunk:
            index = choice.get("index", 0)
            choices[index] = joined(choices.get(index, {}), {**choice, "index": index})
    return [choices[index] for index in sorted(choices)]


CALLS = "tool_calls"  # pieces of a call name it by its index
WHOLE = frozenset({"role", "type", "id", "index", "finish_reason"})  # said once, or again in full


def joined(before: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    made = dict(before)
    for name, value in more.items():
        old = made.get(name)
        if value is None and old is not None:
            continue
        if name == CALLS and isinstance(value, list):
            calls = {call.get("index", 0): call for call in old or []}
            for call in value:
                index = call.get("index", 0)
                calls[index] = joined(calls.get(index, {}), call)
            made[name] = [calls[index] for index in sorted(calls)]
        elif name in WHOLE:
            made[name] = value
        else:
            made[name] = added(old, value)
    return made


def added(old: Any, value: Any) -> Any:
    if isinstance(old, dict) and isinstance(value, dict):
        return joined(old, value)
    if isinstance(old, str) and isinstance(value, str):
        return old + value
    return [*old, *value] if isinstance(old, list) and isinstance(value, list) else value
