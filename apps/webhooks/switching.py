"""Turn webhooks off and on. What was waiting ends as failed, so that nothing old arrives by surprise; replay sends it."""

from __future__ import annotations

import logging
import smtplib
from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_noop

from apps.accounts import audit, letters
from apps.accounts.mails import Mail, wanted
from apps.accounts.models import Membership, User
from apps.webhooks.models import Delivery, Endpoint

# Kept in English, as the API shows them; pages and mails translate them.
OFF = gettext_noop("The webhook was turned off.")
BY_MEMBER = gettext_noop("Turned off by a member.")
GONE = gettext_noop("Your server answered 410 Gone.")
SILENT = gettext_noop("No event arrived for three days.")

log = logging.getLogger(__name__)


def turn_off(endpoint: Endpoint, *, reason: str, now: datetime) -> None:
    """In a transaction that holds the endpoint's lock. What is on the wire just now is still recorded."""
    endpoint.enabled = False
    endpoint.disabled_reason = reason
    endpoint.disabled_at = now
    endpoint.save(update_fields=["enabled", "disabled_reason", "disabled_at"])
    Delivery.objects.filter(
        Q(lease_expires_at__isnull=True) | Q(lease_expires_at__lte=now),
        endpoint=endpoint,
        state=Delivery.State.PENDING,
    ).update(state=Delivery.State.FAILED, next_try_at=None, lease_expires_at=None, finished_at=now, last_error=OFF)


def give_up(endpoint: Endpoint, *, reason: str, now: datetime) -> None:
    """The portal's own decision: off, on record, and the owners are told by mail."""
    turn_off(endpoint, reason=reason, now=now)
    audit.record(
        organization=endpoint.organization,
        actor=None,
        action="webhook.disabled",
        target=endpoint.public_id,
        reason=reason,
    )
    transaction.on_commit(lambda: tell_owners(endpoint), robust=True)


def tell_owners(endpoint: Endpoint) -> None:
    """One mail to each owner who wants it. A mail that cannot be sent is logged: the page says the same."""
    owners = User.objects.filter(
        wanted(Mail.WEBHOOKS),
        memberships__organization=endpoint.organization,
        memberships__role=Membership.Role.OWNER,
        is_active=True,
    )
    url = f"{settings.BASE_URL}{reverse('webhooks:detail', args=[endpoint.public_id])}"
    for owner in owners:
        try:
            letters.letter(owner, "webhooks/disabled.txt", kind=Mail.WEBHOOKS, endpoint=endpoint, url=url).send()
        except (smtplib.SMTPException, OSError):
            log.exception("mail not sent", extra={"endpoint": str(endpoint.pk)})


@transaction.atomic
def disable(endpoint: Endpoint, *, user: User | None) -> None:
    """A member's decision. A second call changes nothing."""
    locked = Endpoint.objects.select_for_update(no_key=True).get(pk=endpoint.pk)
    if not locked.enabled:
        return
    turn_off(locked, reason=BY_MEMBER, now=timezone.now())
    audit.record(organization=locked.organization, actor=user, action="webhook.disabled", target=locked.public_id)


@transaction.atomic
def enable(endpoint: Endpoint, *, user: User | None) -> None:
    """On again, with a clean record: only new events are sent. A second call changes nothing."""
    changed = Endpoint.objects.filter(pk=endpoint.pk, enabled=False).update(
        enabled=True, disabled_reason="", disabled_at=None, consecutive_failures=0, failing_since=None
    )
    if changed:
        audit.record(
            organization=endpoint.organization, actor=user, action="webhook.enabled", target=endpoint.public_id
        )
