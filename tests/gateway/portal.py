"""The portal behind a real server, and a site that does what a test tells it to."""

import base64
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import redis
import uvicorn
from django.db import connection

from apps.dispatch import outcomes, reporting
from apps.runner.protocol import End, Energy, Entry, Failure, Order, Report, Usage, control, queue, stream
from cango_portal import database
from tests.servers import servers

ENERGY = Energy(gpu_energy_mj=3_600_000, quality="modelled")
CLAIMANT = "scripted-1"


@dataclass(frozen=True)
class Portal:
    url: str


@contextlib.contextmanager
def serving() -> Iterator[Portal]:
    from cango_portal.asgi import application

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        server = uvicorn.Server(
            uvicorn.Config(application, log_level="warning", proxy_headers=False, timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.005)
            yield Portal(f"http://127.0.0.1:{listener.getsockname()[1]}")
        finally:
            server.should_exit = True
            thread.join(20)


class Attempt:
    """One order in the site's hands: writes its stream and reports, as a runner does."""

    def __init__(self, client: redis.Redis, order: Order) -> None:
        self.client = client
        self.order = order
        self.seq = 0
        self.usage = Usage(prompt_tokens=5)
        self.texts: list[str] = []

    @property
    def key(self) -> str:
        return stream(self.order.pool, self.order.job, self.order.attempt)

    def write(self, *chunks: list[dict[str, Any]], seq: int | None = None, **fields: Any) -> None:
        start = self.seq if seq is None else seq
        entry = Entry(
            claimant=CLAIMANT, fence=self.order.fence, seq=start, chunks=list(chunks), **{"usage": self.usage, **fields}
        )
        self.client.xadd(self.key, {"e": entry.model_dump_json()})
        self.seq = max(self.seq, start + len(chunks))

    def claim(self) -> None:
        self.write()
        self.report("started")

    def say(self, *texts: str, index: int = 0) -> None:
        for text in texts:
            self.texts.append(text if index == 0 else "")
            self.usage = self.usage.model_copy(update={"completion_tokens": self.usage.completion_tokens + 1})
            self.write([{"index": index, "delta": {"content": text}, "finish_reason": None}])

    def report(self, kind: str, **fields: Any) -> outcomes.Outcome:
        common = {
            "kind": kind,
            "job": self.order.job,
            "attempt": self.order.attempt,
            "fence": self.order.fence,
            "claimant": CLAIMANT,
            "at": time.time(),
        }
        outcome = database.run(reporting.report(Report(**{**common, **fields})))
        outcome.announce()
        return outcome

    def finish(
        self,
        state: str = "succeeded",
        *,
        choices: int = 1,
        result: Any = None,
        failure: Failure | None = None,
        report: bool = True,
    ) -> None:
        if state == "succeeded" and self.order.kind == "chat":
            self.write([{"index": n, "delta": {}, "finish_reason": "stop"} for n in range(choices)])
        self.write(end=End(state=state, energy=ENERGY, result=result, failure=failure))
        if report:
            self.report_end(state, result=result, failure=failure)

    def report_end(self, state: str = "succeeded", **fields: Any) -> None:
        self.report(
            "finished",
            **{
                "state": state,
                "usage": self.usage,
                "energy": ENERGY,
                "text": "".join(self.texts),
                "finish_reason": "stop" if self.order.kind == "chat" else "",
                "streamed": bool(self.texts),
                **fields,
            },
        )

    def wait_for_cancel(self, seconds: float = 5) -> float:
        """How long until the portal asked to stop."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            for _, entries in self.client.xread({control(CLAIMANT): "0"}, block=50) or ():
                if any(json.loads(fields["e"])["job"] == self.order.job for _, fields in entries):
                    return time.monotonic() - began
        raise AssertionError("nobody asked to stop")


def chat(*texts: str) -> Callable[[Attempt], None]:
    def script(attempt: Attempt) -> None:
        attempt.claim()
        attempt.say(*texts)
        attempt.finish()

    return script


class ScriptedSite:
    """Takes orders off the pool's queue and plays `script` for each, in a thread."""

    def __init__(self, pool: str) -> None:
        self.pool = pool
        self.script: Callable[[Attempt], None] = chat("Hello", " world")
        self.orders: list[Order] = []
        self.failed: list[BaseException] = []
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.client = redis.Redis.from_url(servers.redis_url, decode_responses=True, protocol=2)

    def __enter__(self) -> "ScriptedSite":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.thread.join(10)
        self.client.close()
        assert self.failed == []

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                taken = self.client.brpop([queue(self.pool)], timeout=0.1)
                if taken:
                    (body,), _, _ = json.loads(base64.b64decode(json.loads(taken[1])["body"]))
                    order = Order.model_validate(body)
                    self.orders.append(order)
                    self.script(Attempt(self.client, order))
        except BaseException as error:
            self.failed.append(error)
        finally:
            connection.close()
