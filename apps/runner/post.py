"""One pool as a runner serves it: its engine with the model in it, its gate, its meter, and how it is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from apps.runner import config
from apps.runner.engines.command import WEIGHTS
from apps.runner.engines.engine import Engine
from apps.runner.gate import Gate
from apps.runner.meter import Meter
from apps.runner.models import CHAT_CONTEXT, EMBEDDINGS_CONTEXT
from apps.runner.probing import Probe
from apps.runner.protocol import PoolHealth
from apps.runner.resident import Resident
from apps.runner.weights import Store


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

    def health(self, against: str) -> PoolHealth:
        """`against`: what speaks against new work from without; empty is nothing."""
        against = against or self.probe.failure
        resident = self.resident
        return PoolHealth(
            pool=self.pool.code,
            ready=resident.health.ready and not against,
            reason=against or resident.health.reason,
            running=self.running,
            state=resident.state,
            fetch_seconds=resident.fetch_seconds,
            load_seconds=resident.load_seconds,
        )


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
