"""make bench-batch: rows a second through a running portal, beside what its engine gives by itself in the same run.

A portal as the Procfile starts it, worker and beat too, on the servers of the launcher with fsync on, and one runner before
the engine of the gateway's bench. Two files go through `/v1/files` and `/v1/batches` as a customer's do: embeddings, of an
engine that answers at once, so that nothing but our own work is measured; and chats of an engine that takes its time,
as all do, at as many at once as it has slots. Before and after each the engine is asked directly, as many at once, and the
better of the two counts. At the end the ledger is audited.
"""

from __future__ import annotations

import argparse
import json
import secrets
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg.rows import dict_row

from cango_portal.bench.gateway import processes
from cango_portal.bench.gateway.__main__ import engine, serving
from cango_portal.bench.gateway.engine import PACED, TOKENS, VECTORS
from cango_portal.bench.gateway.load import Heard, Wanted
from cango_portal.bench.gateway.portal import Portal
from cango_portal.launcher.place import ROOT

GOAL = 0.95  # of the engine's own rows a second
ENDED = ("completed", "failed", "expired", "cancelled")
ASKS = "Which of the sites has power to spare tonight, and at what price?"
# Of the shards of the last batch: how long an order waits for its runner, how long it runs, and how many run at once.
SHARDS = """
SELECT count(*)::int AS shards,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM started_at - dispatched_at))::float8 AS claim_seconds,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - started_at))::float8 AS run_seconds,
    (sum(extract(epoch FROM finished_at - started_at)) / extract(epoch FROM max(finished_at) - min(dispatched_at)))::float8 AS at_once
FROM jobs_job WHERE batch_id = (SELECT id FROM batches_batch ORDER BY id DESC LIMIT 1)
"""
CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"


@dataclass(frozen=True, slots=True)
class Measured:
    """One batch. `check_seconds` until it began, `run_seconds` until its last row, `files_seconds` until it ended."""

    name: str
    rows: int
    failed: int
    check_seconds: float
    run_seconds: float
    files_seconds: float
    rows_per_second: float
    engine_rows_per_second: float
    cpu_seconds: dict[str, float]
    shards: dict[str, float]

    @property
    def ratio(self) -> float:
        return self.rows_per_second / self.engine_rows_per_second if self.engine_rows_per_second else 0.0


class BatchPortal(Portal):
    """With worker and beat, and slots of its own for each engine."""

    PROCESSES = ("web", "worker", "beat", "dispatcher", "runner")
    slots = 64

    def prepare(self) -> None:
        token = secrets.token_urlsafe(32)
        made = self.rows("write", token, "batches")
        self.key, self.models = made["key"], made["models"]
        self.configure(token, made["pools"], slots=self.slots, kinds={VECTORS: "embeddings"})

    def until_placed(self) -> None:
        """A batch waits by itself until its pool is ready."""

    def shards(self) -> dict[str, float]:
        with psycopg.connect(self.servers.database_url, row_factory=dict_row) as connection:
            return connection.execute(SHARDS).fetchone() or {}


def main() -> int:
    options = argparse.ArgumentParser(prog="make bench-batch", description=__doc__)
    options.add_argument("--embeddings", type=int, default=50_000, help="rows of the batch of embeddings; 0: none")
    options.add_argument("--chats", type=int, default=5_000, help="rows of the batch of chats; 0: none")
    options.add_argument("--slots", type=int, default=64, help="rows that the engine does at once")
    options.add_argument("--json", type=Path, default=None, help="also write the result here")
    given = options.parse_args()
    BatchPortal.slots = given.slots
    found: list[Measured] = []
    with serving() as servers, ExitStack() as stack:
        url = f"http://127.0.0.1:{stack.enter_context(engine(servers))}/v1"
        portal = BatchPortal(servers, url)
        portal.prepare()
        stack.enter_context(portal.running())
        for endpoint, model, count in ((EMBEDDINGS, VECTORS, given.embeddings), (CHAT, PACED, given.chats)):
            if count:
                found.append(measure(portal, url, endpoint, model, count))
                sys.stdout.write(line(found[-1]))
                sys.stdout.flush()
        books = portal.books()
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        record = [asdict(each) | {"ratio": each.ratio} for each in found]
        given.json.write_text(json.dumps({"batches": record, "books": books}, indent=1))
    sys.stdout.write(
        f"Violations in the books: {books['violations']}. Goal: {GOAL} of the engine's own rows a second.\n"
    )
    return 1 if books["violations"] or any(each.failed for each in found) else 0


def own(url: str, endpoint: str, model: str, clients: int, seconds: float = 4.0) -> float:
    """Rows a second of the engine, asked as the runner does: chats streamed, so many at once."""
    is_chat = endpoint == CHAT
    path = f"{url}{endpoint.removeprefix('/v1')}"
    wanted = Wanted(path, model, clients, seconds, is_chat, embeddings=not is_chat)
    done = subprocess.run(
        [sys.executable, "-m", "cango_portal.bench.gateway.load", json.dumps(asdict(wanted))],
        capture_output=True, text=True, cwd=ROOT, check=True,
    )  # fmt: skip
    heard = Heard(**json.loads(done.stdout))
    return heard.requests / heard.elapsed_seconds


def measure(portal: BatchPortal, url: str, endpoint: str, model: str, count: int) -> Measured:
    before = own(url, endpoint, model, portal.slots)
    used = processes.cpu_seconds(portal.pids)
    began = time.time()
    batch = run(portal, endpoint, portal.models[model], count)
    cpu = {name: seconds - used[name] for name, seconds in processes.cpu_seconds(portal.pids).items()}
    after = own(url, endpoint, model, portal.slots)
    with_part = batch["finalizing_at"] - batch["in_progress_at"]  # the API's times are whole seconds
    counts = batch["request_counts"]
    return Measured(
        name=endpoint,
        rows=counts["total"],
        failed=counts["failed"],
        check_seconds=round(batch["began"] - began, 2),
        run_seconds=round(batch["ran"] - batch["began"], 2),
        files_seconds=round(batch["ended"] - batch["ran"], 2),
        rows_per_second=round(counts["completed"] / max(batch["ran"] - batch["began"], with_part - 1, 0.001), 1),
        engine_rows_per_second=round(max(before, after), 1),
        cpu_seconds={name: round(seconds, 2) for name, seconds in cpu.items()},
        shards={name: round(value, 2) for name, value in portal.shards().items()},
    )


def run(portal: BatchPortal, endpoint: str, model: str, count: int) -> dict[str, Any]:
    """Send a file, and wait for the end of its batch: the object, and when it was seen to begin, to be done, to end."""
    body: dict[str, Any] = {"model": model, "input": ASKS}
    if endpoint == CHAT:
        body = {"model": model, "messages": [{"role": "user", "content": ASKS}], "max_tokens": TOKENS}
    row = {"method": "POST", "url": endpoint, "body": body}
    content = b"".join(json.dumps({"custom_id": f"row-{n}", **row}).encode() + b"\n" for n in range(count))
    seen: dict[str, float] = {}
    with httpx.Client(base_url=portal.url, headers={"authorization": f"Bearer {portal.key}"}, timeout=120) as client:
        form = {"file": ("bench.jsonl", content)}
        file = client.post("/v1/files", data={"purpose": "batch"}, files=form).raise_for_status().json()
        asked = {"input_file_id": file["id"], "endpoint": endpoint, "completion_window": "24h"}
        batch: dict[str, Any] = client.post("/v1/batches", json=asked).raise_for_status().json()
        while batch["status"] not in ENDED:
            time.sleep(0.1)
            batch = client.get(f"/v1/batches/{batch['id']}").raise_for_status().json()
            counts, now = batch["request_counts"], time.time()
            if batch["in_progress_at"]:
                seen.setdefault("began", now)
            if counts["total"] and counts["completed"] + counts["failed"] == counts["total"]:
                seen.setdefault("ran", now)
    if batch["status"] != "completed":
        raise SystemExit(f"The batch is {batch['status']}: {str(batch['errors'])[:500]}")
    return batch | {"ended": time.time()} | seen


def line(each: Measured) -> str:
    cpu = ", ".join(f"{name} {1e6 * seconds / each.rows:,.0f}" for name, seconds in each.cpu_seconds.items() if seconds)
    return (
        f"{each.name}: {each.rows:,} rows, {each.failed} failed; checked in {each.check_seconds} s, run in "
        f"{each.run_seconds} s, files in {each.files_seconds} s\n"
        f"  {each.rows_per_second:,} rows/s, the engine by itself {each.engine_rows_per_second:,}: {each.ratio:.3f}\n"
        f"  processor time a row, in µs: {cpu}\n"
        f"  {each.shards['shards']} shards: {each.shards['claim_seconds']} s to be taken, {each.shards['run_seconds']} s to run, "
        f"{each.shards['at_once']} at once on average\n"
    )


if __name__ == "__main__":
    sys.exit(main())
