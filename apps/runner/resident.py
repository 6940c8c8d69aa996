"""One pool's model on this node: what it is, what the portal wants it to be, and the steps from one to the other.

    absent → fetching → on-disk → loading → ready ⇄ parked, and error, from which each is tried again

One loop (`tend`) takes all steps, so that none is taken twice or against another.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path

from apps.runner.engines.engine import Engine, Health, Piece, Work, unavailable
from apps.runner.protocol import Desired, ModelState, Weights
from apps.runner.weights import NotFetched, Store

log = logging.getLogger(__name__)

PROBE_SECONDS, EAGER_SECONDS, LIMIT_SECONDS = 2.0, 0.1, 1.5  # health of an engine: when ready, until then, of one probe
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 300.0  # before a fetch that failed is tried again
HANG_SECONDS = 60.0  # an engine of ours that was ready and answers nobody for so long is started again
LOAD_SECONDS = 1800.0  # and one that does not become ready
WAKE_SECONDS = 600.0  # work waits at most so long for a parked model; its own deadline is nearer as a rule

STARTING = Health(ready=False, reason="starting")
BY_PORTAL = "parked by the portal"
PARKED = Health(ready=True, reason="parked: the next work loads it again")


class Resident:
    """`make` builds the engine for weights, or for what the node's file names where they are None.

    `file` is the model file that the node's own file names; `fed`: the engine loads a file, so it needs that or weights.
    `busy` counts the work that runs. `changed` is called when `health` did.
    """

    def __init__(
        self,
        name: str,
        *,
        make: Callable[[Path | None], Engine],
        store: Store,
        file: Path | None,
        fed: bool,
        slots: int = 1,
        busy: Callable[[], int],
        changed: Callable[[], None],
    ) -> None:
        self.name = name
        self.make = make
        self.store = store
        self.file = file
        self.fed = fed
        self.slots = slots
        self.busy = busy
        self.changed = changed
        self.desired = Desired(pool=name)
        self.state: ModelState = "absent"
        self.health = STARTING
        self.engine: Engine | None = None
        self.loaded: Weights | None = None  # what the engine was built for
        self.fetching: asyncio.Task[Path] | None = None
        self.fetched: Path | None = None
        self.fetch_began = 0.0
        self.pause = FIRST_PAUSE
        self.retry_at = 0.0
        self.fetch_seconds: float | None = None
        self.load_seconds: float | None = None
        self.load_began = 0.0
        self.counted: list[int] = []  # processes whose loading is measured
        self.well_at = 0.0  # when it was ready last
        self.used_at = time.monotonic()
        self.parked = False
        self.news = asyncio.Event()
        self.cold = False  # what is being fetched was not here
        self.settled = asyncio.Event()  # ready, or nothing to wait for

    # What the process does with it

    def want(self, desired: Desired) -> None:
        if desired != self.desired:
            before, self.desired = self.desired, desired
            if desired.weights != before.weights:
                self.drop_fetch()
            self.store.claim(self.name, None if desired.state == "absent" else desired.weights)
            self.parked = self.parked and (desired.state, desired.weights) == (before.state, before.weights)
            self.news.set()

    def run(self, work: Work) -> AsyncGenerator[Piece, None]:
        """As the engine's own; a parked model is loaded first."""
        self.used_at = time.monotonic()
        if self.engine is not None and not self.parked:
            return self.engine.run(work)
        return self.woken(work)

    async def woken(self, work: Work) -> AsyncGenerator[Piece, None]:
        if self.desired.state != "ready":
            raise unavailable("The model is not loaded here. The request may be sent again.")
        self.parked = False
        self.news.set()
        try:
            async with asyncio.timeout(WAKE_SECONDS):
                await self.settled.wait()
        except TimeoutError:
            raise unavailable("The model was not loaded in time. The request may be sent again.") from None
        if self.engine is None or self.state != "ready":
            raise unavailable("The model could not be loaded. The request may be sent again.")
        async with aclosing(self.engine.run(work)) as pieces:
            async for piece in pieces:
                yield piece

    def processes(self) -> list[int]:
        return self.engine.processes() if self.engine else []

    async def tend(self) -> None:
        while True:
            try:
                await self.step()
            except Exception:
                log.exception("a model cannot be tended", extra={"pool": self.name})
                self.show("error", "an error of ours; the runner's log has it")
            eager = self.state in {"loading", "fetching", "on-disk"}
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EAGER_SECONDS if eager else PROBE_SECONDS):
                    await self.news.wait()
            self.news.clear()

    async def stop(self) -> None:
        self.drop_fetch()
        await self.unload()

    # Steps

    async def step(self) -> None:
        """One look, and whatever it asks for. Only waits for an engine's end and for its health."""
        if self.busy():
            self.used_at = time.monotonic()
        if self.desired.state == "absent":
            await self.leave()
        elif self.desired.state == "parked" and self.engine is not None:
            await self.park()
        elif self.missing(path := self.place()):
            if self.engine is not None:  # with other weights it serves until these are here
                await self.look()
        elif self.desired.state == "parked":
            self.show("parked", BY_PORTAL)
        else:
            await self.serve(path)

    async def serve(self, path: Path | None) -> None:
        if self.engine is not None and self.loaded != self.desired.weights:
            if self.busy():
                return self.show("on-disk", "other weights are loaded when its running work is done")
            await self.unload()
        if self.parked or self.idle():
            self.parked = True
            await self.unload()  # work that comes meanwhile has it loaded by the next step
            return self.show("parked", PARKED.reason, ready=True)
        if self.engine is None:
            await self.load(path if self.desired.weights else None)
        return await self.look()

    def place(self) -> Path | None:
        """Where what is to be loaded lies; None where it is not here yet, or the engine loads no file."""
        return self.file if self.desired.weights is None else self.weights(self.desired.weights)

    def missing(self, path: Path | None) -> bool:
        """Whether there is nothing yet that could be loaded; why is shown."""
        if self.desired.weights is not None:
            return path is None  # `weights` showed it
        if not self.fed:
            return False
        if path is None:
            self.tell("absent", "no model file: name `gguf` in runner.toml, or weights in the pool's deployment")
        elif not path.exists():
            self.tell("error", f"there is no model file {path}")
        else:
            return False
        return True

    def weights(self, wanted: Weights) -> Path | None:
        """Where they lie, once they do. A fetch runs beside this loop."""
        if self.fetched is not None and self.fetched.exists():
            return self.fetched
        now = time.monotonic()
        if self.fetching is None:
            if now < self.retry_at:
                return None
            self.fetch_began, self.cold = now, not self.store.path(wanted).exists()
            self.fetching = asyncio.create_task(self.store.fetch(wanted), name=f"weights {self.name}")
        if not self.fetching.done():
            self.tell("fetching", self.store.progress(wanted))
            return None
        done, self.fetching = self.fetching, None
        try:
            self.fetched = done.result()
        except NotFetched as error:
            self.retry_at = now + self.pause
            self.tell("error", f"its weights were not fetched: {error}; tried again in {self.pause:.0f} s")
            self.pause = min(2 * self.pause, LONGEST_PAUSE)
            return None
        self.pause = FIRST_PAUSE
        if self.cold:
            self.fetch_seconds = round(now - self.fetch_began, 1)
        self.tell("on-disk", "its weights are here")
        return self.fetched

    def drop_fetch(self) -> None:
        if self.fetching:
            self.fetching.cancel()
        self.fetching, self.fetched, self.retry_at, self.pause = None, None, 0.0, FIRST_PAUSE

    def idle(self) -> bool:
        """Whether it may be unloaded until the next work. What somebody else runs is not ours to unload."""
        after = self.desired.park_after_seconds
        if after is None or self.state != "ready" or self.engine is None or not self.engine.children():
            return False
        return not self.busy() and time.monotonic() - self.used_at >= after

    async def park(self) -> None:
        if self.busy():
            return self.show("ready", f"{BY_PORTAL}, when its running work is done")
        await self.unload()
        return self.show("parked", BY_PORTAL)

    async def leave(self) -> None:
        if self.busy():
            return self.show("ready", "removed by the portal, when its running work is done")
        await self.unload()
        if self.desired.weights is not None and self.state != "absent":
            self.drop_fetch()
            await asyncio.to_thread(self.store.remove, self.desired.weights)
        return self.show("absent", "removed by the portal")

    async def load(self, path: Path | None) -> None:
        self.loaded = self.desired.weights
        self.engine = self.make(path)
        self.load_began = self.well_at = time.monotonic()
        self.counted = []
        self.show("loading", "starting")
        await self.engine.start()

    async def unload(self) -> None:
        self.settled.clear()
        engine, self.engine = self.engine, None
        if engine is not None:
            await engine.stop()

    async def look(self) -> None:
        """Is it well? An engine of ours that hangs is started again; one of somebody else's is only told of."""
        engine = self.engine
        assert engine is not None
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                health = await engine.health()
        except TimeoutError:
            health = Health(ready=False, reason="the engine does not answer in time")
        now = time.monotonic()
        children = engine.children()
        if health.ready:
            self.measure(now, [child.pid or 0 for child in children])
            self.well_at = now
            return self.show("ready", "", ready=True)
        if not children:
            return self.show(
                "error" if self.state != "loading" or now > self.load_began + 1 else "loading", health.reason
            )
        if trouble := next((child.trouble for child in children if child.trouble), ""):
            return self.show("error", trouble)
        was_ready = self.well_at > self.load_began
        if was_ready and [child.pid or 0 for child in children] != self.counted:  # it ended, and is loaded anew
            self.load_began, self.well_at, was_ready = now, now, False
        if now - self.well_at > (HANG_SECONDS if was_ready else LOAD_SECONDS):
            log.error("an engine hangs and is started again", extra={"pool": self.name, "reason": health.reason})
            self.load_began = self.well_at = now
            for child in children:
                child.kill()
        return self.show("loading", health.reason)

    def measure(self, now: float, processes: list[int]) -> None:
        """How long the model took from the start of its processes until it was ready, the last time."""
        if processes and processes != self.counted:
            if self.state == "loading" or self.load_seconds is None:
                self.load_seconds = round(now - self.load_began, 1)
            self.counted = processes

    def tell(self, state: ModelState, reason: str) -> None:
        """Of what is not loaded yet. While older weights are served their health is shown."""
        if self.engine is None:
            self.show(state, reason)

    def show(self, state: ModelState, reason: str, *, ready: bool = False) -> None:
        before = self.state, self.health.ready
        self.state = state
        self.health = Health(ready=ready, reason=reason)
        if state in {"ready", "error", "absent"}:
            self.settled.set()
        else:
            self.settled.clear()
        if (state, ready) != before:
            log.info("a model's state changed", extra={"pool": self.name, "state": state, "reason": reason, "ready": ready})  # fmt: skip
            self.changed()
