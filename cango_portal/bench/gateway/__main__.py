"""make bench-gateway: added latency, throughput and processor time of the door, beside what could stand in its place.

One run starts a portal as the Procfile does, LiteLLM's proxy, a bare path with the same queue and the same number of
commits, and the engine they all ask, on the servers of the launcher with fsync on. In each round every one of them
has its turn at the same concurrency, so what else the machine does meets all alike; the medians over the rounds count.
At the end the ledger is audited.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from cango_portal.bench.gateway import bare, litellm, portal, table
from cango_portal.bench.gateway.engine import INSTANT, PACED
from cango_portal.bench.gateway.load import Heard, Wanted
from cango_portal.bench.gateway.portal import Portal, answers, free_port, process, wait_until
from cango_portal.launcher.place import ROOT
from cango_portal.launcher.servers import Servers, remove

CONCURRENCIES = (1, 16, 64, 256)
VARIANTS = ("engine", "portal", "bare", "limit", "litellm")
BARE_KEY = "sk-bare"
MEMORY_STREAMS = 256


@dataclass(frozen=True, slots=True)
class Target:
    """What is measured: where it listens, and its processes beside the engine's and the clients'."""

    name: str
    url: str
    key: str
    models: dict[bool, str]  # by whether it streams
    pids: dict[str, int]


def main() -> int:
    options = argparse.ArgumentParser(prog="make bench-gateway", description=__doc__)
    options.add_argument("--seconds", type=float, default=4, help="length of one round of one variant")
    options.add_argument("--rounds", type=int, default=3, help="rounds of each")
    options.add_argument("--only", default=",".join(VARIANTS), help=f"of {','.join(VARIANTS)}, separated by commas")
    options.add_argument("--concurrency", default=",".join(map(str, CONCURRENCIES)), help="separated by commas")
    options.add_argument("--kind", choices=("whole", "stream", "both"), default="both", help="answers streamed or not")
    options.add_argument("--before", type=Path, default=None, help="also measure the portal of this other checkout")
    options.add_argument("--environments", type=Path, default=ROOT / "var" / "bench", help="where LiteLLM is installed")
    options.add_argument("--json", type=Path, default=None, help="also write the result here")
    given = options.parse_args()
    with serving() as servers:
        return measure(servers, given)


@contextmanager
def serving() -> Iterator[Servers]:
    directory = Path(tempfile.mkdtemp(prefix="cango-bench-"))
    directory.chmod(0o711)
    servers = Servers(directory)
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()
        remove(directory)


@contextmanager
def house(servers: Servers, engine_url: str, tree: Path) -> Iterator[Portal]:
    made = Portal(servers, engine_url, tree)
    made.prepare()
    with made.running():
        yield made


def measure(servers: Servers, given: argparse.Namespace) -> int:
    kinds = {"whole": (False,), "stream": (True,), "both": (False, True)}[given.kind]
    with ExitStack() as stack:
        houses, targets, notes = started(stack, servers, given)
        result = table.Result(seconds=given.seconds, rounds=given.rounds, notes=notes)
        levels = [int(clients) for clients in given.concurrency.split(",")]
        if "portal" in targets and True in kinds and MEMORY_STREAMS in levels:
            result.memory = memory(targets["portal"], houses["portal"])
        for stream in kinds:
            for clients in levels:
                for _ in range(given.rounds):
                    for target in targets.values():
                        result.add(target.name, clients, stream, round_of(target, clients, stream, given.seconds))
                sys.stdout.write(result.lines(clients, stream))
                sys.stdout.flush()
        if "portal" in targets:
            result.books = houses["portal"].books()
    sys.stdout.write(result.goals())
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(result.record(), indent=1))
    return 1 if result.books.get("violations") else 0


def started(
    stack: ExitStack, servers: Servers, given: argparse.Namespace
) -> tuple[dict[str, Portal], dict[str, Target], list[str]]:
    """Everything that is measured, in the order of a round; and what the table says of it."""
    only, models, notes = given.only.split(","), {False: INSTANT, True: PACED}, []
    port = stack.enter_context(engine(servers))
    url = f"http://127.0.0.1:{port}/v1"
    targets = {"engine": Target("engine", f"{url}/chat/completions", "none", models, {})}
    houses: dict[str, Portal] = {}
    if "portal" in only:
        houses["portal"] = stack.enter_context(house(servers, url, ROOT))
    if given.before:
        others = stack.enter_context(serving())
        houses["before"] = stack.enter_context(house(others, url, given.before.resolve()))
    for name, each in houses.items():
        named = {stream: each.models[model] for stream, model in models.items()}
        targets[name] = Target(name, f"{each.url}/v1/chat/completions", each.key, named, each.pids)
    for name, how in (("bare", "celery"), ("limit", "limit")):
        if name in only:
            targets[name] = stack.enter_context(bare_path(servers, port, name, how))
    if "litellm" in only:
        try:
            proxy = litellm.LiteLLM(litellm.installed(given.environments), servers, url)
            stack.enter_context(proxy.running())
        except (litellm.NotInstalled, portal.NotReady) as error:
            notes.append(f"LiteLLM is left out: {error}")
        else:
            pids = {"litellm": proxy.pid, **servers_of(servers)}
            targets["litellm"] = Target("litellm", f"{proxy.url}/v1/chat/completions", proxy.key, models, pids)
            notes.append(f"LiteLLM {version()}: {proxy.mode}")
    return houses, targets, notes


def version() -> str:
    return (
        next(line for line in litellm.LOCK.read_text().splitlines() if line.startswith("litellm=="))
        .split()[0]
        .removeprefix("litellm==")
    )


def servers_of(servers: Servers) -> dict[str, int]:
    return {name: server.pid for name, server in servers.processes.items()}


@contextmanager
def engine(servers: Servers) -> Iterator[int]:
    port = free_port()
    arguments = [sys.executable, "-m", "cango_portal.bench.gateway.engine", str(port)]
    with process("engine", arguments, directory=servers.directory, environment=environment()) as popen:
        log = servers.directory / "log" / "engine.log"
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/v1/models"), popen, log, seconds=10)
        yield port


def environment(**own: str) -> dict[str, str]:
    return {**os.environ, **own}


@contextmanager
def bare_path(servers: Servers, engine_port: int, name: str, how: str) -> Iterator[Target]:
    """A door and a worker of the bare path, with tables of their own."""
    import psycopg

    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE path_{name}")
    conninfo = servers.database_url.replace("/portal?", f"/path_{name}?")
    bare.prepare(conninfo, BARE_KEY)
    port = free_port()
    own = environment(BARE_DATABASE=conninfo, BARE_REDIS=servers.redis_url, BARE_QUEUE=f"pool.{name}")
    module = "cango_portal.bench.gateway.bare"
    door = [
        sys.executable,
        "-m",
        "uvicorn",
        f"{module}:application",
        "--port",
        str(port),
        "--no-access-log",
        "--log-level",
        "warning",
    ]
    worker = [sys.executable, "-m", module, how, f"127.0.0.1:{engine_port}"]
    with (
        process(name, door, directory=servers.directory, environment=own) as web,
        process(f"{name}-worker", worker, directory=servers.directory, environment=own) as working,
    ):
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        target = Target(
            name,
            url,
            BARE_KEY,
            {False: INSTANT, True: PACED},
            {"web": web.pid, "runner": working.pid, **servers_of(servers)},
        )
        log = servers.directory / "log" / f"{name}.log"
        wait_until(lambda: not round_of(target, 1, False, 0.1, warm=0).failure, web, log, seconds=30)
        yield target


def round_of(target: Target, clients: int, stream: bool, seconds: float, *, warm: float = 1.0) -> Heard:
    wanted = Wanted(target.url, target.models[stream], clients, seconds, stream, target.key, warm, target.pids)
    done = subprocess.run(
        [sys.executable, "-m", "cango_portal.bench.gateway.load", json.dumps(asdict(wanted))],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    if done.returncode:
        return Heard(failures=1, failure=(done.stderr.strip().splitlines() or ["no message"])[-1])
    return Heard(**json.loads(done.stdout))


def memory(target: Target, house: Portal) -> table.Memory:
    """What open streams cost the web process, before anything else has made it grow."""
    round_of(target, 16, True, 1)
    idle = round_of(target, 1, True, 1)
    busy = round_of(target, MEMORY_STREAMS, True, 3)
    per_stream = (busy.memory_bytes["web"] - idle.memory_bytes["web"]) / MEMORY_STREAMS
    return table.Memory(per_stream_bytes=round(per_stream), database_connections=house.database_connections())


if __name__ == "__main__":
    sys.exit(main())
