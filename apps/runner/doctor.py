"""What a node sees, one line each, in words that say what to do: for the person who sets it up, or looks for a fault."""

from __future__ import annotations

import asyncio
import email.utils
import os
import shutil
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
from kombu import Connection
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from apps.runner import faults, identity, protocol
from apps.runner.config import Configuration, Pool
from apps.runner.counters import Sampler
from apps.runner.engines.openai_http import OpenAIEngine
from apps.runner.portal import authorization

SECONDS = 3.0
CLOCK_SECONDS = 30.0  # the portal takes two minutes; half a minute is a clock that nobody sets
SPOOL_BYTES = 1024 * 1024 * 1024  # three days of reports of a busy node

Finding = tuple[bool, str]


async def examine(configuration: Configuration, *, sampler: Sampler | None = None) -> int:
    """Print each finding; 1 where something a runner needs is missing."""
    findings = await examined(configuration, sampler=sampler)
    for good, text in findings:
        print(f"{'ok  ' if good else 'BAD '} {text}")
    return 0 if all(good for good, _ in findings) else 1


async def examined(configuration: Configuration, *, sampler: Sampler | None = None) -> list[Finding]:
    findings = await portal(configuration)
    try:
        configuration = await identity.completed(configuration, most=0)
    except identity.NotEnrolled as error:
        if findings[0][0]:  # else the portal's own line says why
            findings.append((False, f"streams and orders: {error}"))
    else:
        findings += [await redis(configuration), await asyncio.to_thread(broker, configuration)]
    findings.append(spool(configuration.spool))
    findings += await gpus(configuration.pools, sampler or Sampler.of(configuration.nvml_command))
    return findings + [await engine(configuration, pool) for pool in configuration.pools]


async def portal(configuration: Configuration) -> list[Finding]:
    url = configuration.portal_url
    try:
        node = identity.load(configuration.identity) if configuration.identity else None
    except identity.NotEnrolled as error:
        return [(False, f"identity: {error}")]
    beat = protocol.Heartbeat(claimant="doctor").model_dump_json()
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=SECONDS) as client:
            token = await node.bearer(client, url) if node else configuration.node_token
            answer = await client.post(f"{url}/agent/v1/heartbeat", content=beat, headers=authorization(token))
    except (httpx.HTTPError, OSError) as error:
        return [
            (
                False,
                f"portal {url}: does not answer ({type(error).__name__}). Is the address right, and may this machine call out?",
            )
        ]
    return [access(url, answer, node), *clock(answer)]


def access(url: str, answer: httpx.Response, node: identity.Identity | None) -> Finding:
    if answer.status_code in {401, 403}:
        what = f"the key of {node.node}" if node else "this node's token"
        why = f": {node.refused}" if node and node.refused else ""
        return False, (
            f"portal {url}: answers, but refuses {what}{why}. Is the node quarantined or retired, or was it enrolled again elsewhere?"
        )
    if answer.status_code == 404:
        return False, f"portal {url}: something answers, but no portal of this kind. Is the address right?"
    if answer.status_code != 200:
        return False, f"portal {url}: answers {answer.status_code} to a heartbeat"
    return True, f"portal {url}: answers and knows this node"


def clock(answer: httpx.Response) -> list[Finding]:
    """Ours beside the portal's, as its answer dates itself. Orders end by it: a wrong clock drops them unseen."""
    try:
        theirs = email.utils.parsedate_to_datetime(answer.headers.get("date", ""))
    except ValueError:
        return []
    off = time.time() - theirs.replace(tzinfo=theirs.tzinfo or UTC).timestamp()
    if abs(off) <= CLOCK_SECONDS:
        return []
    way = "ahead of" if off > 0 else "behind"
    return [
        (
            False,
            f"clock: {abs(off):.0f} s {way} the portal's ({datetime.now(UTC):%H:%M:%S} UTC here). Start NTP: orders are dropped as expired",
        )
    ]


async def redis(configuration: Configuration) -> Finding:
    """Whether the streams' server answers, takes this user, and lets it at each pool's streams."""
    client = Redis.from_url(configuration.redis_url, socket_timeout=SECONDS, socket_connect_timeout=SECONDS)
    at = ""
    try:
        await client.ping()
        for pool in configuration.pools:
            at = pool.code
            await client.xrange(f"{protocol.stream_prefix(pool.code)}doctor", count=1)
    except NoPermissionError:
        return False, (
            f"streams: Redis knows this node and does not let it at pool {at}. Is the pool's code right, and is it a pool of this node?"
            if at
            else "streams: Redis knows this user and lets it do nothing. The portal's dispatcher gives rights: does it run?"
        )
    except (RedisError, OSError) as error:
        if isinstance(error, ResponseError) or AuthenticationError in {type(error), type(error.__cause__)}:
            return False, "streams: Redis refuses the user or password of redis_url"
        why = type(error).__name__
        return False, f"streams: Redis does not answer ({why}). Are host, port and TLS of redis_url right?"
    finally:
        await client.aclose()
    return True, "streams: Redis answers"


def broker(configuration: Configuration) -> Finding:
    try:
        with Connection(configuration.broker_url, connect_timeout=SECONDS, transport_options={"socket_connect_timeout": SECONDS}) as connection:  # fmt: skip
            connection.ensure_connection(max_retries=1, timeout=int(SECONDS))
    except Exception as error:  # each transport has its own
        return (
            False,
            f"orders: the broker does not answer ({type(error).__name__}). Are host, port and password of broker_url right?",
        )
    return True, "orders: the broker answers"


def spool(directory: Path) -> Finding:
    """Reports wait there until the portal took them: without it an answer that was computed is lost at a crash."""
    there = next(path for path in (directory, *directory.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return (
            False,
            f"spool {directory}: this user may not write there. Make it the runner's: chown it, or name another `spool`",
        )
    free = shutil.disk_usage(there).free
    if free < SPOOL_BYTES:
        return (
            False,
            f"spool {directory}: {free // 2**20} MiB are free. Reports of three days need about {SPOOL_BYTES // 2**20}",
        )
    return True, f"spool {directory}: may be written"


async def gpus(pools: Sequence[Pool] = (), sampler: Sampler | None = None) -> list[tuple[bool, str]]:
    sampler = sampler or Sampler()
    found = await sampler.readings()
    await sampler.stop()
    if found is None:
        return [(False, "GPUs: NVML is here and does not answer: the driver hangs. Reboot the node")]
    if not found:
        return [(True, "energy: no GPU here; modelled from the engines' CPU time")]
    unknown = sorted({uuid for pool in pools for uuid in pool.gpus} - set(found))
    return [gpu(uuid, told) for uuid, told in found.items()] + [
        (False, f"GPU {uuid}: a pool names it, and this machine has none of that UUID. It has: {', '.join(found)}")
        for uuid in unknown
    ]


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


async def engine(configuration: Configuration, pool: Pool) -> Finding:
    name = f"pool {pool.code} ({pool.kind}, {pool.slots} slots)"
    if pool.command:
        return by_command(name, pool)
    if pool.engine == "url":
        return await by_url(name, pool)
    package = {"llama": "xllamacpp", "rapidocr": "rapidocr"}[pool.engine]
    if find_spec(package) is None:
        return False, f"{name}: the package {package} is not installed; the extra `engines` brings it"
    file = configuration.gguf(pool)
    if file and not file.exists():
        return False, f"{name}: there is no model file {file}"
    return True, f"{name}: embedded engine {pool.engine}"


def by_command(name: str, pool: Pool) -> Finding:
    """The runner starts it, so it need not answer now."""
    if shutil.which(pool.command[0]) is None:
        return False, f"{name}: there is no program {pool.command[0]} here. Install it, or name another in `command`"
    return True, f"{name}: the runner starts {pool.command[0]}"


async def by_url(name: str, pool: Pool) -> Finding:
    """Whether the engine answers, and knows the model by the name that orders will use."""
    http = OpenAIEngine(url=pool.url, key=pool.key)
    try:
        health = await http.health()
    finally:
        await http.stop()
    if not health.ready:
        return False, f"{name}: at {pool.url} {health.reason}. Is the engine started, and does `url` end in /v1?"
    models = await served(pool)
    if pool.model and models and pool.model not in models:
        return False, f"{name}: the engine at {pool.url} has no model {pool.model}. It has: {', '.join(models)}"
    return True, f"{name}: {pool.url} answers"


async def served(pool: Pool) -> list[str]:
    """The models an engine lists; none where its list cannot be read."""
    headers = {"Authorization": f"Bearer {pool.key}"} if pool.key else {}
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=SECONDS, headers=headers) as client:
            answer = await client.get(f"{pool.url.rstrip('/')}/models")
            return [str(model["id"]) for model in answer.json()["data"]]
    except (httpx.HTTPError, OSError, ValueError, KeyError, TypeError):
        return []
