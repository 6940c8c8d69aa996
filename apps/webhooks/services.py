"""Tell customers of facts, and manage where they are told."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext
from kombu.exceptions import OperationalError

from apps.accounts import audit
from apps.accounts.models import Organization, User
from apps.core.errors import InvalidRequest, PortalError
from apps.core.ids import uuid7
from apps.webhooks import addresses, events, secrets, statements, switching, tasks
from apps.webhooks.models import Delivery, Endpoint, Message
from apps.webhooks.sending import rules
from cango_portal import database

MAX_ENDPOINTS = 10
OVERLAP = timedelta(hours=24)

disable = switching.disable
enable = switching.enable

log = logging.getLogger(__name__)


class TooManyEndpoints(PortalError):
    code, status = "too_many_webhooks", 409
    retryable: ClassVar[bool | None] = False


MOST_TESTS, TESTS_SECONDS = 10, 60


class NotNow(PortalError):
    """The webhook or the delivery is in a state that does not allow it."""

    code, status = "webhook_state", 409
    retryable: ClassVar[bool | None] = False


class TooManyTests(PortalError):
    """Each makes a call to a server that may not be the customer's. Nothing was sent."""

    code, status, type = "too_many_tests", 429, "rate_limit_error"


def notify(*, organization: Organization | UUID, type: str, data: dict[str, Any], key: str) -> Message | None:
    """Tell the organization's webhooks of one fact; `key` says which, so that telling it twice sends it once.

    Writes rows only, in the caller's transaction, and sends after its commit. None where no webhook listens or the key
    was used before. Raises ValueError for a type that `events` does not list. Locks the endpoints that listen against
    deletion until the transaction ends.
    """
    if type not in events.NAMES:
        raise ValueError(f"unknown event type {type}")
    organization_id = organization.pk if isinstance(organization, Organization) else organization
    message_id = database.run(
        statements.notify(organization=organization_id, type=type, data=data, key=key, now=timezone.now())
    )
    if message_id is None:
        return None
    transaction.on_commit(ring, robust=True)
    return Message.objects.get(pk=message_id)


def ring() -> None:
    """Have a worker look. Without a broker nothing is lost: the sweep looks every 15 seconds."""
    try:
        tasks.deliver.apply_async(retry=False)
    except OperationalError:
        log.warning("broker away, webhooks wait for the sweep")


@transaction.atomic
def create(
    *,
    organization: Organization,
    url: str,
    description: str = "",
    event_types: list[str],
    user: User | None,
    endpoint_id: UUID | None = None,
) -> tuple[Endpoint, str]:
    """A new endpoint and its secret: show it once. An empty list of types means all.

    Raises InvalidRequest and TooManyEndpoints. With `endpoint_id`, the id on a form, a second call raises IntegrityError.
    """
    url, event_types = checked(url, event_types)
    Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)  # two at once count one after the other
    if Endpoint.objects.of(organization).count() >= MAX_ENDPOINTS:
        raise TooManyEndpoints(
            gettext("An organization has at most %(most)s webhooks. Delete one that is not needed.")
            % {"most": MAX_ENDPOINTS}
        )
    secret = secrets.new()
    endpoint = Endpoint(
        id=endpoint_id or uuid7(),
        organization=organization,
        url=url,
        description=description,
        event_types=event_types,
        secret=secrets.seal(secret),
        created_by=user,
    )
    endpoint.save(force_insert=True)
    audit.record(
        organization=organization, actor=user, action="webhook.created", target=endpoint.public_id, data=shape(endpoint)
    )
    return endpoint, secret


@transaction.atomic
def change(endpoint: Endpoint, *, url: str, description: str, event_types: list[str], user: User | None) -> Endpoint:
    """New target, words or types. What waits goes to the new URL. Raises InvalidRequest."""
    url, event_types = checked(url, event_types)
    locked = Endpoint.objects.select_for_update(no_key=True).get(pk=endpoint.pk)
    before = shape(locked)
    locked.url, locked.description, locked.event_types = url, description, event_types
    locked.save(update_fields=["url", "description", "event_types"])
    if before != shape(locked):
        audit.record(
            organization=locked.organization,
            actor=user,
            action="webhook.changed",
            target=locked.public_id,
            data={"before": before, "after": shape(locked)},
        )
    return locked


def shape(endpoint: Endpoint) -> dict[str, Any]:
    return {"url": endpoint.url, "description": endpoint.description, "event_types": endpoint.event_types}


def checked(url: str, event_types: list[str]) -> tuple[str, list[str]]:
    known = [event.name for event in events.CHOSEN]
    unknown = next((name for name in event_types if name not in known), None)
    if unknown is not None:
        raise InvalidRequest(f"There is no event type {unknown[:40]}.", param="event_types", code="unknown_event_type")
    return addresses.checked_url(url, rules()), [name for name in known if name in event_types]


@transaction.atomic
def rotate(endpoint: Endpoint, *, user: User | None, now: datetime | None = None) -> str:
    """A new secret, to be shown once. The one before signs too for 24 hours; one before that ends now."""
    now = now or timezone.now()
    locked = Endpoint.objects.select_for_update(no_key=True).get(pk=endpoint.pk)
    secret = secrets.new()
    locked.previous_secret, locked.previous_secret_expires_at = locked.secret, now + OVERLAP
    if not readable(locked.secret):  # nothing could be signed with it
        locked.previous_secret, locked.previous_secret_expires_at = "", None
    locked.secret = secrets.seal(secret)
    locked.save(update_fields=["secret", "previous_secret", "previous_secret_expires_at"])
    audit.record(organization=locked.organization, actor=user, action="webhook.secret_rotated", target=locked.public_id)
    return secret


def readable(sealed: str) -> bool:
    try:
        secrets.unseal(sealed)
    except secrets.Unreadable:
        return False
    return True


@transaction.atomic
def delete(endpoint: Endpoint, *, user: User | None) -> None:
    """The endpoint with its log. Waits for those who are just telling it something. A second call changes nothing."""
    locked = Endpoint.objects.select_for_update().filter(pk=endpoint.pk).first()
    if locked is None:
        return
    audit.record(
        organization=locked.organization,
        actor=user,
        action="webhook.deleted",
        target=locked.public_id,
        data=shape(locked),
    )
    locked.delete()


@transaction.atomic
def send_test(endpoint: Endpoint) -> Delivery:
    """A `webhook.test` event to this endpoint alone, whatever it listens to. Raises NotNow where it is off, TooManyTests."""
    locked = Endpoint.objects.select_for_update(no_key=True).get(pk=endpoint.pk)
    if not locked.enabled:
        raise NotNow(gettext("This webhook is off. Turn it on, then send a test event."))
    now = timezone.now()
    lately = Message.objects.filter(
        organization=locked.organization, type=events.TEST, created_at__gt=now - timedelta(seconds=TESTS_SECONDS)
    )
    if lately.count() >= MOST_TESTS:
        raise TooManyTests(
            gettext("%(most)s test events a minute are the most of an organization. Nothing was sent; wait a minute.")
            % {"most": MOST_TESTS},
            retry_after_seconds=TESTS_SECONDS,
        )
    message = Message.objects.create(
        organization=locked.organization,
        type=events.TEST,
        data={"webhook": locked.public_id, "message": "A test event. Nothing happened."},
        key=f"test:{uuid7()}",
        created_at=now,
    )
    delivery = Delivery.objects.create(message=message, endpoint=locked, next_try_at=now, created_at=now)
    transaction.on_commit(ring, robust=True)
    return delivery


@transaction.atomic
def replay(delivery: Delivery) -> Delivery:
    """Send the same message once more, under the same webhook-id. Raises NotNow where it is off or still on its way."""
    endpoint = Endpoint.objects.select_for_update(no_key=True).get(pk=delivery.endpoint_id)
    if not endpoint.enabled:
        raise NotNow(gettext("This webhook is off. Turn it on, then replay the event."))
    now = timezone.now()
    try:
        with transaction.atomic():
            made = Delivery.objects.create(
                message_id=delivery.message_id, endpoint=endpoint, replay=True, next_try_at=now, created_at=now
            )
    except IntegrityError:
        raise NotNow(gettext("This event is on its way to the webhook already.")) from None
    transaction.on_commit(ring, robust=True)
    return made
