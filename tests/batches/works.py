"""A shop that runs batches: its files, and a site that does and reports rows as a test says."""

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from django.core.files.storage import default_storage

from apps.accounts.models import Organization
from apps.batches import checking, collecting, finalizing, services, shards
from apps.batches.models import Batch, Row, Shard
from apps.catalog.models import Model
from apps.core.ids import public
from apps.core.sql import Plan, Statement
from apps.dispatch import reporting
from apps.dispatch.dispatcher import Dispatcher
from apps.files import services as files
from apps.files.models import File
from apps.jobs.models import FINAL, Job
from apps.keys.models import APIKey
from apps.keys.services import Caller
from apps.ledger.models import Hold, Transfer
from apps.operations import batches as compared
from apps.operations import usage
from apps.operations.differences import Found
from apps.runner.protocol import Failure, Report, RowResult, Usage
from apps.sites.models import Node, Pool
from apps.wire.batches import batch_request
from cango_portal import database
from tests.dispatch.site import heard
from tests.ledger.books import balanced

CHAT = "/v1/chat/completions"
ANSWER = [{"index": 0, "delta": {"content": "Paris"}, "finish_reason": "stop"}]
USAGE = Usage(prompt_tokens=10, completion_tokens=20)
ROW_MICROUSD = 1 + 4  # 10 × $0.12/M × ½ = 0.6 and 20 × $0.36/M × ½ = 3.6, each rounded up
ENGINE_AWAY = Failure(code="engine_unavailable", message="The engine stopped.", status=503, retryable=True)
TOO_LONG = Failure(code="context_length_exceeded", message="The prompt is too long.", status=400)


@dataclass
class Works:
    organization: Organization
    key: APIKey
    secret: str
    model: Model
    pool: Pool
    caller: Caller
    media: Path
    told: SimpleNamespace

    # Files

    def line(self, number: int, **changes: Any) -> dict[str, Any]:
        body = {
            "model": self.model.name,
            "messages": [{"role": "user", "content": f"Capital {number}?"}],
            "max_tokens": 20,
        }
        return {"custom_id": f"row-{number}", "method": "POST", "url": CHAT, "body": body, **changes}

    def lines(self, count: int) -> list[dict[str, Any]]:
        return [self.line(number) for number in range(1, count + 1)]

    def upload(self, lines: list[dict[str, Any]] | bytes) -> File:
        content = lines if isinstance(lines, bytes) else b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        with files.writer(organization_id=self.organization.pk, name="input.jsonl", purpose=File.Purpose.BATCH) as out:
            out.write(content)
            return out.commit()

    def working_files(self) -> list[Path]:
        """What is stored of shards."""
        return [path for path in self.media.rglob("*") if path.is_file() and "batches" in path.parts]

    def read(self, file_id: UUID | None) -> list[dict[str, Any]]:
        if file_id is None:
            return []
        with default_storage.open(File.objects.get(pk=file_id).path, "rb") as opened:
            return [json.loads(line) for line in opened]

    # Batches

    def create(self, lines: list[dict[str, Any]] | bytes, **fields: Any) -> Batch:
        file = self.upload(lines)
        asked = {
            "input_file_id": public("file", UUID(str(file.pk))),
            "endpoint": CHAT,
            "completion_window": "24h",
            **fields,
        }
        return Batch.objects.get(pk=database.run(services.create(self.caller, batch_request(asked)))[0])

    def begin(self, lines: list[dict[str, Any]] | bytes | int, **fields: Any) -> Batch:
        """A batch whose file was checked."""
        batch = self.create(self.lines(lines) if isinstance(lines, int) else lines, **fields)
        checking.check(batch.pk)
        batch.refresh_from_db()
        return batch

    def feed(self) -> list[Job]:
        """Let the dispatcher place what waits. The shards that a site has now."""
        Node.objects.update(heartbeat_at=datetime.now(UTC))  # a busy machine may take seconds between two of these
        Dispatcher().feed()
        return list(Job.objects.filter(batch_id__isnull=False, state__in=["dispatched", "running"]).order_by("id"))

    def finalize(self, batch: Batch) -> Batch:
        finalizing.finalize(batch.pk)
        batch.refresh_from_db()
        return batch

    def run_to_end(self, batch: Batch) -> Batch:
        """Every row succeeds at once."""
        while jobs := self.feed():
            for job in jobs:
                deliver(finished(job))
        return self.finalize(batch)

    # Money

    def correct(self, batch: Batch) -> None:
        """Rows, batch, hold, journal and shards say the same, and both nightly checks find nothing."""
        batch.refresh_from_db()
        rows = list(Row.objects.filter(batch=batch))
        charged = sum(row.charge_microusd for row in rows)
        journal = sum(
            transfer.amount_microusd
            for transfer in Transfer.objects.filter(hold__key=shards.hold_key(batch.pk), debit="held", credit="revenue")
        )
        assert (batch.charge_microusd, journal) == (charged, charged)
        assert (batch.completed, batch.failed) == (
            sum(row.status == 200 for row in rows),
            sum(row.status != 200 for row in rows),
        )
        assert batch.prompt_tokens == sum(row.prompt_tokens for row in rows)
        assert batch.completion_tokens == sum(row.completion_tokens for row in rows)
        ended = Job.objects.filter(batch_id=batch.pk, state__in=FINAL)
        for job in ended:
            assert job.charge_microusd == sum(row.charge_microusd for row in rows if row.job_id == job.pk)
        if batch.is_final:
            hold = Hold.objects.filter(key=shards.hold_key(batch.pk)).first()
            assert hold is None or (hold.state != "open" and hold.charged_microusd == charged)
            assert sum(job.charge_microusd or 0 for job in ended) == charged
        balanced()
        found = Found()
        usage.compare(found, since=None)
        compared.compare(found, since=None)
        assert found.items == []


def nothing_written(batch: Batch) -> None:
    assert (Hold.objects.count(), Shard.objects.count(), Job.objects.count(), Row.objects.count()) == (0, 0, 0, 0)
    assert batch.charge_microusd == batch.hold_microusd == 0


def row(line: int, **fields: Any) -> RowResult:
    return RowResult(**{"line": line, "usage": USAGE, "choices": ANSWER, "gpu_energy_mj": 100 + line, **fields})


def report(job: Job, kind: str, rows: list[RowResult], *, claimant: str = "runner-1", **fields: Any) -> Report:
    job.refresh_from_db()
    return Report(
        **{
            "kind": kind,
            "job": str(job.pk),
            "attempt": job.attempt,
            "fence": str(job.fence),
            "claimant": claimant,
            "at": time.time(),
            "shard": True,
            "rows": rows,
            "quality": "counter",
            **({"state": "succeeded"} if kind == "finished" else {}),
            **fields,
        }
    )


def started(job: Job, **fields: Any) -> Report:
    return report(job, "started", [], **fields)


def lines_of(job: Job) -> list[int]:
    shard = Shard.objects.get(job=job)
    return list(range(shard.first_line, shard.first_line + shard.lines))


def some(job: Job, lines: list[int], **fields: Any) -> Report:
    return report(job, "rows", [row(line) for line in lines], **fields)


def finished(job: Job, lines: list[int] | None = None, **fields: Any) -> Report:
    """The last report of a shard; without `lines` with all its rows."""
    return report(job, "finished", [row(line) for line in (lines_of(job) if lines is None else lines)], **fields)


def deliver(told: Report, **kwargs: Any) -> collecting.Taken:
    if told.kind == "started":
        return collecting.Taken(database.run(reporting.report(told, **kwargs)))
    taken = database.run(collecting.report(told, **kwargs))
    taken.outcome.announce()
    return taken


def set_back(sql: str, pk: UUID) -> None:
    def plan() -> Plan[None]:
        yield Statement(sql, {"id": pk})

    database.run(plan())


def lose(job: Job) -> None:
    """Let its lease run out, of a runner that is silent, and the dispatcher see it."""
    heard()
    set_back("UPDATE jobs_job SET lease_expires_at = clock_timestamp() - interval '1 second' WHERE id = %(id)s", job.pk)
    Dispatcher().lose_leases()


def pass_window(batch: Batch) -> None:
    set_back(
        "UPDATE jobs_job SET deadline_at = clock_timestamp() WHERE batch_id = %(id)s AND finished_at IS NULL", batch.pk
    )
    set_back(
        "UPDATE batches_batch SET expires_at = clock_timestamp() - interval '1 second' WHERE id = %(id)s", batch.pk
    )
