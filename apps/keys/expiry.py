"""Warnings before a key ends: 7 days and 1 day ahead, once each, by webhook and by mail to its maker and the owners."""

from __future__ import annotations

import logging
import smtplib
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from django.core.mail import EmailMessage
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from apps.accounts import letters
from apps.accounts.mails import Mail, wanted
from apps.accounts.models import User
from apps.accounts.rights import Right, with_right
from apps.core.ids import public
from apps.keys.models import APIKey
from apps.webhooks import services as webhooks

log = logging.getLogger(__name__)

DAYS = (7, 1)  # ahead
CHUNK = 200


def told_by(expires_at: datetime | None, now: datetime) -> int | None:
    """The warning that a person who chooses this time needs no more: a key made for an hour warns of nothing."""
    if expires_at is None:
        return None
    return next((days for days in sorted(DAYS) if expires_at <= now + timedelta(days=days)), None)


def warn(now: datetime | None = None) -> int:
    """Tell of every key that ends soon and was not told of. Returns how many were."""
    now = now or timezone.now()
    due = Q()
    for days in DAYS:
        due |= Q(expires_at__lte=now + timedelta(days=days)) & (
            Q(expiry_told_days__isnull=True) | Q(expiry_told_days__gt=days)
        )
    found = APIKey.objects.filter(due, revoked_at__isnull=True, expires_at__gt=now).values_list("pk", flat=True)
    return sum(tell(pk, now) for pk in list(found[:CHUNK]))


@transaction.atomic
def tell(key_id: UUID, now: datetime) -> bool:
    """One warning, for the nearest of the times ahead. Two workers tell once: the row is locked, and says what was told."""
    key = (
        APIKey.objects.select_for_update(of=("self",), skip_locked=True)
        .select_related("organization", "created_by")
        .filter(pk=key_id, revoked_at__isnull=True, expires_at__gt=now)
        .first()
    )
    days = told_by(key.expires_at, now) if key else None
    if key is None or key.expires_at is None or days is None or (key.expiry_told_days or days + 1) <= days:
        return False
    key.expiry_told_days = days
    key.save(update_fields=["expiry_told_days"])
    webhooks.notify(
        organization=key.organization_id,
        type="key.expiring",
        data={
            "id": public("key", key.pk),
            "name": key.name,
            "prefix": key.prefix,
            "expires_at": key.expires_at.isoformat(),
            "days": days,
        },
        key=f"key.expiring:{key.pk}:{key.expires_at.isoformat()}:{days}",
    )
    for reader in readers_of(key):
        message = letters.letter(reader, "keys/mail/expiring.txt", kind=Mail.KEYS, key=key, days=days)
        transaction.on_commit(partial(sent, message))
    return True


def readers_of(key: APIKey) -> list[User]:
    """Its maker, if still a member, and who manages every key: those who want such mails."""
    members = User.objects.filter(wanted(Mail.KEYS), is_active=True, memberships__organization=key.organization)
    managers = Q(memberships__organization=key.organization, memberships__role__in=with_right(Right.EVERY_KEY))
    return list(members.filter(managers | Q(pk=key.created_by_id)).distinct().order_by("email"))


def sent(message: EmailMessage) -> None:
    """A mail server that is away keeps no webhook back; the page and the webhook have said it."""
    try:
        message.send()
    except (OSError, smtplib.SMTPException) as error:
        log.warning("mail of an expiring key not sent", extra={"error": type(error).__name__})
