"""Every process killed with -9 in the middle of a stream: one final state, one charge or none, nothing left held."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from apps.core import ids
from tests.engine import text, words_in
from tests.started import ROOT, Portal

pytestmark = [pytest.mark.whole, pytest.mark.timeout(180)]

MODEL = "engine/mock-chat"
MESSAGES = [{"role": "user", "content": "Say the words."}]
FINAL = ("succeeded", "failed", "cancelled", "expired")


@dataclass
class Stream:
    """One streamed chat as a client sees it, read in a thread."""

    portal: Portal
    tokens: int
    text: str = ""
    error: dict[str, Any] | None = None
    done: bool = False
    broken: bool = False
    job: str = ""
    begun: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self) -> None:
        body = {"model": MODEL, "messages": MESSAGES, "max_tokens": self.tokens, "stream": True}
        try:
            with self.portal.client() as client, client.stream("POST", "/v1/chat/completions", json=body) as answer:
                self.job = answer.headers.get("x-job-id", "")
                for line in answer.iter_lines():
                    if line == "data: [DONE]":
                        self.done = True
                    elif line.startswith("data: "):
                        self.take(json.loads(line.removeprefix("data: ")))
        except httpx.HTTPError:
            self.broken = True
        finally:
            self.begun.set()

    def take(self, chunk: dict[str, Any]) -> None:
        if "error" in chunk:
            self.error = chunk["error"]
        for choice in chunk.get("choices", []):
            self.text += choice["delta"].get("content") or ""
        if len(self.text.split()) >= 5:
            self.begun.set()

    def wait_begun(self) -> None:
        assert self.begun.wait(20)
        assert self.text, self.portal.story()

    def wait_over(self) -> None:
        self.thread.join(60)
        assert not self.thread.is_alive(), self.portal.story()


def kept(portal: Portal, job: dict[str, Any]) -> str:
    """The text that is kept of its answer."""
    with portal.client() as client:
        answer: str = client.get(f"/api/v1/jobs/{ids.public('job', job['id'])}").json()["text"]
    return answer


def settled(portal: Portal, job: str, *, seconds: float = 60) -> dict[str, Any]:
    """The job's row once it is final, with its one end in the books and nothing held for it."""
    pk = ids.parse("job", job)
    rows: list[dict[str, Any]] = []

    def final() -> bool:
        rows[:] = portal.sql("SELECT * FROM jobs_job WHERE id = %s", pk)
        return rows[0]["state"] in FINAL

    portal.wait_until(final, seconds=seconds)
    [hold] = portal.sql("SELECT * FROM ledger_hold WHERE key = %s", f"job:{pk}")
    assert hold["state"] in ("settled", "released")
    charges = portal.sql(
        "SELECT * FROM ledger_transfer WHERE hold_id = %s AND credit = 'revenue' AND debit = 'held'", hold["id"]
    )
    assert len(charges) <= 1
    assert sum(charge["amount_microusd"] for charge in charges) == rows[0]["charge_microusd"]
    [balance] = portal.sql(
        "SELECT a.held_microusd, coalesce((SELECT sum(promotional_microusd + credit_microusd) FROM ledger_hold h "
        "WHERE h.organization_id = a.organization_id AND h.state = 'open'), 0) AS open FROM ledger_account a WHERE organization_id = %s",
        rows[0]["organization_id"],
    )
    assert balance["held_microusd"] == balance["open"]
    ends = portal.sql("SELECT state FROM jobs_event WHERE job_id = %s AND state = ANY(%s)", pk, list(FINAL))
    assert len(ends) == 1
    return rows[0]


def cost(tokens: int) -> int:
    """$0.10 and $0.40 per million, each line rounded up once."""
    return -(-words_in({"messages": MESSAGES}) * 100_000 // 1_000_000) + -(-tokens * 400_000 // 1_000_000)


@pytest.fixture(autouse=True)
def _paced(engine) -> Iterator[None]:
    engine.control(tokens_per_second=40)
    yield
    engine.control(tokens_per_second=0)


@pytest.mark.parametrize("name", ["worker", "dispatcher", "beat"])
def test_a_process_beside_the_path_may_die_unnoticed(portal, engine, name):
    stream = Stream(portal, tokens=120)
    stream.wait_begun()
    gone = portal.kill(name)
    stream.wait_over()
    assert (stream.text, stream.done, stream.error) == (text(120), True, None)
    job = settled(portal, stream.job)
    assert (job["state"], job["attempt"], job["charge_microusd"]) == ("succeeded", 1, cost(120))
    portal.wait_restarted(name, gone)


def test_the_work_outlives_a_killed_web_process(portal, engine):
    stream = Stream(portal, tokens=200)
    stream.wait_begun()
    gone = portal.kill("web")
    stream.wait_over()
    assert stream.broken
    portal.wait_restarted("web", gone)
    job = settled(portal, stream.job)
    assert (job["state"], job["charge_microusd"]) == ("succeeded", cost(200))
    assert kept(portal, job) == text(200)


def test_a_killed_runner_ends_its_stream_with_an_error_and_charges_what_came(portal, engine):
    stream = Stream(portal, tokens=1000)
    stream.wait_begun()
    gone = portal.kill("runner")
    stream.wait_over()
    portal.wait_restarted("runner", gone)
    assert stream.error is not None
    assert stream.error["code"] == "site_lost"
    assert text(1000).startswith(stream.text)
    job = settled(portal, stream.job)
    assert (job["state"], job["attempt"], job["charge_microusd"]) == ("failed", 1, cost(job["completion_tokens"]))
    assert job["completion_tokens"] >= len(stream.text.split()) >= 5
    assert job["completion_tokens"] < 1000
    wait_pools(portal)


def test_a_killed_runner_lets_background_work_run_again_for_one_charge(portal, engine):
    engine.control(tokens_per_second=100)
    started = engine.counts().started
    with portal.client() as client:
        answer = client.post("/api/v1/jobs", json={"model": MODEL, "input": {"messages": MESSAGES, "max_tokens": 300}})
    assert answer.status_code == 202, answer.text
    engine.wait(lambda counts: counts.started > started, seconds=10)
    gone = portal.kill("runner")
    portal.wait_restarted("runner", gone)
    job = settled(portal, answer.json()["id"])
    assert (job["state"], job["attempt"], job["charge_microusd"]) == ("succeeded", 2, cost(300))
    assert kept(portal, job) == text(300)


def test_a_flushed_valkey_loses_nothing(portal, engine):
    streams = [Stream(portal, tokens=160) for _ in range(3)]
    for stream in streams:
        stream.wait_begun()
    portal.valkey().flushall()
    for stream in streams:
        stream.wait_over()
        assert (stream.text, stream.done, stream.error) == (text(160), True, None)
        job = settled(portal, stream.job)
        assert (job["state"], job["attempt"], job["charge_microusd"]) == ("succeeded", 1, cost(160))


def test_a_killed_valkey_loses_no_job(portal, engine):
    stream = Stream(portal, tokens=160)
    stream.wait_begun()
    portal.kill("valkey")
    stream.wait_over()
    job = settled(portal, stream.job)
    assert (job["state"], job["charge_microusd"]) == ("succeeded", cost(160))
    assert stream.text == text(160)
    portal.wait_until(portal.healthy, seconds=30)


def test_the_same_order_at_two_runners_runs_once(portal, engine, tmp_path):
    queue = f"pool.{pool_code(portal)}"
    first = portal.pids()["runner"]
    with second_runner(portal, tmp_path) as second:
        started = engine.counts().started
        for pid in (first, second):
            os.kill(pid, signal.SIGSTOP)
        try:
            stream = Stream(portal, tokens=120)
            valkey = portal.valkey()
            portal.wait_until(lambda: valkey.llen(queue) == 1)
            valkey.lpush(queue, valkey.lindex(queue, 0))
        finally:
            for pid in (first, second):
                os.kill(pid, signal.SIGCONT)
        stream.wait_over()
        assert (stream.text, stream.done) == (text(120), True)
        job = settled(portal, stream.job)
        assert (job["state"], job["attempt"], job["charge_microusd"]) == ("succeeded", 1, cost(120))
        portal.wait_until(lambda: valkey.llen(queue) == 0)
        assert engine.counts().started == started + 1


def pool_code(portal: Portal) -> str:
    [row] = portal.sql(
        "SELECT p.code FROM sites_pool p JOIN catalog_model m ON m.id = p.model_id WHERE m.name = %s", MODEL
    )
    code: str = row["code"]
    return code


def wait_pools(portal: Portal) -> None:
    """All that the portal's own runner serves; a simulated fleet that came and went has left pools too."""
    ready = (
        "SELECT bool_and(o.ready) AS ready FROM sites_pool p JOIN catalog_model m ON m.id = p.model_id "
        "JOIN sites_pool o ON o.node_id = p.node_id WHERE m.name = %s AND NOT o.draining"
    )
    portal.wait_until(lambda: portal.sql(ready, MODEL)[0]["ready"], seconds=60)


@contextlib.contextmanager
def second_runner(portal: Portal, directory: Path) -> Iterator[int]:
    """Another runner process with the same node's credentials and a spool of its own, serving the engine's pool alone."""
    config = (portal.var / "runner.toml").read_text()
    head, *pools = config.split("[[pools]]")
    head = "\n".join(
        f"spool = {json.dumps(str(directory / 'spool'))}" if line.startswith("spool") else line
        for line in head.splitlines()
    )
    mine = [pool for pool in pools if f'"{pool_code(portal)}"' in pool]
    path = directory / "runner.toml"
    path.write_text("[[pools]]".join([head + "\n", *mine]))
    with (directory / "runner.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "apps.runner", "run", "--config", str(path)], cwd=ROOT, stdout=log, stderr=log
        )
    try:
        code = f"pool.{pool_code(portal)}"
        time.sleep(4)  # it says nowhere outside that it consumes
        assert process.poll() is None, (directory / "runner.log").read_text()
        assert code
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)
