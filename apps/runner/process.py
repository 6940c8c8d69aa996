"""One runner process: its pools and engines, the attempts under way, and everything that talks to the portal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import time
from functools import partial
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from apps.runner import config, identity, meters, protocol, status, wanted, worker
from apps.runner.attempts import Attempts
from apps.runner.checks import Checks
from apps.runner.counters import Sampler
from apps.runner.heartbeat import Ear, Heart
from apps.runner.output import Writer
from apps.runner.portal import Portal
from apps.runner.post import Post
from apps.runner.protocol import Heartbeat, PoolHealth, Report, Wanted
from apps.runner.reports import Reporter, Spool
from apps.runner.telemetry import Recorder
from apps.runner.watch import Watch
from apps.runner.weights import Store

log = logging.getLogger(__name__)

REPORT_SECONDS = 5.0  # what attempts report at a stop is sent so long
TELEMETRY_SECONDS = 1.0  # and what the GPUs said; the rest stays on disk
NOTE_SECONDS = 1.0  # between two of what it notes for `cango-runner status`
CONNECTIONS = 32  # to Redis, at most


def connections(url: str, most: int, *, seconds: float) -> Redis:
    """A client that waits `seconds` for an answer and retries nothing by itself."""
    retry = Retry(NoBackoff(), 0)
    return Redis.from_pool(
        BlockingConnectionPool.from_url(
            url, max_connections=most, timeout=5, socket_timeout=seconds, socket_connect_timeout=2, retry=retry
        )
    )


class Runner:
    def __init__(self, configuration: config.Configuration) -> None:
        self.configuration = configuration
        mine = identity.load(configuration.identity) if configuration.identity else None
        self.claimant = (
            f"{protocol.claimant_prefix(mine.node)}{secrets.token_hex(12)}" if mine else secrets.token_hex(16)
        )
        self.spool = Spool(configuration.spool)
        self.store = Store(configuration.models_dir)
        self.wanted = wanted.load(configuration.spool)
        self.posts = {pool.code: Post(configuration, pool, self.store, self.hurry) for pool in configuration.pools}
        self.stopping = asyncio.Event()
        self.sampler = Sampler.of(configuration.nvml_command)
        self.portal = Portal(
            url=configuration.portal_url,
            token=configuration.node_token,
            identity=mine,
        )
        self.recorder = Recorder(portal=self.portal, directory=configuration.spool / "telemetry", boot=self.claimant)
        self.watch = Watch(self.sampler, changed=self.hurry, looked=self.recorder.take)
        self.redis = connections(configuration.redis_url, CONNECTIONS, seconds=2)
        self.writer = Writer(self.redis)
        self.control = connections(configuration.redis_url, 1, seconds=Ear.BLOCK_MILLISECONDS / 1000 + 2)
        self.attempts = Attempts(
            self.claimant,
            self.posts,
            writer=self.writer,
            portal=self.portal,
            put=self.report,
        )
        self.reporter = Reporter(
            portal=self.portal, spool=self.spool, refused=self.attempts.refused, answered=self.attempts.answered
        )
        self.checks = Checks(self.posts, watch=self.watch, portal=self.portal, changed=self.hurry)
        stop, cancel = partial(self.attempts.finish, reason="stop"), partial(self.attempts.finish, reason="cancel")
        self.heart = Heart(
            portal=self.portal,
            state=self.heartbeat,
            stop=stop,
            cancel=cancel,
            answered=self.heard,
            lost=self.attempts.lost,
            want=self.want,
        )
        self.ear = Ear(
            redis=self.control,
            claimant=self.claimant,
            stop=stop,
            cancel=cancel,
            watch=self.attempts.watch,
        )
        self.worker: worker.Worker | None = None
        self.tending: list[asyncio.Task[None]] = []  # of each pool its model
        self.started_at = time.time()
        self.portal_at: float | None = None  # when it answered a heartbeat last
        self.noting: asyncio.Task[None] | None = None

    def report(self, report: Report) -> None:
        self.reporter.put(report)

    # What the portal says

    def heard(self) -> None:
        """The portal answered a heartbeat."""
        self.portal_at = time.time()
        self.reporter.hurry()

    def want(self, given: Wanted) -> None:
        """The portal says what is to run here. It is kept, so that a start without the portal knows it."""
        log.info("the portal wants other models", extra={"pools": {each.pool: each.state for each in given.pools}})
        self.wanted = given
        wanted.keep(self.configuration.spool, given)
        self.steer()

    def steer(self) -> None:
        for each in self.wanted.pools:
            if post := self.posts.get(each.pool):
                post.resident.want(each)

    async def heartbeat(self) -> Heartbeat:
        return Heartbeat(
            claimant=self.claimant,
            leases=self.attempts.leases,
            pools=[post.health(self.against(post)) for post in self.posts.values()] + self.unknown(),
            wanted=self.wanted.version,
            power_w=meters.power_w(self.posts.values()),
            reading=self.recorder.news(),
        )

    def against(self, post: Post) -> str:
        """What speaks against new work there: that this process ends, or a GPU."""
        return "the runner is stopping" if self.stopping.is_set() else self.watch.refusal(post.gpus)

    def unknown(self) -> list[PoolHealth]:
        """Pools of this node that its file does not have."""
        reason = "runner.toml of this node has no pool of this code"
        return [
            PoolHealth(pool=each.pool, ready=False, reason=reason, state="absent")
            for each in self.wanted.pools
            if each.pool not in self.posts
        ]

    def hurry(self) -> None:
        self.heart.hurry.set()

    # What it says to its own machine

    def standing(self) -> status.Status:
        return status.Status(
            pid=os.getpid(),
            claimant=self.claimant,
            started_at=self.started_at,
            at=time.time(),
            stopping=self.stopping.is_set(),
            portal_at=self.portal_at,
            attempts=len(self.attempts.executions),
            reports=len(self.reporter.waiting),
            pools=[
                status.PoolStatus(
                    **post.health(self.against(post)).model_dump(),
                    kind=post.pool.kind,
                    engine=post.pool.engine,
                    model=post.pool.model,
                    slots=post.pool.slots,
                )
                for post in self.posts.values()
            ],
            gpus=[
                status.GPUStatus(
                    uuid=uuid,
                    name=told.get("name"),
                    power_w=told.get("power_w") if told.get("power_w") is not None else told.get("power_average_w"),
                    temperature_c=told.get("temperature_c"),
                    fault=self.watch.faults.get(uuid, ""),
                )
                for uuid, told in self.watch.readings.items()
            ],
        )

    async def note(self) -> None:
        """A disk that is full or away costs the note and nothing else."""
        while True:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(status.write, self.configuration.spool, self.standing())
            await asyncio.sleep(NOTE_SECONDS)

    # Life

    async def run(self) -> None:
        """Until SIGTERM or SIGINT; a second one ends what still runs at once."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        await self.start()
        try:
            await self.stopping.wait()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
            hurried = asyncio.Event()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, hurried.set)
            await self.stop(hurried)

    async def start(self) -> None:
        log.info("runner starts", extra={"claimant": self.claimant, "pools": list(self.posts)})
        self.steer()
        self.reporter.start()
        self.recorder.start()
        self.heart.start()
        self.ear.start()
        self.tending = [
            asyncio.create_task(post.resident.tend(), name=f"model {code}") for code, post in self.posts.items()
        ]
        self.checks.start()
        self.noting = asyncio.create_task(self.note(), name="status")
        if await meters.start(self.posts.values(), self.sampler):
            self.watch.start({uuid for post in self.posts.values() for uuid in post.gpus})
        else:
            await self.sampler.stop()
        loop = asyncio.get_running_loop()

        def hand_over(order: dict[str, Any]) -> None:
            loop.call_soon_threadsafe(self.attempts.accept, order)

        app = worker.application(
            broker_url=self.configuration.broker_url,
            pools=list(self.posts),
            accept=hand_over,
        )
        self.worker = worker.Worker(app)
        self.worker.start()

    async def stop(self, hurried: asyncio.Event) -> None:
        """Take no more orders, let attempts finish, report the rest as failed, and leave no process behind."""
        log.info("runner stops", extra={"running": len(self.attempts.executions)})
        self.stopping.set()
        self.heart.hurry.set()
        if self.worker:
            await asyncio.to_thread(self.worker.stop)
        await self.attempts.stop(hurried)
        await self.reporter.stop(REPORT_SECONDS)
        await self.recorder.stop(TELEMETRY_SECONDS)
        await self.heart.stop()
        await self.ear.stop()
        await self.checks.stop()
        for task in self.tending:
            task.cancel()
        await asyncio.gather(*self.tending, return_exceptions=True)
        await self.watch.stop()
        await meters.stop(self.posts.values())
        await asyncio.gather(*(post.resident.stop() for post in self.posts.values()), return_exceptions=True)
        await self.sampler.stop()
        await self.portal.close()
        await self.redis.aclose()
        await self.control.aclose()
        if self.noting:
            self.noting.cancel()
            await asyncio.gather(self.noting, return_exceptions=True)
        status.remove(self.configuration.spool)
        self.spool.close()
        log.info("runner stopped")
