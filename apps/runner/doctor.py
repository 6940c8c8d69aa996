"""What a node sees, one line each, for the person who sets it up. Nothing is changed."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from kombu import Connection
from redis import RedisError
from redis.asyncio import Redis

from apps.runner import faults, identity, protocol
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
        *await gpus(),
        *[await engine(configuration, pool) for pool in configuration.pools],
    ]
    for good, text in findings:
        print(f"{'ok  ' if good else 'BAD '} {text}")
    return 0 if all(good for good, _ in findings) else 1


async def portal(configuration: Configuration) -> tuple[bool, str]:
    try:
        node = identity.load(configuration.identity) if configuration.identity else None
    except identity.NotEnrolled as error:
        return False, f"identity: {error}"
    beat = protocol.Heartbeat(claimant="doctor").model_dump_json()
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=SECONDS) as client:
            token = await node.bearer(client, configuration.portal_url) if node else configuration.node_token
            headers = {"Authorization": f"Bearer {token}"}
            answer = await client.post(f"{configuration.portal_url}/agent/v1/heartbeat", content=beat, headers=headers)
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


async def gpus(sampler: Sampler | None = None) -> list[tuple[bool, str]]:
    sampler = sampler or Sampler()
    found = await sampler.readings()
    await sampler.stop()
    if found is None:
        return [(False, "GPUs: NVML is here and does not answer; the driver hangs. Reboot the node")]
    if not found:
        return [(True, "energy: no GPU here; modelled from the engines' CPU time")]
    return [gpu(uuid, told) for uuid, told in found.items()]


def gpu(uuid: str, told: dict[str, Any]) -> tuple[bool, str]:
    """One GPU: what is wrong with it, or how its energy is known. What it does not tell is named, never shown as zero."""
    wrong = faults.fault(told, told["xids"])
    if wrong:
        return False, f"GPU {uuid}: {wrong}"
    watts = told["power_w"] if told["power_w"] is not None else told["power_average_w"]
    power = "does not tell its power" if watts is None else f"{watts:.0f} W"
    counter = (
        "has an energy counter"
        if told["energy_mj"] is not None
        else "has no energy counter: its jobs' energy is unknown"
    )
    return True, f"GPU {uuid}: {told['name']}, {power}, {counter}"


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
