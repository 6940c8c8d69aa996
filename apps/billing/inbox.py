"""The inbox of Stripe's events: stored first, handled once, in any order; a failure is kept, shown and tried again."""

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import DataError, connection, transaction
from django.utils import timezone

from apps.accounts import audit
from apps.accounts.models import User
from apps.billing import mail
from apps.billing.client import client, plain
from apps.billing.handlers import HANDLERS
from apps.billing.models import Event
from apps.core.errors import PortalError

log = logging.getLogger(__name__)

DUE = (Event.State.WAITING, Event.State.FAILED)
GRACE = timedelta(seconds=30)  # what the queue has for an event before the sweep sends it again
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 30, 6 * 3600
MAX_ATTEMPTS = 20  # three days, as long as Stripe itself tries
ALARM_AFTER = 3  # attempts, a minute and a half: what only came in the wrong order is over by then
SWEEP = 500
MISSED_DAYS = 30  # Stripe keeps events so long: docs.stripe.com/api/events
OVERLAP = timedelta(hours=25)
MOST_TYPES = 20  # of one call
NAME = re.compile(r"[A-Za-z0-9_.]{1,64}", re.ASCII)
LOCKS = 0x5712  # our part of PostgreSQL's advisory locks

STORE = """
INSERT INTO billing_event (stripe_id, type, payload, state, attempts, error, happened_at, received_at, next_try_at)
VALUES (%(id)s, %(type)s, %(payload)s::jsonb, 'waiting', 0, '', %(happened)s, clock_timestamp(), %(due)s)
ON CONFLICT (stripe_id) DO NOTHING RETURNING stripe_id
"""
CLAIM = """
WITH due AS (
    SELECT stripe_id FROM billing_event WHERE state IN ('waiting', 'failed') AND next_try_at <= %(now)s
    ORDER BY next_try_at LIMIT %(most)s FOR UPDATE SKIP LOCKED
)
UPDATE billing_event SET next_try_at = %(later)s FROM due WHERE billing_event.stripe_id = due.stripe_id
RETURNING billing_event.stripe_id
"""


class NotAnEvent(PortalError):
    """A signed body that is no event of the kind we take. Nothing was stored."""

    code = "not_an_event"


class AlreadyHandled(PortalError):
    code, status = "already_handled", 409


class Busy(Exception):
    """Another worker is at this object."""


def store(payload: dict[str, Any]) -> bool:
    """Keep an event. False where it was there already. Raises NotAnEvent.

    In live mode an event of Stripe's test mode is refused, and the other way round: its objects are not ours.
    """
    identifier, kind, created = payload.get("id"), payload.get("type"), payload.get("created")
    data = payload.get("data")
    thing = data.get("object") if isinstance(data, dict) else None
    if (
        not isinstance(identifier, str)
        or not isinstance(kind, str)
        or not isinstance(created, int)
        or not isinstance(thing, dict)
        or not NAME.fullmatch(identifier)
        or not NAME.fullmatch(kind)
        or not 0 < created < 1 << 32
    ):
        raise NotAnEvent("This is not a snapshot event of Stripe's: id, type, created or data.object is missing.")
    if bool(payload.get("livemode")) != live():
        raise NotAnEvent(
            "This event is of the other mode: the endpoint and the secret key differ in live and test mode."
        )
    params = {
        "id": identifier,
        "type": kind,
        "happened": datetime.fromtimestamp(created, UTC),
        "due": timezone.now() + GRACE,
    }
    try:
        return _insert({**params, "payload": json.dumps(payload, default=str)})  # the library reads decimals as Decimal
    except DataError:  # text that jsonb cannot hold: the ids are all we need
        ids = {name: value for name, value in thing.items() if isinstance(value, str) and NAME.fullmatch(value)}
        short = {"id": identifier, "type": kind, "created": created, "data": {"object": ids}}
        return _insert({**params, "payload": json.dumps(short)})


def _insert(params: dict[str, Any]) -> bool:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(STORE, params)
        return cursor.fetchone() is not None


def live() -> bool:
    return settings.STRIPE_SECRET_KEY.startswith(("sk_live_", "rk_live_"))


def handle(event_id: str) -> None:
    """Do what an event is about, unless that is done. Never raises for the event's sake: its row says what went wrong.

    One worker at a time is at one object of Stripe's (an advisory lock, which is not a transaction), so what a handler
    read afresh is not older than what the last one wrote. Reading is done before the transaction that writes.
    """
    event = Event.objects.filter(pk=event_id, state__in=DUE).first()
    if event is None:
        return
    try:
        with alone(event.object_id or event.pk):
            _handle(event_id)
    except Busy:
        Event.objects.filter(pk=event_id, state__in=DUE).update(next_try_at=timezone.now())
    except Exception as error:
        log.exception("event failed", extra={"event": event_id, "type": event.type})
        _failed(event_id, error)


def _handle(event_id: str) -> None:
    event = Event.objects.filter(pk=event_id, state__in=DUE).first()
    if event is None:
        return
    handler = HANDLERS.get(event.type)
    write = handler(event) if handler else None
    with transaction.atomic():
        row = Event.objects.select_for_update(skip_locked=True).filter(pk=event_id, state__in=DUE).first()
        if row is None:
            return
        if write is not None:
            write()
        row.state = Event.State.IGNORED if write is None else Event.State.HANDLED
        row.handled_at, row.next_try_at, row.error = timezone.now(), None, ""
        row.save(update_fields=["state", "handled_at", "next_try_at", "error"])


def _failed(event_id: str, error: Exception) -> None:
    with transaction.atomic():
        row = Event.objects.select_for_update().get(pk=event_id)
        if row.state not in DUE:
            return
        row.state = Event.State.FAILED
        row.attempts = min(row.attempts + 1, 32_000)
        row.error = f"{type(error).__name__}: {error}".replace("\0", "")[:500]
        pause = min(FIRST_PAUSE_SECONDS * 2 ** (min(row.attempts, 32) - 1), LONGEST_PAUSE_SECONDS)
        row.next_try_at = None if row.attempts >= MAX_ATTEMPTS else timezone.now() + timedelta(seconds=pause)
        row.save(update_fields=["state", "attempts", "error", "next_try_at"])
        if row.attempts == ALARM_AFTER:
            mail.to_staff("staff_event_failed", event=row)


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Hold the advisory lock of this name on Django's connection. Raises Busy at once where another one holds it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", [LOCKS, name])
        if not cursor.fetchone()[0]:
            raise Busy(name)
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s, hashtext(%s))", [LOCKS, name])


def due() -> list[str]:
    """Events that wait too long, or whose pause is over: each is put off for a while, so that the next sweep leaves it."""
    now = timezone.now()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(CLAIM, {"now": now, "later": now + 2 * GRACE, "most": SWEEP})
        return [identifier for (identifier,) in cursor.fetchall()]


def fetch_missed(days: int = MISSED_DAYS) -> int:
    """Ask Stripe for events that did not reach us and store them; how many that were.

    Twice: what it could not deliver in `days`, and everything of the last 25 hours, as it does not count an endpoint that
    was switched off as a failure.
    """
    now = timezone.now()
    since, lately = (int((now - back).timestamp()) for back in (timedelta(days=days), OVERLAP))
    known = set(Event.objects.filter(happened_at__gte=now - timedelta(days=days)).values_list("pk", flat=True))
    types = sorted(HANDLERS)
    found = 0
    for start in range(0, len(types), MOST_TYPES):
        wanted = types[start : start + MOST_TYPES]
        for events in (
            client().v1.events.list(
                {"created": {"gte": since}, "types": wanted, "delivery_success": False, "limit": 100}
            ),
            client().v1.events.list({"created": {"gte": lately}, "types": wanted, "limit": 100}),
        ):
            found += sum(store(plain(event)) for event in events.auto_paging_iter() if event.id not in known)
    return found


@transaction.atomic
def replay(*, event: Event, actor: User, reason: str) -> None:
    """Have an event that failed, or was not for us, handled again at the next sweep. Raises AlreadyHandled."""
    row = Event.objects.select_for_update().get(pk=event.pk)
    if row.state == Event.State.HANDLED:
        raise AlreadyHandled("This event was handled: handling it again would change nothing.")
    row.state, row.attempts, row.next_try_at, row.handled_at = Event.State.WAITING, 0, timezone.now(), None
    row.save(update_fields=["state", "attempts", "next_try_at", "handled_at"])
    audit.record(organization=None, actor=actor, action="stripe_event.replayed", target=row.pk, reason=reason)
