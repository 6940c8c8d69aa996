"""The end of a batch: its files, the rest of its hold, and the news, exactly once, whatever dies in between."""

from __future__ import annotations

import contextlib
import json
import logging
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.files.storage import default_storage
from django.db import transaction

from apps.batches import keeping, news, shards, statements
from apps.batches.claims import Claim, Stopped
from apps.batches.collecting import row_id
from apps.batches.endpoints import ENDPOINTS
from apps.batches.models import ENDED, Batch, Row, Shard
from apps.core.errors import PortalError
from apps.core.ids import public
from apps.core.sql import Plan, Statement
from apps.core.sql import Row as Record
from apps.files import services as files
from apps.files import statements as stored
from apps.files.models import File
from apps.files.sealing import Unreadable
from apps.files.writing import BY_DEFAULT, Writer
from apps.ledger import statements as ledger
from apps.wire import batches as wire
from apps.wire.bodies import parse
from cango_portal import database

log = logging.getLogger(__name__)

ENDING = ("finalizing", "cancelling")
OK = 200
CLIENT_ERRORS = range(400, 500)
UNFINISHED = {
    "expired": ("batch_expired", "The batch's window ended before this request was run. Nothing was charged for it."),
    "cancelled": (
        "batch_cancelled",
        "The batch was cancelled before this request was run. Nothing was charged for it.",
    ),
}
LEFT_OPEN = "SELECT 1 FROM batches_shard s JOIN jobs_job j ON j.id = s.job_id WHERE s.batch_id = %(batch)s AND j.finished_at IS NULL LIMIT 1"
HELD = "SELECT state FROM ledger_hold WHERE key = %(key)s"


def finalize(batch_id: UUID) -> None:
    """Write what has ended, then end the batch. Safe to run again after any crash: until the last step nothing counts."""
    batch = database.run(statements.claim(batch_id, *ENDING))
    if batch is None:
        return
    if database.run(rows(LEFT_OPEN, batch=batch_id)):
        database.run(unclaim(batch_id))
        return
    claim = Claim(batch)
    final = batch["ending"] or "cancelled"
    written: list[Writer] = []
    try:
        with claim.kept():
            write_files(batch, claim, final, written)
        with transaction.atomic():
            if not database.run(statements.move(batch_id, final, sources=(batch["state"],), token=claim.token)):
                raise Stopped
            for file in written:
                file.show()
            database.run(stored.end_reading(news.reader(batch_id)))
            database.run(keeping.shorten(batch["organization_id"], batch_id=batch_id))
            news.ended(batch_id, batch["organization_id"], final)
            if database.run(rows(HELD, key=shards.hold_key(batch_id))):
                database.run(ledger.release(shards.hold_key(batch_id)))
    except Stopped:
        for file in written:
            file.withdraw()
        return
    log.info("batch ended", extra={"batch": public("batch", batch_id), "state": final})
    news.changed(batch_id, batch["organization_id"])
    clean(batch_id)


def write_files(batch: Record, claim: Claim, final: str, written: list[Writer]) -> None:
    """Store both files, those without a line left out; nobody sees them before the batch ends. Raises Stopped.

    What an earlier try left is deleted. `written` is filled as they are stored.
    """
    for earlier in File.objects.filter(pk__in=[id for id in (batch["output_file_id"], batch["error_file_id"]) if id]):
        files.discard(earlier.pk, earlier.path)
    with writer(batch, "output") as output, writer(batch, "error") as errors:
        write(batch, claim, final, output, errors)
        named = {
            "output": output.draft.id if output.size_bytes else None,
            "error": errors.draft.id if errors.size_bytes else None,
        }
        if not database.run(statements.name_files(batch["id"], claim.token, **named)):
            raise Stopped
        for file in (output, errors):
            if file.size_bytes:
                written.append(file)
                file.store()


def writer(batch: Record, name: str) -> AbstractContextManager[Writer]:
    return files.writer(
        organization_id=batch["organization_id"],
        name=f"{public('batch', batch['id'])}_{name}.jsonl",
        purpose=File.Purpose.BATCH_OUTPUT,
        expires_after_seconds=batch["output_seconds"] or BY_DEFAULT,
    )


def write(batch: Record, claim: Claim, final: str, output: Writer, errors: Writer) -> None:
    """Every line of the batch into one of the two, one shard in memory at a time."""
    original: dict[int, str] | None = None
    endpoint = ENDPOINTS[batch["endpoint"]]
    for shard in Shard.objects.filter(batch_id=batch["id"]).order_by("number"):
        claim.alive()
        lines = range(shard.first_line, shard.first_line + shard.lines)
        asked = asked_of(shard)
        custom_ids = {line: row.custom_id for line, row in asked.items()}
        if any(line not in asked for line in lines):  # the batch ends all the same, and the hold is released
            log.error(
                "a shard's file is lost", extra={"batch": public("batch", batch["id"]), "first_line": shard.first_line}
            )
            if original is None:
                original = custom_ids_of_input(batch, claim)
            custom_ids = original | custom_ids
        ended = {
            row.line: row
            for row in Row.objects.filter(batch_id=batch["id"], line__gte=lines.start, line__lt=lines.stop)
        }
        for line in lines:
            row = ended.get(line)
            body = body_of(row) if row is not None else None
            if body is not None and row is not None and row.status == OK:
                body = endpoint.told(body, json.loads(asked[line].kept) if line in asked else None)
            told = described(batch["id"], line, custom_ids.get(line), row, final, body=body)
            text = json.dumps(told, ensure_ascii=False, separators=(",", ":"))
            good = row is not None and row.status == OK and told["error"] is None
            (output if good else errors).write(text.encode() + b"\n")


def body_of(row: Row) -> dict[str, Any] | None:
    """None where it cannot be read: the file says so of that line, and has all others."""
    try:
        return row.body
    except Unreadable:
        log.error("a row cannot be read", extra={"batch": public("batch", row.batch_id), "line": row.line})
        return None


def asked_of(shard: Shard) -> dict[int, shards.Line]:
    """By line, as far as the shard's file is there and can be read."""
    found: dict[int, shards.Line] = {}
    with contextlib.suppress(FileNotFoundError, Unreadable, ValueError):
        for line in shards.lines(shard.path) if shard.path else ():
            found[line.number] = line
    return found


def custom_ids_of_input(batch: Record, claim: Claim) -> dict[int, str]:
    """By line, as far as the customer's own file is there. Raises Stopped."""
    found: dict[int, str] = {}
    file = database.run(stored.stored(batch["input_file_id"]))
    if file is None:
        return found
    with (
        contextlib.suppress(FileNotFoundError, Unreadable),
        files.open_lines(file["path"], longest=settings.MAX_BODY_BYTES) as lines,
    ):
        for line in lines:
            claim.alive()
            with contextlib.suppress(PortalError):
                found[line.number] = wire.batch_line(parse(line.content), endpoint=batch["endpoint"]).custom_id
    return found


def described(
    batch_id: UUID, line: int, custom_id: str | None, row: Row | None, final: str, *, body: dict[str, Any] | None
) -> dict[str, Any]:
    """A line of an output file: the answer, or why there is none. Faults of ours come as `error`, as the official ones.

    Without its custom_id, which was lost, it is an error that names the line, with the answer that was paid for.
    """
    identity = row_id(batch_id, line)
    told: dict[str, Any] = {
        "id": public("batch_req", identity),
        "custom_id": custom_id,
        "response": None,
        "error": None,
    }
    if row is None:
        code, message = UNFINISHED.get(final, UNFINISHED["cancelled"])
        told["error"] = {"code": code, "message": message}
    elif body is None:
        told["error"] = {"code": Unreadable.code, "message": "What is stored of this answer cannot be read any more."}
    elif row.status == OK or row.status in CLIENT_ERRORS:
        told["response"] = {"status_code": row.status, "request_id": f"req_{identity.hex}", "body": body}
    else:
        error = body.get("error", {})
        told["error"] = {"code": error.get("code", "server_error"), "message": error.get("message", "")}
    if custom_id is None:
        error = told["error"] or {"code": "custom_id_lost", "message": "The portal lost the custom_id of this request."}
        told["error"] = {**error, "message": f"{error['message']} It is line {line} of the input file.".strip()}
    return told


def clean(batch_id: UUID) -> None:
    """Whoever sent it is told. What only its work needed goes: shards' files, and answers, which are in the customer's files now. Safe to repeat."""
    batch = Batch.objects.filter(pk=batch_id, state__in=ENDED).first()
    if batch is None:
        return
    news.mail(batch_id)
    for shard in Shard.objects.filter(batch_id=batch_id).exclude(path=""):
        Row.objects.filter(
            batch_id=batch_id, line__gte=shard.first_line, line__lt=shard.first_line + shard.lines
        ).update(plain_body=None, sealed_body=None)
        default_storage.delete(shard.path)
        Shard.objects.filter(pk=shard.pk).update(path="")
    shards.remove(batch.organization_id, batch_id)
    Batch.objects.filter(pk=batch_id).update(cleaned=True)


def unclaim(batch_id: UUID) -> Plan[None]:
    yield Statement("UPDATE batches_batch SET working_until = NULL WHERE id = %(id)s", {"id": batch_id})


def rows(sql: str, **params: object) -> Plan[list[Record]]:
    return (yield Statement(sql, params))
