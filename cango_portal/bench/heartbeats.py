"""make bench-heartbeats: what a thousand nodes that beat every two seconds cost the door, in percent of one core.

A web process as the Procfile starts it, PostgreSQL with fsync and Valkey; each node is enrolled, keeps its connection, holds two
leases, and says what its eight GPUs read in each second or third beat, as a runner does. What the clients themselves need is not
counted. Every beat must be answered 200 and no lease may be said to be lost.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cango_portal.bench.gateway.portal import Portal, answers, process, wait_until
from cango_portal.bench.gateway.processes import cpu_seconds
from cango_portal.launcher.processes import read
from cango_portal.launcher.servers import Servers, remove

BEAT_SECONDS, JITTER = 2.0, 0.2  # as apps.runner.heartbeat has them
LOOK_SECONDS = 5.0  # and apps.runner.watch
LEASES, GPUS = 2, 8
WARM_SECONDS = 6.0
READY_SECONDS = 90


@dataclass
class Result:
    nodes: int
    seconds: float
    beats_per_second: float = 0.0
    percent_of_a_core: dict[str, float] = field(default_factory=dict)
    answered_ms: dict[str, float] = field(default_factory=dict)
    wrong: int = 0


@dataclass
class Beats:
    """What the nodes saw since `reset`."""

    took: list[float] = field(default_factory=list)
    wrong: int = 0


def main() -> int:
    options = argparse.ArgumentParser(prog="make bench-heartbeats", description=__doc__)
    options.add_argument("--nodes", type=int, default=1000)
    options.add_argument("--seconds", type=float, default=20, help="measured, after a while that is not")
    options.add_argument("--json", type=Path, default=None, help="also write the result here")
    given = options.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="cango-bench-"))
    directory.chmod(0o711)
    servers = Servers(directory)
    try:
        servers.start()
        portal = Portal(servers, engine_url="")
        os.environ |= portal.environment
        nodes = written(given.nodes)
        command = read(portal.tree / "Procfile", portal.environment)["web"]
        command = [sys.executable if part == "python" else part for part in command]
        with process("web", command, directory=directory, environment=portal.environment) as web:
            log = directory / "log" / "web.log"
            wait_until(lambda: answers(f"{portal.url}/healthz"), web, log, seconds=READY_SECONDS)
            pids = {"web": web.pid, **{name: server.pid for name, server in servers.processes.items()}}
            result = asyncio.run(measured(portal.port, nodes, pids, given.seconds))
    finally:
        servers.stop()
        remove(directory)
    told = ", ".join(f"{name} {percent:.1f} %" for name, percent in result.percent_of_a_core.items())
    sys.stdout.write(
        f"{result.nodes} nodes, {result.beats_per_second:.0f} beats/s for {result.seconds:g} s: {told} of one core; "
        f"answered in {result.answered_ms['p50']:.0f} ms (p50), {result.answered_ms['p99']:.0f} ms (p99); {result.wrong} wrong\n"
    )
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(asdict(result), indent=2))
    return 1 if result.wrong else 0


def written(count: int) -> list[tuple[str, dict[str, Any]]]:
    """The rows of the nodes, with what they run. Returns each one's token and what it says of itself."""
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connection

    from apps.accounts.models import Organization
    from apps.catalog.models import Model, PriceVersion
    from apps.core.ids import uuid7
    from apps.jobs.models import Job
    from apps.sites import enrolment
    from apps.sites.models import Node, Pool, Site

    call_command("migrate", verbosity=0)
    now = datetime.now(UTC)
    organization = Organization.objects.create(name="Bench")
    model = Model.objects.create(name="bench/chat", title="Bench", kind="chat", context_tokens=4096)
    price = PriceVersion.objects.create(model=model, effective_at=now, input_microusd_per_mtok=1)
    site = Site.objects.create(
        code="bench", name="Bench", region="Bench", country="US", grid_gco2e_per_kwh=1, power_usd_per_mwh=1
    )
    nodes = Node.objects.bulk_create(
        Node(site=site, code=f"bench-{n}", state="admitted", token_sha256=f"{n:064}", public_key="bench", generation=1)
        for n in range(count)
    )
    pools = Pool.objects.bulk_create(
        Pool(code=f"bench-{n}", model=model, node=node, slots=8) for n, node in enumerate(nodes)
    )
    jobs = Job.objects.bulk_create(
        Job(
            organization=organization, model=model, price=price, kind="chat", interactive=True, state="running", pool=pool,
            attempt=1, fence=uuid7(), claimant="bench", created_at=now, dispatched_at=now, started_at=now, hold_microusd=1,
            deadline_at=now + timedelta(hours=1), lease_expires_at=now + timedelta(hours=1),
        )
        for pool in pools
        for _ in range(LEASES)
    )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")  # as a server does by itself within minutes
    expires = int(time.time()) + 3600
    return [
        (
            enrolment.signed_token(node.pk, 1, expires=expires),
            {
                "claimant": "bench",
                "leases": [
                    {"job": str(job.pk), "attempt": 1, "fence": str(job.fence)}
                    for job in jobs[number * LEASES : (number + 1) * LEASES]
                ],
                "pools": [{"pool": pools[number].code, "ready": True, "running": LEASES}],
                "power_w": 3200.5,
                "wanted": "",
            },
        )
        for number, node in enumerate(nodes)
    ]


def look(seq: int) -> dict[str, Any]:
    gpu = {
        "power_w": 412.5, "power_average_w": 405.1, "energy_mj": 10**9 + seq, "utilization": 0.97, "memory_used_mib": 90_000,
        "memory_total_mib": 143_771, "temperature_c": 61.0, "clocks_event_reasons": ["sw_power_cap"],
    }  # fmt: skip
    return {"seq": seq, "at": time.time(), "gpus": [{"uuid": f"GPU-{n}", **gpu} for n in range(GPUS)]}


async def measured(port: int, nodes: list[tuple[str, dict[str, Any]]], pids: dict[str, int], seconds: float) -> Result:
    beats = Beats()
    beating = [asyncio.create_task(beat(port, token, said, beats)) for token, said in nodes]
    await asyncio.sleep(WARM_SECONDS)
    beats.took.clear()
    began, before = time.monotonic(), cpu_seconds(pids)
    await asyncio.sleep(seconds)
    lasted, after = time.monotonic() - began, cpu_seconds(pids)
    took = sorted(beats.took)
    for task in beating:
        task.cancel()
    ended = await asyncio.gather(*beating, return_exceptions=True)
    broken = sum(isinstance(each, Exception) for each in ended)
    return Result(
        nodes=len(nodes),
        seconds=round(lasted, 1),
        beats_per_second=len(took) / lasted,
        percent_of_a_core={name: round(100 * (after[name] - before[name]) / lasted, 1) for name in pids},
        answered_ms={"p50": 1000 * statistics.median(took), "p99": 1000 * took[int(0.99 * len(took))]},
        wrong=beats.wrong + broken,
    )


async def beat(port: int, token: str, said: dict[str, Any], beats: Beats) -> None:
    """One node: its connection, and a beat every two seconds with the runner's own jitter."""
    random_ = random.Random(token)  # noqa: S311
    await asyncio.sleep(random_.uniform(0, BEAT_SECONDS))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    seq, looked = 0, 0.0
    head = f"POST /agent/v1/heartbeat HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    while True:
        body = said
        if time.monotonic() - looked >= LOOK_SECONDS:
            seq, looked = seq + 1, time.monotonic()
            body = {**said, "reading": look(seq)}
        content = json.dumps(body)
        sent = time.monotonic()
        writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n{content}".encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1]) for line in answer.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        told = json.loads(await reader.readexactly(length))
        if told.get("wanted"):  # what its pools are to become: from now on it names what it knows
            said = {**said, "wanted": told["wanted"]["version"]}
        beats.took.append(time.monotonic() - sent)
        if not answer.startswith(b"HTTP/1.1 200") or told.get("stop") or told.get("cancel"):
            beats.wrong += 1
        pause = BEAT_SECONDS * random_.uniform(1 - JITTER, 1 + JITTER)
        await asyncio.sleep(pause - (time.monotonic() - sent))


if __name__ == "__main__":
    sys.exit(main())
