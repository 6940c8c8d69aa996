import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
import redis.asyncio

import tests.engine
from apps.runner import models
from apps.runner.protocol import Entry, Order, stream
from tests.runner.portal import FakePortal, running
from tests.servers import servers

POOL = "test-chat"


@pytest.fixture
def portal() -> Iterator[FakePortal]:
    with running() as portal:
        yield portal


@pytest.fixture(scope="session")
def engine_door() -> Iterator[tuple[tests.engine.Door, str]]:
    door = tests.engine.Door(tests.engine.Engine(tests.engine.Behaviour()))
    with tests.engine.serving(door) as url:
        yield door, url


@pytest.fixture
def engine(engine_door: tuple[tests.engine.Door, str]) -> tests.engine.Running:
    """One of its own for each test; only the server is shared, for its start and end take 0.4 s."""
    door, url = engine_door
    door.engine = tests.engine.Engine(tests.engine.Behaviour())
    return tests.engine.Running(url=f"{url}/v1", engine=door.engine)


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    models.make(directory)
    return directory


@pytest.fixture
async def streams(valkey: redis.Redis) -> AsyncIterator[redis.asyncio.Redis]:
    client = redis.asyncio.Redis.from_url(servers.redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def entries(valkey: redis.Redis) -> Callable[[Order], list[Entry]]:
    def read(order: Order) -> list[Entry]:
        found: Any = valkey.xrange(stream(order.pool, order.job, order.attempt))
        return [Entry.model_validate_json(fields["e"]) for _, fields in found]

    return read


def order(**fields: Any) -> Order:
    """A chat of eight tokens, unless said otherwise."""
    now = time.time()
    given = {
        "job": str(uuid4()),
        "attempt": 1,
        "fence": uuid4().hex,
        "pool": POOL,
        "kind": "chat",
        "model": tests.engine.MODEL,
        "body": {"messages": [{"role": "user", "content": "how much power is left"}]},
        "max_completion_tokens": 8,
        "expires_at": now + 30,
        "deadline_at": now + 60,
    }
    return Order.model_validate(given | fields)


def text_of(entries: list[Entry]) -> str:
    """What a reader that cuts overlaps by `seq` has at the end."""
    chunks: list[list[dict[str, Any]]] = []
    for entry in entries:
        assert entry.seq <= len(chunks), "a gap"
        chunks[entry.seq :] = entry.chunks
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk)


def as_json(order: Order) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(order.model_dump_json())
    return value
