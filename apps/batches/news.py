"""Who hears of a batch: pages by the bell, the customer's own servers by webhook, whoever sent it by mail."""

from __future__ import annotations

import logging
import smtplib
from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from apps.accounts import letters
from apps.accounts.mails import Mail, wanted
from apps.accounts.models import User
from apps.batches.models import Batch
from apps.core.ids import public
from apps.live import bell
from apps.webhooks import services as webhooks

log = logging.getLogger(__name__)

WAITED = timedelta(minutes=5)  # whoever waits less still looks at the page; and a program may send many short ones
TOLD = (Batch.State.COMPLETED, Batch.State.FAILED, Batch.State.EXPIRED)  # who cancels knows it


def reader(batch_id: object) -> str:
    """As its input file names it, which stays while the batch has not ended."""
    return f"batch:{batch_id}"


def topics(batch_id: UUID, organization_id: object) -> tuple[str, str]:
    return f"batch.{public('batch', batch_id)}", f"organization.{organization_id}"


def changed(batch_id: UUID, organization_id: object) -> None:
    """After the commit."""
    bell.ring(*topics(batch_id, organization_id))


def ended(batch_id: UUID, organization_id: UUID, state: str) -> None:
    """In the transaction that ends it: its webhook is sent once."""
    webhooks.notify(
        organization=organization_id,
        type=f"batch.{state}",
        data={"id": public("batch", batch_id)},
        key=f"batch:{batch_id}:{state}",
    )


def mail(batch_id: UUID) -> bool:
    """Tell whoever sent it, once: the row says that it was done, and two workers wait for neither.

    A mail server that is away keeps nothing back; the page and the webhook say the same.
    """
    with transaction.atomic():
        rows = Batch.objects.select_for_update(skip_locked=True, no_key=True, of=("self",)).select_related(
            "organization", "api_key"
        )
        batch = rows.filter(pk=batch_id, state__in=TOLD, mailed_at__isnull=True, cleaned=False).first()
        if batch is None or batch.ended_at is None:
            return False
        Batch.objects.filter(pk=batch_id).update(mailed_at=timezone.now())
        sender = sender_of(batch) if batch.ended_at - batch.created_at >= WAITED else None
    if sender is None:
        return False
    try:
        letters.letter(sender, "batches/mail/ended.txt", kind=Mail.BATCHES, batch=batch).send()
    except (OSError, smtplib.SMTPException) as error:
        log.warning("mail of a batch not sent", extra={"error": type(error).__name__})
    return True


def sender_of(batch: Batch) -> User | None:
    """Who sent it, or made the key that did: still a member, and wanting such mails."""
    sender = batch.user_id or (batch.api_key.created_by_id if batch.api_key else None)
    if sender is None:
        return None
    members = User.objects.filter(wanted(Mail.BATCHES), memberships__organization=batch.organization, is_active=True)
    return members.filter(pk=sender).first()
