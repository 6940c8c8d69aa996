"""The least that could take the portal's path, to measure against: no jobs, no placement, no leases, nothing checked twice.

A request finds its key's account and reserves in one commit, travels as a Celery message on a list of Valkey to a worker
that asks the engine, comes back by a stream of Valkey, and is settled in a second commit. The worker consumes by Celery,
as our runner does, or with `limit` straight from the list.

    python -m uvicorn cango_portal.bench.gateway.bare:application     with BARE_DATABASE, BARE_REDIS, BARE_QUEUE
    python -m cango_portal.bench.gateway.bare celery|limit <engine's host:port>
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator, MutableMapping
from typing import Any, cast
from uuid import uuid4

import redis.asyncio
import uvloop
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

QUEUE = os.environ.get("BARE_QUEUE", "bare")
OUT = f"{QUEUE}:out"
TASK = "bare.run"
HOLD_MICROUSD, COST_MICROUSD = 700, 400
STREAM_LENGTH = 50_000
DATABASE_CONNECTIONS = 8

TABLES = """
CREATE TABLE bare_account (id int PRIMARY KEY, available bigint NOT NULL CHECK (available >= 0), held bigint NOT NULL CHECK (held >= 0));
CREATE TABLE bare_key (sha256 text PRIMARY KEY, account int NOT NULL);
CREATE TABLE bare_posting (key text PRIMARY KEY, account int NOT NULL, debit text NOT NULL, credit text NOT NULL, amount bigint NOT NULL CHECK (amount > 0), at timestamptz NOT NULL DEFAULT clock_timestamp());
"""
RESERVE = """
WITH found AS (SELECT account FROM bare_key WHERE sha256 = %(sha256)s),
posting AS (INSERT INTO bare_posting (key, account, debit, credit, amount) SELECT %(key)s, account, 'available', 'held', %(amount)s FROM found)
UPDATE bare_account SET available = available - %(amount)s, held = held + %(amount)s
WHERE id = (SELECT account FROM found) AND available >= %(amount)s RETURNING id
"""
SETTLE = """
WITH posting AS (INSERT INTO bare_posting (key, account, debit, credit, amount) VALUES (%(key)s, %(account)s, 'held', 'revenue', %(cost)s))
UPDATE bare_account SET available = available + %(amount)s - %(cost)s, held = held - %(amount)s WHERE id = %(account)s
"""


def prepare(conninfo: str, key: str) -> None:
    """Tables, and one account with a key."""
    import psycopg

    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(TABLES)
        connection.execute("INSERT INTO bare_account VALUES (1, 1000000000000, 0)")
        connection.execute("INSERT INTO bare_key VALUES (%s, 1)", (hashlib.sha256(key.encode()).hexdigest(),))


class Door:
    def __init__(self) -> None:
        self.redis = redis.asyncio.Redis.from_url(os.environ["BARE_REDIS"], decode_responses=False)
        self.pool: AsyncConnectionPool[AsyncConnection[Any]] = AsyncConnectionPool(
            os.environ["BARE_DATABASE"],
            min_size=DATABASE_CONNECTIONS,
            max_size=DATABASE_CONNECTIONS,
            open=False,
            kwargs={"autocommit": True},
        )
        self.waiting: dict[bytes, asyncio.Queue[tuple[bytes, bool]]] = {}
        self.reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.pool.open(wait=True)
        self.reading = asyncio.create_task(self.read())

    async def read(self) -> None:
        """All answers come by one stream, many entries a read."""
        last: Any = "$"
        while True:
            answer: Any = await self.redis.xread({OUT: last}, count=1000, block=1000)
            for _, entries in answer or ():
                for last, fields in entries:  # noqa: B007 - the last one is where the next read begins
                    if queue := self.waiting.get(fields[b"i"]):
                        queue.put_nowait((fields[b"d"], fields[b"e"] == b"1"))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message: MutableMapping[str, Any] = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = dict(scope["headers"])
        sha256 = hashlib.sha256(headers[b"authorization"].removeprefix(b"Bearer ")).hexdigest()
        asked = json.loads(body)
        key = uuid4().hex
        async with self.pool.connection() as connection:
            cursor = await connection.execute(RESERVE, {"sha256": sha256, "key": f"r:{key}", "amount": HOLD_MICROUSD})
            row = await cursor.fetchone()
        if row is None:
            await send({"type": "http.response.start", "status": 402, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        queue = self.waiting[key.encode()] = asyncio.Queue()
        try:
            await self.redis.lpush(QUEUE, message_of(key, asked))
            if asked.get("stream"):
                await send(
                    {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
                )
                async for data in self.answer(queue):
                    await send({"type": "http.response.body", "body": data, "more_body": True})
                await self.settle(key, row[0])
                await send({"type": "http.response.body", "body": b""})
                return
            content = b"".join([data async for data in self.answer(queue)])
            await self.settle(key, row[0])
            head = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": head})
            await send({"type": "http.response.body", "body": content})
        finally:
            del self.waiting[key.encode()]

    @staticmethod
    async def answer(queue: asyncio.Queue[tuple[bytes, bool]]) -> AsyncIterator[bytes]:
        ended = False
        while not ended:
            data, ended = await queue.get()
            yield data

    async def settle(self, key: str, account: int) -> None:
        async with self.pool.connection() as connection:
            await connection.execute(
                SETTLE, {"key": f"s:{key}", "account": account, "amount": HOLD_MICROUSD, "cost": COST_MICROUSD}
            )


def message_of(key: str, asked: dict[str, Any]) -> bytes:
    """What kombu puts on a list for a Celery task (message protocol 2)."""
    body = base64.b64encode(json.dumps([[key, asked], {}, {}]).encode()).decode()
    return json.dumps(
        {
            "body": body,
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"lang": "py", "task": TASK, "id": key, "root_id": key, "parent_id": None, "argsrepr": "", "kwargsrepr": ""},
            "properties": {
                "correlation_id": key,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": QUEUE},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": key,
            },
        }
    ).encode()  # fmt: skip


door: Door | None = None


async def application(scope: Any, receive: Any, send: Any) -> None:
    global door  # noqa: PLW0603 - one door for the process
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                door = Door()
                await door.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await send({"type": "lifespan.shutdown.complete"})
                return None
    assert door is not None
    return await door(scope, receive, send)


class Exchange(asyncio.Protocol):
    """One connection to the engine: sends a request, hands on the payload of what comes."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.news: asyncio.Queue[tuple[bytes, bool]] = asyncio.Queue()
        self.rest = b""
        self.head = True
        self.left = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's does not descend from it

    def ask(self, host: str, asked: bytes) -> None:
        assert self.transport is not None
        self.rest, self.head, self.left = b"", True, -1
        self.transport.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (host.encode(), len(asked), asked)
        )

    def data_received(self, data: bytes) -> None:
        data = self.rest + data
        if self.head:
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self.rest = head
                return None
            self.head = False
            declared = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            self.left = int(declared) if declared else -1
        if self.left >= 0:
            self.left -= len(data)
            self.rest = b""
            return self.news.put_nowait((data, self.left <= 0))
        parts = []
        while True:
            size, found, after = data.partition(b"\r\n")
            length = int(size, 16) if found else -1
            if length < 0 or len(after) < length + 2:
                break
            parts.append(after[:length])
            data = after[length + 2 :]
            if not length:
                self.rest = b""
                return self.news.put_nowait((b"".join(parts), True))
        self.rest = data
        if parts:
            self.news.put_nowait((b"".join(parts), False))
        return None


class Worker:
    def __init__(self, engine: str) -> None:
        self.engine = engine
        self.redis = redis.asyncio.Redis.from_url(os.environ["BARE_REDIS"], decode_responses=False)
        self.orders = redis.asyncio.Redis.from_url(os.environ["BARE_REDIS"], decode_responses=False)
        self.idle: list[Exchange] = []
        self.tasks: set[asyncio.Task[None]] = set()

    async def limit(self) -> None:
        while True:
            taken: Any = await self.orders.brpop([QUEUE], timeout=1)
            if taken:
                (key, asked), _, _ = json.loads(base64.b64decode(json.loads(taken[1])["body"]))
                self.accept(key, asked)

    async def celery(self) -> None:
        """By Celery, in its thread, without acknowledgements: as the runner does."""
        from apps.runner import worker

        loop = asyncio.get_running_loop()
        app = worker.application(
            broker_url=os.environ["BARE_REDIS"].replace("unix://", "redis+socket://"),
            pools=[QUEUE.removeprefix("pool.")],
            accept=lambda _: None,
        )

        @app.task(name=TASK, ignore_result=True, shared=False)
        def run(key: str, asked: dict[str, Any]) -> None:
            loop.call_soon_threadsafe(self.accept, key, asked)

        worker.Worker(app).start()
        await asyncio.Event().wait()

    def accept(self, key: str, asked: dict[str, Any]) -> None:
        task = asyncio.create_task(self.work(key, asked))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def work(self, key: str, asked: dict[str, Any]) -> None:
        host, _, port = self.engine.partition(":")
        if self.idle:
            exchange = self.idle.pop()
        else:
            _, exchange = await asyncio.get_running_loop().create_connection(Exchange, host, int(port))
        exchange.ask(self.engine, json.dumps(asked).encode())
        ended = False
        while not ended:
            data, ended = await exchange.news.get()
            await self.redis.xadd(OUT, {"i": key, "d": data, "e": int(ended)}, maxlen=STREAM_LENGTH, approximate=True)
        self.idle.append(exchange)


async def work(how: str, engine: str) -> None:
    await getattr(Worker(engine), how)()


if __name__ == "__main__":
    uvloop.run(work(sys.argv[1], sys.argv[2]))
