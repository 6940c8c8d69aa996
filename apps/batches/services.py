"""What doors and pages call."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.utils.translation import gettext
from kombu.exceptions import OperationalError

from apps.accounts import audit
from apps.accounts.models import User
from apps.batches import ending, news, statements, tasks
from apps.batches.endpoints import ENDPOINTS
from apps.batches.models import Batch
from apps.core.errors import InvalidRequest, NotFound, PortalError
from apps.core.ids import parse, uuid7
from apps.core.sql import Plan, Statement
from apps.dispatch import receipts
from apps.dispatch.receipts import Ticket
from apps.files import statements as files
from apps.files.models import File
from apps.keys.services import Caller
from apps.wire.batches import BatchRequest
from cango_portal import database

log = logging.getLogger(__name__)

WINDOW_SECONDS = 24 * 3600
LEAST_SECONDS = 60  # a deadline sooner than this leaves no time to run anything
MOST_OPEN = 100  # of one organization
HURRY_SECONDS = 2.0

COUNT = """
SELECT count(*) AS open FROM batches_batch
WHERE organization_id = %(organization)s AND state IN ('validating', 'in_progress', 'finalizing', 'cancelling')
"""


class TooManyBatches(PortalError):
    code, status, type = "too_many_batches", 429, "rate_limit_error"


def create(
    caller: Caller, request: BatchRequest, *, ticket: Ticket | None = None, batch_id: UUID | None = None
) -> Plan[tuple[UUID, bool]]:
    """Write a batch that is to be checked: its id, and whether it is new. Nothing is held before its file was found good.

    With a `ticket` the same request again finds the batch it made. Raises InvalidRequest, NotFound, KeyReused, NowhereAllowed
    and TooManyBatches; then nothing was written.
    """
    if ticket is not None and ticket.is_repeat:
        found = yield from again(ticket)
        if found is not None:
            return found, False
    if request.endpoint not in ENDPOINTS:
        offered = ", ".join(ENDPOINTS)
        raise InvalidRequest(
            f"Batches are for {offered}; '{request.endpoint[:100]}' is none of them.",
            param="endpoint",
            code="invalid_value",
        )
    caller.require_place(caller.residency)
    now = datetime.now(UTC)
    deadline = None
    if request.deadline_at is not None:
        deadline = datetime.fromtimestamp(request.deadline_at, UTC)
        if deadline < now + timedelta(seconds=LEAST_SECONDS):
            raise InvalidRequest(
                "'deadline_at' is over, or less than a minute away.", param="deadline_at", code="invalid_value"
            )
    made = batch_id or uuid7()
    try:
        file = yield from files.begin_reading(
            caller.organization_id, parse("file", request.input_file_id), reader=news.reader(made)
        )
    except NotFound:
        raise NotFound(
            f"There is no file '{request.input_file_id}'. Upload one with purpose 'batch' to /v1/files first.",
            param="input_file_id",
            code="file_not_found",
        ) from None
    if file["purpose"] != File.Purpose.BATCH:
        raise InvalidRequest(
            f"The file '{request.input_file_id}' has the purpose '{file['purpose']}'. Upload it with purpose 'batch'.",
            param="input_file_id",
            code="invalid_purpose",
        )
    open_now = yield Statement(COUNT, {"organization": caller.organization_id})
    if open_now[0]["open"] >= MOST_OPEN:
        raise TooManyBatches(
            gettext("This organization has %(most)s batches that have not ended, the most at once. Wait until one has.")
            % {"most": MOST_OPEN},
            retry_after_seconds=60,
        )
    written = yield from statements.create(
        {
            "mark": ticket.mark if ticket else None,
            "digest": ticket.digest if ticket else None,
            "id": made,
            "organization": caller.organization_id,
            "api_key": caller.api_key_id,
            "user": caller.user_id,
            "endpoint": request.endpoint,
            "residency": None if caller.residency is None else list(caller.residency),
            "allowed_models": None if caller.allowed_models is None else sorted(caller.allowed_models),
            "window": request.completion_window,
            "metadata": request.metadata,
            "file": file["id"],
            "output_seconds": request.output_expires_after.seconds if request.output_expires_after else None,
            "max_power_usd_per_mwh": request.max_power_usd_per_mwh,
            "seconds": WINDOW_SECONDS,
            "deadline": deadline,
        }
    )
    if not written and ticket is not None:  # its twin was first
        yield from files.end_reading(news.reader(made))
        found = yield from again(ticket)
        if found is not None:
            return found, False
    return made, True


def again(ticket: Ticket) -> Plan[UUID | None]:
    """The batch that this request has made already. Raises KeyReused where its key was another's."""
    found = yield from statements.made_before(
        ticket.mark, ticket.digest, mark_seconds=receipts.KEPT_SECONDS, digest_seconds=receipts.RETRY_SECONDS
    )
    if found is None:
        return None
    if bytes(found["digest"]) != ticket.digest:
        raise receipts.KeyReused(
            "This Idempotency-Key was used for another batch within the last 24 hours. Nothing was accepted or charged. "
            "Send a key of its own with each request."
        )
    batch_id: UUID = found["id"]
    return batch_id


def hurry(batch_id: UUID) -> None:
    """Have a worker go on with it now. Without a broker nothing is lost: the sweep looks every five seconds."""
    try:
        tasks.go_on.apply_async(args=(str(batch_id),), retry=False)
    except OperationalError:
        log.warning("broker away, a batch waits for the sweep")


async def hurry_async(batch_id: UUID) -> None:
    """`hurry`, waited for two seconds at most."""
    hurrying = asyncio.ensure_future(sync_to_async(hurry, thread_sensitive=False)(batch_id))
    await asyncio.wait({hurrying}, timeout=HURRY_SECONDS)


def cancel(*, batch: Batch, actor: User | None = None, reason: str = "") -> None:
    """Stop a batch: what runs ends within seconds, and what was finished is kept and charged. Safe to repeat.

    Raises CannotCancel once it has ended.
    """
    before = batch.state
    database.run(ending.cancel(batch.pk))
    if actor is not None and before not in ("cancelling", "cancelled"):
        audit.record(
            organization=batch.organization,
            actor=actor,
            action="batch.cancelled",
            target=batch.public_id,
            reason=reason,
        )
    stop(batch.pk, batch.organization_id)


def stop(batch_id: UUID, organization_id: Any) -> None:
    ready = ending.stop_shards(batch_id, state="cancelled")
    news.changed(batch_id, organization_id)
    if ready is not None:
        hurry(ready)
