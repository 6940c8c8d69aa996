"""Send what is due: claim in the database, talk without it, record in it.

The calls run in threads of this module that never touch the database; claims and records happen in the caller's thread,
each in a short transaction of its own.
"""

from __future__ import annotations

import json
import logging
import random
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_noop

from apps.core.ids import public
from apps.core.sql import Row
from apps.webhooks import addresses, outbound, secrets, statements, switching
from apps.webhooks.addresses import Resolver, Rules
from apps.webhooks.models import Delivery, Endpoint
from apps.webhooks.outbound import Outcome
from cango_portal import database

RETRY_SECONDS = (15, 60, 300, 1800, 7200, 18_000, 28_800, 28_800)
"""Waits after the first attempt, the second and so on, ± JITTER: nine attempts in 23.6 hours."""
JITTER = 0.1
ATTEMPTS = len(RETRY_SECONDS) + 1
LEASE_MARGIN_SECONDS = 60  # over the timeout of a call: name resolution has none of its own
DISABLE_AFTER = timedelta(days=3)
AT_ONCE = 32
AT_ONCE_EACH = 4
ROUND_SECONDS = 30  # then the sweep goes on, so that a worker can be stopped
GONE = 410
USER_AGENT = "Cango-Portal-Webhooks/1"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Attempt:
    """All a thread needs to send. `number` is the fence its outcome is recorded under."""

    delivery_id: UUID
    endpoint_id: UUID
    number: int
    url: str
    headers: dict[str, str]
    body: str
    error: str = ""


@dataclass(slots=True)
class Sent:
    """How many attempts a round made, and how many of them arrived."""

    attempts: int = 0
    delivered: int = 0


def rules() -> Rules:
    return Rules(private=settings.WEBHOOKS_ALLOW_PRIVATE, plain=settings.DEMO)


def send_due(*, now: datetime | None = None, resolver: Resolver = addresses.resolve) -> Sent:
    """Send until nothing is due, at most AT_ONCE at a time. `now` stands still where it is given."""
    sent = Sent()
    ends = time.monotonic() + ROUND_SECONDS
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="webhook") as threads:
        calls: dict[Future[Outcome], Attempt] = {}
        while True:
            free = AT_ONCE - len(calls) if time.monotonic() < ends else 0
            for attempt in claim(now=now or timezone.now(), most=free) if free else ():
                calls[threads.submit(call, attempt, resolver=resolver)] = attempt
            if not calls:
                return sent
            for future in wait(calls, return_when=FIRST_COMPLETED).done:
                outcome = future.result()
                sent.attempts += 1
                sent.delivered += outcome.delivered
                record(calls.pop(future), outcome, now=now or timezone.now())


def claim(*, now: datetime, most: int) -> list[Attempt]:
    lease = timedelta(seconds=settings.WEBHOOK_TIMEOUT_SECONDS + LEASE_MARGIN_SECONDS)
    rows = database.run(statements.claim(now=now, lease_expires_at=now + lease, most=most, each=AT_ONCE_EACH))
    return [attempt_of(row, now=now) for row in rows]


def attempt_of(row: Row, *, now: datetime) -> Attempt:
    body = body_of(row["type"], row["happened_at"], row["data"])
    message_id = public("msg", row["message_id"])
    sealed = [row["secret"]]
    if row["previous_secret"] and row["previous_secret_expires_at"] > now:
        sealed.append(row["previous_secret"])
    headers = {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "Accept-Encoding": "identity",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
    }
    error = ""
    try:
        headers["webhook-signature"] = secrets.signatures(
            sealed, message_id=message_id, timestamp=int(now.timestamp()), body=body
        )
    except secrets.Unreadable:
        log.error("webhook secret unreadable", extra={"endpoint": str(row["endpoint_id"])})
        error = gettext_noop("The signing secret could not be read, so nothing was sent. Rotate it.")
    return Attempt(
        delivery_id=row["id"],
        endpoint_id=row["endpoint_id"],
        number=row["attempts"],
        url=row["url"],
        headers=headers,
        body=body,
        error=error,
    )


def body_of(event_type: str, happened_at: datetime, data: Any) -> str:
    """Standard Webhooks, "Payload structure". The same bytes on every attempt and replay."""
    moment = happened_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps(
        {"type": event_type, "timestamp": moment, "data": data}, ensure_ascii=False, separators=(",", ":")
    )


def call(attempt: Attempt, *, resolver: Resolver) -> Outcome:
    """In a thread, without the database."""
    if attempt.error:
        return Outcome(status=None, excerpt="", error=attempt.error, took_seconds=0.0)
    return outbound.post(
        attempt.url,
        headers=attempt.headers,
        body=attempt.body,
        rules=rules(),
        timeout_seconds=settings.WEBHOOK_TIMEOUT_SECONDS,
        resolver=resolver,
    )


@transaction.atomic
def record(attempt: Attempt, outcome: Outcome, *, now: datetime) -> None:
    """Write down what came of an attempt. Nothing where the lease was lost to another worker or the endpoint deleted.

    Locks the endpoint, then the delivery, as all of this app do.
    """
    endpoint = Endpoint.objects.select_for_update(no_key=True).filter(pk=attempt.endpoint_id).first()
    delivery = (
        Delivery.objects.select_for_update()
        .filter(pk=attempt.delivery_id, state=Delivery.State.PENDING, attempts=attempt.number)
        .first()
    )
    if endpoint is None or delivery is None:
        return
    delivery.request_headers = attempt.headers
    delivery.request_body = attempt.body
    delivery.response_status = outcome.status
    delivery.response_excerpt = outcome.excerpt
    delivery.last_error = outcome.error
    delivery.took_seconds = outcome.took_seconds
    delivery.tried_at = now
    delivery.lease_expires_at = None
    if outcome.delivered:
        finish(delivery, Delivery.State.DELIVERED, now=now)
    elif outcome.status == GONE or delivery.attempts >= ATTEMPTS or not endpoint.enabled:
        finish(delivery, Delivery.State.FAILED, now=now)
    else:
        delivery.next_try_at = now + wait_after(delivery.attempts, asked_seconds=outcome.retry_after_seconds)
    delivery.save()
    note(endpoint, outcome, now=now)


def finish(delivery: Delivery, state: Delivery.State, *, now: datetime) -> None:
    delivery.state = state
    delivery.next_try_at = None
    delivery.finished_at = now


def wait_after(attempts: int, *, asked_seconds: float = 0.0) -> timedelta:
    """How long after so many attempts the next one comes, with jitter against crowds; later where the server asks for it,
    up to the longest wait of all."""
    usual = RETRY_SECONDS[attempts - 1] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311
    return timedelta(seconds=max(usual, min(asked_seconds, RETRY_SECONDS[-1])))


def note(endpoint: Endpoint, outcome: Outcome, *, now: datetime) -> None:
    """The endpoint's health, of which its switching off follows. The endpoint's row is locked."""
    if outcome.delivered:
        if endpoint.consecutive_failures:
            endpoint.consecutive_failures = 0
            endpoint.failing_since = None
            endpoint.save(update_fields=["consecutive_failures", "failing_since"])
        return
    endpoint.consecutive_failures += 1
    endpoint.failing_since = endpoint.failing_since or now
    endpoint.save(update_fields=["consecutive_failures", "failing_since"])
    if not endpoint.enabled:
        return
    if outcome.status == GONE:
        switching.give_up(endpoint, reason=switching.GONE, now=now)
    elif now - endpoint.failing_since >= DISABLE_AFTER:
        switching.give_up(endpoint, reason=switching.SILENT, now=now)
