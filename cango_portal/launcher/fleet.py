"""`make fleet N=20`: real runner processes with simulated GPUs at simulated sites, on this machine, until Ctrl-C.

Each node is enrolled with a one-time token, proves a key of its own and is admitted when it passed its burn-in; its runner takes
orders, streams, reports and measures as one at a site does. Only what is below it is not real: a stand-in for NVML whose power swings, and one light
engine for all nodes that says the same words to everyone.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apps.runner import identity
from apps.runner.counters import Sampler
from cango_portal.launcher.place import ROOT, Place, Refused, Turn, write_private
from cango_portal.launcher.processes import Supervisor, spawn
from cango_portal.launcher.run import Interrupted, interruptible, run_interruptible, say, undisturbed, with_environment

MOST = 200
NODE_MIB = 80  # of a runner and its stand-in for NVML, in memory of their own
START_SECONDS = 600  # of a portal: one that fails says so itself
TESTED_SECONDS = 300  # without one more node tested: a burn-in takes half a minute, many side by side much longer
READY_SECONDS = 120  # without one more node ready
AT_ONCE = 4  # enrolments
TOKENS_PER_SECOND = 20
TICK_SECONDS = 0.2


class Fleet:
    def __init__(self, place: Place, *, count: int, seed: int) -> None:
        self.place = place
        self.count = count
        self.seed = seed
        self.directory = place.var / "fleet"
        self.portal: subprocess.Popen[bytes] | None = None  # where none ran before
        self.engine: subprocess.Popen[bytes] | None = None
        self.supervisor: Supervisor | None = None
        self.nodes: list[dict[str, Any]] = []

    def main(self) -> int:
        if not 1 <= self.count <= MOST:
            raise Refused(f"N is {self.count}; it must be a number from 1 to {MOST}.")
        self.check_memory()
        try:
            with interruptible():
                self.find_portal()
                self.describe()
                url = self.start_engine()
                run_interruptible(self.enroll())
                self.start(url)
                self.until_admitted()
                self.until_ready()
                self.welcome()
                self.watch()
        except Interrupted:
            say("\nStopping the fleet …")
        finally:
            self.end()
        return 0

    def check_memory(self) -> None:
        told = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free_mib = int(told["MemAvailable"].split()[0]) // 1024
        if self.count * NODE_MIB > free_mib:
            raise Refused(
                f"{self.count} nodes need about {self.count * NODE_MIB} MB of memory, and {free_mib} are free."
            )

    def find_portal(self) -> None:
        """The one that runs here, or one that is started for the fleet and ends with it."""
        self.place.prepare()
        self.directory.mkdir(exist_ok=True, mode=0o700)
        if (Turn(self.place).holder() or {}).get("address"):
            return
        say("No portal runs here; starting one …")
        log = self.place.logs / "portal.log"
        with log.open("wb") as output:
            command = [sys.executable, "-m", "cango_portal.launcher", "run"]
            self.portal = spawn(
                command, output=output, parent_signal=signal.SIGTERM, cwd=ROOT, env=with_environment({})
            )
        deadline = time.monotonic() + START_SECONDS
        while "is ready at" not in log.read_text(errors="replace"):
            if self.portal.poll() is not None or time.monotonic() > deadline:
                raise Refused(f"The portal did not start; the reason is in {log}.")
            time.sleep(TICK_SECONDS)

    @property
    def environment(self) -> dict[str, str]:
        """The portal's own, so that a fleet that joins it meets the same servers."""
        own: Mapping[str, str] = json.loads(self.place.environment.read_text())
        return with_environment(own)

    def manage(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", "fleet", *arguments],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise Refused((done.stderr.strip().splitlines() or ["manage.py fleet left no message"])[-1])
        return done.stdout.strip()

    def describe(self) -> None:
        path = self.directory / "nodes.json"
        self.manage("--write", str(path), "--nodes", str(self.count), "--seed", str(self.seed))
        self.nodes = json.loads(path.read_text())
        path.unlink()  # it holds one-time tokens

    def start_engine(self) -> str:
        log = self.place.logs / "fleet-engine.log"
        with log.open("wb") as output:
            command = [sys.executable, "-m", "tests.engine", "--tokens-per-second", str(TOKENS_PER_SECOND)]
            self.engine = spawn(command, output=output, cwd=ROOT, env=self.environment)
        deadline = time.monotonic() + START_SECONDS
        while not (said := log.read_text()).endswith("\n"):
            if self.engine.poll() is not None or time.monotonic() > deadline:
                raise Refused(f"The fleet's engine did not start; the reason is in {log}.")
            time.sleep(0.05)
        return said.splitlines()[0]

    async def enroll(self) -> None:
        say(f"Enrolling {self.count} nodes …")
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(node: dict[str, Any]) -> None:
            home = self.home(node)
            home.mkdir(exist_ok=True)
            wave = {"since": time.time(), **{name: node[name] for name in ("base_w", "swing_w", "period_s")}}
            lies = {"gpus": len(node["uuids"]), "uuids": node["uuids"], "name": node["gpu_name"], "wave": wave}
            (home / "nvml.json").write_text(json.dumps(lies))
            async with turns:
                await identity.enroll(
                    portal_url=self.portal_url,
                    token=node["token"],
                    into=home / "identity.json",
                    sampler=Sampler.of(self.nvml(node)),
                )

        try:
            await asyncio.gather(*(one(node) for node in self.nodes))
        except identity.NotEnrolled as error:
            raise Refused(f"A node was not enrolled: {error}") from None

    @property
    def portal_url(self) -> str:
        return self.place.address.replace("//localhost", "//127.0.0.1")

    def home(self, node: Mapping[str, Any]) -> Path:
        return self.directory / str(node["code"])

    def nvml(self, node: Mapping[str, Any]) -> list[str]:
        return [sys.executable, "-m", "tests.runner.fake_nvml", str(self.home(node) / "nvml.json")]

    def start(self, engine_url: str) -> None:
        environment = self.environment
        for node in self.nodes:
            write_private(
                self.home(node) / "runner.toml", self.configuration(node, engine_url, environment["REDIS_URL"])
            )
        self.supervisor = Supervisor(
            commands={
                str(node["code"]): [
                    sys.executable, "-m", "apps.runner", "run", "--config", str(self.home(node) / "runner.toml"),
                ]
                for node in self.nodes
            },
            environment=environment,
            directory=ROOT,
            logs=self.directory / "log",
            record=self.directory / "processes.json",
            say=say,
        )  # fmt: skip
        say(f"Starting {self.count} runners …")
        self.supervisor.start()

    def configuration(self, node: Mapping[str, Any], engine_url: str, redis_url: str) -> str:
        top = {
            "portal_url": self.portal_url,
            "redis_url": redis_url,
            "broker_url": redis_url,
            "identity": str(self.home(node) / "identity.json"),
            "nvml_command": self.nvml(node),
            "spool": str(self.home(node) / "spool"),
        }
        pool = {
            "code": node["pool"], "kind": "chat", "slots": node["slots"], "engine": "url", "url": engine_url,
            "model": "mock-chat", "gpus": node["uuids"], "idle_w": node["base_w"] / 3,
        }  # fmt: skip
        lines = [f"{name} = {json.dumps(value)}" for name, value in top.items()]
        lines += ["", "[[pools]]", *(f"{name} = {json.dumps(value)}" for name, value in pool.items())]
        return "\n".join(lines) + "\n"

    def table(self) -> list[dict[str, Any]]:
        mine = {node["code"] for node in self.nodes}
        rows: list[dict[str, Any]] = json.loads(self.manage("--table", "--json"))
        return [row for row in rows if row["node"] in mine]

    def until_admitted(self) -> None:
        """Nodes that are new are tested first, as any other."""
        fewest, since = self.count + 1, time.monotonic()
        while waiting := int(self.manage("--admit")):
            if fewest > self.count:
                say("Testing new nodes: golden prompts, speed and power …")
            if waiting < fewest:
                fewest, since = waiting, time.monotonic()
            if time.monotonic() > since + TESTED_SECONDS:
                logs = self.directory / "log"
                raise Refused(
                    f"{waiting} nodes have no burn-in result for {TESTED_SECONDS} s; their logs are in {logs}."
                )
            self.rest(2)

    def rest(self, seconds: float) -> None:
        """Keep everything running meanwhile."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.tick()
            time.sleep(TICK_SECONDS)

    def until_ready(self) -> None:
        most, since = -1, time.monotonic()
        while (ready := sum(row["ready"] for row in self.table())) < self.count:
            if ready > most:
                most, since = ready, time.monotonic()
            if time.monotonic() > since + READY_SECONDS:
                logs = self.directory / "log"
                raise Refused(
                    f"{ready} of {self.count} nodes are ready after {READY_SECONDS} s more; logs are in {logs}."
                )
            self.rest(1)

    def welcome(self) -> None:
        sites = {node["site"] for node in self.nodes}
        say(
            f"\n{self.count} nodes at {len(sites)} sites are ready at {self.place.address}\n\n"
            "  make demo                                sends work over them\n"
            '  make manage ARGS="fleet --table"         what ran where, and what the GPUs draw\n\n'
            "  Stop the fleet with Ctrl-C."
        )

    def watch(self) -> None:
        while True:
            self.tick()
            time.sleep(TICK_SECONDS)

    def tick(self) -> None:
        assert self.supervisor is not None
        with undisturbed():
            self.supervisor.tick()
            if self.engine is not None and self.engine.poll() is not None:
                raise Refused(f"The fleet's engine ended; the reason is in {self.place.logs / 'fleet-engine.log'}.")
            if self.portal is not None and self.portal.poll() is not None:
                raise Refused("The portal ended, and the fleet with it.")

    def end(self) -> None:
        if self.supervisor is not None:
            self.supervisor.stop()
        if self.nodes and (Turn(self.place).holder() or {}).get("address"):
            self.manage("--leave")
        for process in (self.engine, self.portal):
            if process is not None and process.poll() is None:
                process.terminate()
                process.wait()


def main(place: Place) -> int:
    given = {name: os.environ.get(name) or default for name, default in (("N", "20"), ("SEED", "1"))}
    for name, value in given.items():
        if not value.isdecimal():
            raise Refused(f"{name} is {value!r}; it must be a number.")
    return Fleet(place, count=int(given["N"]), seed=int(given["SEED"])).main()
