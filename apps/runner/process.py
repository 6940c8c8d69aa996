"""One runner process: its pools and engines, the attempts under way, and everything that talks to the portal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from apps.runner import burning_in, config, heartbeat, identity, protocol, status, wanted, worker
from apps.runner.counters import CPUCounter, GPUCounter, Sampler
from apps.runner.engines.command import WEIGHTS
from apps.runner.engines.engine import Engine
from apps.runner.execution import Execution, Reason, Station
from apps.runner.gate import Gate
from apps.runner.heartbeat import Ear, Heart
from apps.runner.meter import Meter
from apps.runner.models import CHAT_CONTEXT, EMBEDDINGS_CONTEXT
from apps.runner.output import Output, Writer
from apps.runner.portal import Portal, PortalAway, PortalRefused
from apps.runner.probing import Probe
from apps.runner.protocol import Attempt, Heartbeat, Lease, Order, PoolHealth, Report, Wanted
from apps.runner.reports import Reporter, Spool
from apps.runner.resident import Resident
from apps.runner.shard import ShardExecution
from apps.runner.telemetry import Recorder
from apps.runner.watch import Watch
from apps.runner.weights import Store

log = logging.getLogger(__name__)

FINISH_SECONDS = 20.0  # running attempts may finish so long after SIGTERM
REPORT_SECONDS = 5.0  # and what they report is sent so long
TELEMETRY_SECONDS = 1.0  # and what the GPUs said; the rest stays on disk
PROBE_SECONDS = 1.0  # between two looks at whether a probe or a test is due
TEST_AGAIN_SECONDS = 30.0  # after one that we could not end
NOTE_SECONDS = 1.0  # between two of what it notes for `cango-runner status`
SEEN = 20_000  # attempts remembered against a second delivery
CONNECTIONS = 32  # to Redis, at most

Key = tuple[str, int]


class Post:
    """One pool as this process serves it."""

    def __init__(
        self, configuration: config.Configuration, pool: config.Pool, store: Store, changed: Callable[[], None]
    ) -> None:
        self.pool = pool
        self.gate = Gate(pool.slots)
        self.meter: Meter | None = None
        self.running = 0
        self.testing = 0  # 1 while it is tested
        self.gpus: tuple[str, ...] = ()  # its engine's, where they are known
        self.resident = Resident(
            pool.code,
            make=partial(engine_of, configuration, pool),
            store=store,
            file=configuration.gguf(pool),
            fed=pool.engine == "llama" or WEIGHTS in " ".join(pool.command),
            slots=pool.slots,
            busy=lambda: self.running + self.testing,
            changed=changed,
        )
        self.model = pool.model or pool.code  # as its engine knows it
        self.probe = Probe(self.resident, kind=pool.kind, model=self.model)
        self.tested: int | None = None  # the last test of it whose result the portal has


def engine_of(configuration: config.Configuration, pool: config.Pool, weights: Path | None) -> Engine:
    """`weights`: where those lie that the portal named; None: what the file names."""
    log = configuration.spool / "logs" / f"{pool.code}.log"
    if pool.engine == "llama":
        from apps.runner.engines.llama import LlamaEngine

        embeddings = pool.kind == "embeddings"
        gguf = weights or configuration.gguf(pool)
        assert gguf  # a model without either is not loaded
        return LlamaEngine(
            gguf=gguf,
            model=pool.model or pool.code,
            slots=pool.slots,
            context=pool.context or (EMBEDDINGS_CONTEXT if embeddings else CHAT_CONTEXT),
            embeddings=embeddings,
            directory=configuration.spool,
            log=log,
        )
    if pool.engine == "rapidocr":
        from apps.runner.engines.rapidocr import RapidOCREngine

        return RapidOCREngine(name=pool.code, slots=pool.slots, log=log)
    reranks = pool.kind == "rerank"
    if pool.command:
        from apps.runner.engines.command import CommandEngine

        return CommandEngine(
            name=pool.code,
            command=pool.command,
            weights=weights,
            log=log,
            url=pool.url,
            key=pool.key,
            dimensions=pool.dimensions,
            reranks=reranks,
        )
    from apps.runner.engines.openai_http import OpenAIEngine

    return OpenAIEngine(url=pool.url, key=pool.key, dimensions=pool.dimensions, reranks=reranks)


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
        self.executions: dict[Key, Execution] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.unanswered: dict[Key, Lease] = {}  # finished, and the portal has not said so yet: still ours
        self.seen: dict[Key, None] = {}
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
        self.reporter = Reporter(portal=self.portal, spool=self.spool, refused=self.refused, answered=self.answered)
        self.heart = Heart(
            portal=self.portal,
            state=self.heartbeat,
            stop=lambda attempt: self.finish(attempt, "stop"),
            cancel=lambda attempt: self.finish(attempt, "cancel"),
            answered=self.heard,
            lost=self.lost,
            want=self.want,
        )
        self.ear = Ear(
            redis=self.control,
            claimant=self.claimant,
            stop=lambda attempt: self.finish(attempt, "stop"),
            cancel=lambda attempt: self.finish(attempt, "cancel"),
        )
        self.worker: worker.Worker | None = None
        self.probes: list[asyncio.Task[None]] = []
        self.started_at = time.time()
        self.portal_at: float | None = None  # when it answered a heartbeat last
        self.noting: asyncio.Task[None] | None = None

    # Orders

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
        self.reporter.put(report)

    def finish(self, attempt: Attempt, reason: Reason) -> None:
        if execution := self.executions.get((attempt.job, attempt.attempt)):
            execution.finish(reason)

    # What the portal says

    def refused(self, job: str, attempt: int) -> None:
        self.unanswered.pop((job, attempt), None)
        self.finish(Attempt(job=job, attempt=attempt), "stop")

    def answered(self, job: str, attempt: int) -> None:
        self.unanswered.pop((job, attempt), None)

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

    def lost(self, silent_seconds: float) -> None:
        """No beat was answered for so long: what was claimed before that is not ours any more."""
        self.unanswered.clear()
        for execution in self.executions.values():
            most = heartbeat.SHARD_LOST_SECONDS if execution.order.shard else heartbeat.LOST_SECONDS
            claimed_at = execution.claimed_at
            if silent_seconds >= most and claimed_at is not None and time.monotonic() - claimed_at >= most:
                execution.finish("lost")

    async def heartbeat(self) -> Heartbeat:
        leases = [execution.lease for execution in self.executions.values() if execution.claimed_at is not None]
        held = {(lease.job, lease.attempt) for lease in leases}
        leases += [lease for key, lease in self.unanswered.items() if key not in held]
        powers = {id(post.meter): post.meter.power_w for post in self.posts.values() if post.meter}
        known = [power for power in powers.values() if power is not None]
        return Heartbeat(
            claimant=self.claimant,
            leases=leases,
            pools=[self.health_of(post) for post in self.posts.values()] + self.unknown(),
            wanted=self.wanted.version,
            power_w=round(sum(known), 3) if known else None,
            reading=self.recorder.news(),
        )

    def health_of(self, post: Post) -> PoolHealth:
        """What speaks against new work there: that this process ends, a GPU, or the engine."""
        against = "the runner is stopping" if self.stopping.is_set() else self.watch.refusal(post.gpus)
        against = against or post.probe.failure
        resident = post.resident
        return PoolHealth(
            pool=post.pool.code,
            ready=resident.health.ready and not against,
            reason=against or resident.health.reason,
            running=post.running,
            state=resident.state,
            fetch_seconds=resident.fetch_seconds,
            load_seconds=resident.load_seconds,
        )

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

    # Probes and tests

    async def probe(self, post: Post) -> None:
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            if not post.testing and await post.probe.look(post.meter):
                self.hurry()

    async def burn_in(self) -> None:
        """One pool after the other, so that none is measured beside another on the same GPUs."""
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            for post in self.posts.values():
                wanted = post.resident.desired.test
                if wanted is not None and wanted != post.tested and post.resident.state == "ready":
                    await self.test(post)

    async def test(self, post: Post) -> None:
        log.info("a test begins", extra={"pool": post.pool.code})
        post.testing = 1
        try:
            result = await burning_in.test(
                post.resident,
                kind=post.pool.kind,
                model=post.model,
                meter=post.meter,
                gpus={uuid: self.watch.readings.get(uuid, {}) for uuid in post.gpus},
                fault=lambda: self.watch.refusal(post.gpus),
            )
            log.info("a test ended", extra={"pool": post.pool.code, "passed": result.passed})
            await self.portal.burned_in(result)
            post.tested = result.test
        except (PortalAway, PortalRefused) as error:  # it is done once more
            log.warning("the portal does not take a test's result", extra={"error": str(error)})
        except Exception:
            log.exception("a test ended by an error of ours", extra={"pool": post.pool.code})
            await asyncio.sleep(TEST_AGAIN_SECONDS)
        finally:
            post.testing = 0

    # What it says to its own machine

    def standing(self) -> status.Status:
        return status.Status(
            pid=os.getpid(),
            claimant=self.claimant,
            started_at=self.started_at,
            at=time.time(),
            stopping=self.stopping.is_set(),
            portal_at=self.portal_at,
            attempts=len(self.executions),
            reports=len(self.reporter.waiting),
            pools=[
                status.PoolStatus(
                    **self.health_of(post).model_dump(),
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
        self.probes = [
            asyncio.create_task(post.resident.tend(), name=f"model {code}") for code, post in self.posts.items()
        ]
        self.probes += [
            asyncio.create_task(self.probe(post), name=f"probe {code}") for code, post in self.posts.items()
        ]
        self.probes.append(asyncio.create_task(self.burn_in(), name="burn-in"))
        self.noting = asyncio.create_task(self.note(), name="status")
        await self.start_meters()  # before the first order
        loop = asyncio.get_running_loop()

        def hand_over(order: dict[str, Any]) -> None:
            loop.call_soon_threadsafe(self.accept, order)

        app = worker.application(
            broker_url=self.configuration.broker_url,
            pools=list(self.posts),
            accept=hand_over,
        )
        self.worker = worker.Worker(app)
        self.worker.start()

    async def start_meters(self) -> None:
        """One meter per set of GPUs; without a GPU, one per engine that is a child of ours, modelled from its CPU time."""
        reading = await self.sampler.read() or {}
        shared: dict[tuple[str, ...], Meter] = {}
        for post in self.posts.values():
            gpus = tuple(sorted(post.pool.gpus or reading))
            on_gpu = bool(reading) and post.pool.engine == "url"  # the embedded engines compute on the CPU
            if on_gpu and gpus not in shared:
                counter = GPUCounter(self.sampler, list(gpus))
                shared[gpus] = Meter(counter, idle_w=post.pool.idle_w, fixed_w=post.pool.fixed_w)
                await shared[gpus].start()
            if on_gpu:
                post.meter, post.gpus = shared[gpus], gpus
            elif post.pool.engine != "url":
                post.meter = Meter(CPUCounter(post.resident.processes))
                await post.meter.start()
        if reading:
            self.watch.start({uuid for post in self.posts.values() for uuid in post.gpus})
        else:
            await self.sampler.stop()

    async def stop(self, hurried: asyncio.Event) -> None:
        """Take no more orders, let attempts finish, report the rest as failed, and leave no process behind."""
        log.info("runner stops", extra={"running": len(self.executions)})
        self.stopping.set()
        self.heart.hurry.set()
        if self.worker:
            await asyncio.to_thread(self.worker.stop)
        if self.tasks:
            finishing = asyncio.gather(*self.tasks, return_exceptions=True)
            finishing.add_done_callback(lambda _: hurried.set())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FINISH_SECONDS):
                    await hurried.wait()
            for execution in self.executions.values():
                execution.finish("shutdown")
            if self.tasks:
                await asyncio.wait(set(self.tasks), timeout=REPORT_SECONDS)
        await self.reporter.stop(REPORT_SECONDS)
        await self.recorder.stop(TELEMETRY_SECONDS)
        await self.heart.stop()
        await self.ear.stop()
        for probe in self.probes:
            probe.cancel()
        await asyncio.gather(*self.probes, return_exceptions=True)
        await self.watch.stop()
        meters = {id(post.meter): post.meter for post in self.posts.values() if post.meter}
        await asyncio.gather(*(meter.stop() for meter in meters.values()))
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
