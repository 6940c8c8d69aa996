"""Clients in a closed loop over raw sockets: each sends its next request when it has the answer to the last.

As little work as can be done in Python, since the machine's few cores are shared with what is measured: an answer is
not parsed, its end is looked for. Run as a process of its own; it prints one line of JSON:

    python -m cango_portal.bench.gateway.load '{"url": …, "key": …, "model": …, "clients": 64, "seconds": 4, "stream": true}'
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop

from cango_portal.bench.gateway import processes
from cango_portal.bench.gateway.engine import STREAM_SECONDS, TOKENS, WORD

SAID = b'"content":"' + WORD.encode()
END = b"0\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
ANSWER_SECONDS = 30  # one that takes longer is a failure


@dataclass(frozen=True, slots=True)
class Wanted:
    url: str
    model: str
    clients: int
    seconds: float
    stream: bool
    key: str = "none"
    warm_seconds: float = 1.0
    pids: dict[str, int] = field(default_factory=dict)
    embeddings: bool = False


@dataclass(slots=True)
class Heard:
    """What came of one round. Seconds are of single requests; `gaps` lie between two arrivals of text in one stream.

    `cpu_seconds` and `memory_bytes` are of the processes that `Wanted.pids` names; the clients' own are `load`.
    """

    requests: int = 0
    tokens: int = 0
    failures: int = 0
    elapsed_seconds: float = 0.0
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    memory_bytes: dict[str, int] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    failure: str = ""


class Client(asyncio.Protocol):
    """One connection. `counted`: what is heard now counts; before that everything warms up."""

    def __init__(self, wanted: Wanted, heard: Heard, request: bytes) -> None:
        self.wanted = wanted
        self.heard = heard
        self.request = request
        self.clock = time.perf_counter
        self.transport: asyncio.Transport | None = None
        self.began = 0.0
        self.counted = False
        self.reset()

    def reset(self) -> None:
        self.head = b""
        self.left = -1  # bytes of a body that said how long it is
        self.tail = b""
        self.text_at = 0.0
        self.tokens = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's does not descend from it

    def connection_lost(self, exc: Exception | None) -> None:
        if self.began:
            self.fail("the connection was closed")

    def send(self) -> None:
        assert self.transport is not None
        self.reset()
        self.began = self.clock()
        self.transport.write(self.request)

    def fail(self, why: str) -> None:
        self.began = 0.0
        self.heard.failures += 1
        self.heard.failure = self.heard.failure or why

    def data_received(self, data: bytes) -> None:
        now = self.clock()
        if self.left < 0 and not self.tail:  # still in the head
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, data = self.head[:end], self.head[end + 4 :]
            if not head.startswith(b"HTTP/1.1 200"):
                self.fail((head.split(b"\r\n")[0] + b" " + data[:300]).decode("latin-1"))
                assert self.transport is not None
                self.transport.close()
                return
            length = LENGTH.search(head)
            self.left = int(length[1]) if length else -1
            self.tail = b"."
        if self.left >= 0:
            self.left -= len(data)
            if self.left <= 0:
                self.finish(now)
            return
        # An event is written whole, so a token is not looked for across two reads; the end is.
        fresh = data.count(SAID)
        if fresh:
            if self.counted:
                if self.text_at:
                    self.heard.gaps.append(now - self.text_at)
                else:
                    self.heard.firsts.append(now - self.began)
                self.heard.tokens += fresh
            self.text_at = now
            self.tokens += fresh
        self.tail = (self.tail + data)[-len(END) :]
        if self.tail == END:
            self.finish(now)

    def finish(self, now: float) -> None:
        if self.wanted.stream and self.tokens != TOKENS:
            self.fail(f"{self.tokens} tokens of {TOKENS}")
        elif self.counted:
            self.heard.latencies.append(now - self.began)
            self.heard.requests += 1
        self.send()


def request(wanted: Wanted) -> bytes:
    parts = urlsplit(wanted.url)
    asks = "Which of the sites has power to spare tonight, and at what price?"
    chat = {"messages": [{"role": "user", "content": asks}], "max_tokens": TOKENS}
    body = json.dumps(
        {
            "model": wanted.model,
            **({"input": asks} if wanted.embeddings else chat),
            **({"stream": True} if wanted.stream else {}),
        }
    ).encode()
    return (
        f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer {wanted.key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body


async def hear(wanted: Wanted) -> Heard:
    """One round. Streams begin spread over the length of one, as customers' do; others as soon as they can."""
    loop = asyncio.get_running_loop()
    heard = Heard()
    parts = urlsplit(wanted.url)
    clients = []
    for _ in range(wanted.clients):
        _, client = await loop.create_connection(
            lambda: Client(wanted, heard, request(wanted)), parts.hostname or "", parts.port or 80
        )
        clients.append(client)
    chance = random.Random(1)  # noqa: S311 - the same in every run
    for client in clients:
        if wanted.stream:
            loop.call_later(chance.random() * STREAM_SECONDS, client.send)
        else:
            client.send()
    await asyncio.sleep(wanted.warm_seconds + (STREAM_SECONDS if wanted.stream else 0))
    pids = {"load": os.getpid(), **wanted.pids}
    before, began = processes.cpu_seconds(pids), time.perf_counter()
    for client in clients:
        client.counted = True
        client.began = max(client.began, began) if not wanted.stream else client.began
    await asyncio.sleep(wanted.seconds)
    for client in clients:
        client.counted = False
    heard.elapsed_seconds = time.perf_counter() - began
    heard.cpu_seconds = {name: used - before[name] for name, used in processes.cpu_seconds(pids).items()}
    heard.memory_bytes = {name: processes.memory_bytes(pid) for name, pid in wanted.pids.items()}
    for client in clients:
        client.began = 0.0
        if client.transport is not None:
            client.transport.close()
    return heard


def main(argument: str) -> None:
    given: dict[str, Any] = json.loads(argument)
    sys.stdout.write(json.dumps(asdict(uvloop.run(hear(Wanted(**given))))) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
