"""Signed events to the portal's own `/webhooks/stripe/`, as Stripe sends them: again for three days, then no more."""

import json
import logging
from typing import Any

import httpx
from celery import current_app
from django.conf import settings
from django.urls import reverse
from kombu.exceptions import OperationalError
from stripe import WebhookSignature

from apps.billing.models import SandboxObject
from apps.billing.sandbox import rows
from apps.billing.sandbox.showing import shown
from cango_portal import valkey

log = logging.getLogger(__name__)

TASK = "billing.sandbox_deliver"
GRACE_SECONDS = 20  # until the sweep takes an event whose task got lost
FIRST_PAUSE_SECONDS = 60
LONGEST_PAUSE_SECONDS = 6 * 3600
GIVES_UP_SECONDS = 3 * 24 * 3600  # docs.stripe.com/webhooks#retries
TIMEOUT_SECONDS = 10
SWEEP = 200


def send(event_id: str) -> bool:
    """Queue a delivery. False where the broker is away; the sweep sends it."""
    try:
        current_app.send_task(TASK, (event_id,), retry=False)
    except (OperationalError, *valkey.Away) as error:
        log.warning("sandbox event not queued", extra={"event": event_id, "reason": type(error).__name__})
        return False
    return True


def payload(event: dict[str, Any]) -> str:
    return json.dumps(shown(event), indent=2)


def signature(body: str, *, secret: str | None = None, timestamp: int | None = None) -> str:
    """The `Stripe-Signature` header, made by the library's own code."""
    secret = secret or settings.STRIPE_WEBHOOK_SECRETS[0]
    return str(WebhookSignature.generate_signature_header(body, secret, timestamp or rows.now()))


def deliver(event_id: str) -> bool:
    """POST one event that is pending. False where the portal did not take it; the pause before the next try grows."""
    event = rows.find(event_id)
    if event is None or not event["pending_webhooks"]:
        return True
    body = payload(event)
    base = settings.BASE_URL.replace("//localhost", "//127.0.0.1")
    headers = {"Stripe-Signature": signature(body), "Content-Type": "application/json; charset=utf-8"}
    try:
        answer = httpx.post(
            base + reverse("billing:stripe_webhook"), content=body.encode(), headers=headers, timeout=TIMEOUT_SECONDS
        )
        taken = answer.is_success
    except httpx.HTTPError as error:
        log.warning("sandbox event not delivered", extra={"event": event_id, "reason": type(error).__name__})
        taken = False
    note(event_id, taken=taken)
    return taken


def note(event_id: str, *, taken: bool) -> None:
    """Keep the outcome of a try."""
    with rows.writing():
        event = rows.get("event", event_id)
        event["_attempts"] += 1
        if taken:
            event["pending_webhooks"], event["_delivered"] = 0, True
        else:
            pause = min(FIRST_PAUSE_SECONDS * 2 ** min(event["_attempts"] - 1, 16), LONGEST_PAUSE_SECONDS)
            event["_next_at"] = rows.now() + pause
            if event["_next_at"] > event["created"] + GIVES_UP_SECONDS:
                event["pending_webhooks"] = 0
        rows.put(event)


def due() -> list[str]:
    """Pending events whose time has come, oldest first; each is put off, so that the next sweep leaves it."""
    with rows.writing():
        found = SandboxObject.objects.filter(
            kind="event", data__pending_webhooks__gt=0, data___next_at__lte=rows.now()
        ).order_by("created_at", "id")[:SWEEP]
        events = [row.data for row in found]
        for event in events:
            event["_next_at"] = rows.now() + FIRST_PAUSE_SECONDS
            rows.put(event)
        return [event["id"] for event in events]
