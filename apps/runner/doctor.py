"""What a node sees, one line each, for the person who sets it up. Nothing is changed."""

from __future__ import annotations

import asyncio

import httpx
from kombu import Connection
from redis import RedisError
from redis.asyncio import Redis

from apps.runner import protocol
from apps.runner.config import Configuration
from apps.runner.counters import Sampler
from apps.runner.engines.openai_http import OpenAIEngine

SECONDS = 3.0


async def examine(configuration: Configuration) -> int:
    """Print each finding; 1 where something a runner needs is missing."""
    findings = [
        await portal(configuration),
        await redis(configuration),
        await asyncio.to_thread(broker, configuration),
        await gpus(),
        *[await engine(configuration, pool) for pool in configuration.pools],
    ]
    for good, text in findings:
        print(f"{'ok  ' if good else 'BAD '} {text}")
    return 0 if all(good for good, _ in findings) else 1


async def portal(configuration: Configuration) -> tuple[bool, str]:
    headers = {"Authorization": f"Bearer {configuration.node_token}"}
    beat = protocol.Heartbeat(claimant="doctor").model_dump_json()
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=SECONDS, headers=headers) as client:
            answer = await client.post(f"{configuration.portal_url}/agent/v1/heartbeat", content=beat)
    except (httpx.HTTPError, OSError) as error:
        return False, f"portal {configuration.portal_url}: does not answer ({type(error).__name__})"
    if answer.status_code in {401, 403}:
        return False, f"portal {configuration.portal_url}: answers, but refuses this node's token"
    if answer.status_code != 200:
        return False, f"portal {configuration.portal_url}: answers {answer.status_code} to a heartbeat"
    return True, f"portal {configuration.portal_url}: answers and knows this node"


async def redis(configuration: Configuration) -> tuple[bool, str]:
    client = Redis.from_url(configuration.redis_url, socket_timeout=SECONDS, socket_connect_timeout=SECONDS)
    try:
        await client.ping()
    except (RedisError, OSError) as error:
        return False, f"streams: Redis does not answer ({type(error).__name__})"
    finally:
        await client.aclose()
    return True, "streams: Redis answers"


def broker(configuration: Configuration) -> tuple[bool, str]:
    try:
        with Connection(configuration.broker_url, connect_timeout=SECONDS, transport_options={"socket_connect_timeout": SECONDS}) as connection:  # fmt: skip
            connection.ensure_connection(max_retries=1, timeout=int(SECONDS))
    except Exception as error:  # each transport has its own
        return False, f"orders: the broker does not answer ({type(error).__name__})"
    return True, "orders: the broker answers"


async def gpus() -> tuple[bool, str]:
    sampler = Sampler()
    reading = await sampler.read()
    await sampler.stop()
    if not reading:
        return True, "energy: no GPU with an energy counter here; modelled from the engines' CPU time"
    return True, f"energy: NVML counters of {len(reading)} GPUs: {', '.join(reading)}"


async def engine(configuration: Configuration, pool: object) -> tuple[bool, str]:
    from importlib.util import find_spec

    from apps.runner.config import Pool

    assert isinstance(pool, Pool)
    name = f"pool {pool.code} ({pool.kind}, {pool.slots} slots)"
    if pool.engine == "url":
        http = OpenAIEngine(url=pool.url, key=pool.key)
        health = await http.health()
        await http.stop()
        return health.ready, f"{name}: {pool.url} {'answers' if health.ready else health.reason}"
    package = {"llama": "xllamacpp", "rapidocr": "rapidocr"}[pool.engine]
    if find_spec(package) is None:
        return False, f"{name}: the package {package} is not installed; the extra `engines` brings it"
    if pool.engine == "llama" and not configuration.gguf(pool).exists():
        return False, f"{name}: there is no model file {configuration.gguf(pool)}"
    return True, f"{name}: embedded engine {pool.engine}"
