"""The attempts of a runner: those under way, those whose end the portal has not answered, those that were seen before."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from apps.runner import heartbeat
from apps.runner.execution import Execution, Reason, Station
from apps.runner.output import Output, Writer
from apps.runner.portal import Portal
from apps.runner.post import Post
from apps.runner.protocol import Attempt, Lease, Order, Report, Watch
from apps.runner.shard import ShardExecution

log = logging.getLogger(__name__)

SEEN = 20_000  # attempts remembered against a second delivery
FINISH_SECONDS = 20.0  # those that run may finish so long after SIGTERM
END_SECONDS = 5.0  # and end so long once they are told to

Key = tuple[str, int]


class Attempts:
    def __init__(
        self, claimant: str, posts: Mapping[str, Post], *, writer: Writer, portal: Portal, put: Callable[[Report], None]
    ) -> None:
        self.claimant = claimant
        self.posts = posts
        self.writer = writer
        self.portal = portal
        self.put = put
        self.executions: dict[Key, Execution] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.unanswered: dict[Key, Lease] = {}  # finished, and the portal has not said so yet: still ours
        self.seen: dict[Key, None] = {}

    def accept(self, given: dict[str, Any]) -> None:
        """Begin one attempt, unless it is malformed, too late, or known already."""
        try:
            order = Order.model_validate(given)
        except ValidationError as error:
            log.error(
                "an order is malformed", extra={"fields": [".".join(map(str, item["loc"])) for item in error.errors()]}
            )
            return
        key = (order.job, order.attempt)
        post = self.posts.get(order.pool)
        if post is None or key in self.seen or time.time() >= order.expires_at:
            reason = "its pool is not served here" if post is None else "seen before" if key in self.seen else "expired"
            log.info("an order is dropped", extra={"job": order.job, "attempt": order.attempt, "reason": reason})
            return
        self.seen[key] = None
        while len(self.seen) > SEEN:
            self.seen.pop(next(iter(self.seen)))
        station = Station(
            engine=post.resident,
            meter=post.meter,
            portal=self.portal,
            claimant=self.claimant,
            report=self.report,
        )
        output = Output(self.writer, order, self.claimant)
        execution = (
            ShardExecution(order, station=station, output=output, gate=post.gate)
            if order.shard
            else Execution(order, station=station, output=output)
        )
        self.executions[key] = execution
        task = asyncio.create_task(self.execute(key, post, execution), name=f"job {order.job}")
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def execute(self, key: Key, post: Post, execution: Execution) -> None:
        post.running += 1
        if not execution.order.shard:
            post.gate.enter()
        try:
            await execution.run()
            if execution.end and execution.end.state == "succeeded":
                post.probe.worked()
        except Exception:
            log.exception("an attempt ended by an error of ours", extra={"job": key[0]})
        finally:
            post.running -= 1
            if not execution.order.shard:
                post.gate.leave()
            del self.executions[key]

    def report(self, report: Report) -> None:
        if report.kind == "finished":
            self.unanswered[report.job, report.attempt] = Lease(
                job=report.job, attempt=report.attempt, fence=report.fence
            )
        self.put(report)

    def finish(self, attempt: Attempt, reason: Reason) -> None:
        if execution := self.executions.get((attempt.job, attempt.attempt)):
            execution.finish(reason)

    def watch(self, watch: Watch) -> None:
        """Somebody looks at a shard. What ended meanwhile, or is no shard, has nothing to show."""
        execution = self.executions.get((watch.job, watch.attempt))
        if isinstance(execution, ShardExecution):
            execution.showing.watch(watch)

    @property
    def leases(self) -> list[Lease]:
        """What is ours: what runs here by a claim, and what the portal does not know to have ended."""
        held = {key: each.lease for key, each in self.executions.items() if each.claimed_at is not None}
        return list({**self.unanswered, **held}.values())

    def refused(self, job: str, attempt: int) -> None:
        self.unanswered.pop((job, attempt), None)
        self.finish(Attempt(job=job, attempt=attempt), "stop")

    def answered(self, job: str, attempt: int) -> None:
        self.unanswered.pop((job, attempt), None)

    def lost(self, silent_seconds: float) -> None:
        """No beat was answered for so long: what was claimed before that is not ours any more."""
        self.unanswered.clear()
        for execution in self.executions.values():
            most = heartbeat.SHARD_LOST_SECONDS if execution.order.shard else heartbeat.LOST_SECONDS
            claimed_at = execution.claimed_at
            if silent_seconds >= most and claimed_at is not None and time.monotonic() - claimed_at >= most:
                execution.finish("lost")

    async def stop(self, hurried: asyncio.Event) -> None:
        """Let them finish, unless it is `hurried`; end the rest."""
        if not self.tasks:
            return
        finishing = asyncio.gather(*self.tasks, return_exceptions=True)
        finishing.add_done_callback(lambda _: hurried.set())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH_SECONDS):
                await hurried.wait()
        for execution in self.executions.values():
            execution.finish("shutdown")
        if self.tasks:
            await asyncio.wait(set(self.tasks), timeout=END_SECONDS)
