"""The end of an organization: an owner asks, its keys stop at once, it can be undone for fourteen days, then it is deleted.

What runs then still ends, is settled and delivered: nothing is cancelled, and the deletion waits until no job, batch or
hold is open. Journal, invoices, figures of jobs and the audit trail stay, as bookkeeping must be kept; text, files,
webhooks, invitations, memberships and the name go.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext

from apps.accounts import audit, invitations, letters
from apps.accounts.models import Membership, Organization, User
from apps.accounts.rights import Right, with_right
from apps.batches.models import ENDED, Batch
from apps.billing import automatic
from apps.billing.models import Company, Subscription
from apps.core.errors import NotAllowed, PortalError
from apps.dispatch import forgetting
from apps.files import services as files
from apps.files.models import File
from apps.jobs.models import Job
from apps.keys import services as keys
from apps.keys.models import APIKey
from apps.ledger import services as ledger
from apps.ledger.models import Hold
from apps.webhooks import services as webhooks
from apps.webhooks.models import Endpoint

log = logging.getLogger(__name__)

GRACE = timedelta(days=14)
NAMELESS = "Deleted organization"


class CannotClose(PortalError):
    """It cannot be deleted, or not any more kept. Nothing was changed."""

    code, status = "organization_state", 409


@transaction.atomic
def ask(*, organization: Organization, user: User) -> Organization:
    """Its keys stop with the commit; automatic top-up is off. Safe to repeat. Raises CannotClose, NotAllowed."""
    locked = owned(organization, user)
    if locked.closing_at is not None:
        return locked
    plan = Subscription.objects.filter(organization=locked).exclude(state=Subscription.State.ENDED).first()
    if plan is not None and not plan.cancel_at_period_end:
        raise CannotClose(
            gettext("Your plan goes on. Cancel it first on the Billing page, so that nothing more is charged.")
        )
    locked.closing_at = timezone.now() + GRACE
    locked.save(update_fields=["closing_at"])
    automatic.switch_off(organization=locked, actor=user)
    audit.record(organization=locked, actor=user, action="organization.deletion_asked", target=locked.public_id, data={"on": locked.closing_at.date().isoformat()})  # fmt: skip
    tell(locked, "portal/mail/closing.txt", user=user)
    return locked


@transaction.atomic
def undo(*, organization: Organization, user: User) -> Organization:
    """As it was: keys work again. Automatic top-up stays off. Safe to repeat. Raises CannotClose, NotAllowed."""
    locked = owned(organization, user)
    if locked.closing_at is None:
        return locked
    locked.closing_at = None
    locked.save(update_fields=["closing_at"])
    audit.record(organization=locked, actor=user, action="organization.deletion_undone", target=locked.public_id)
    tell(locked, "portal/mail/kept.txt", user=user)
    return locked


def owned(organization: Organization, user: User) -> Organization:
    locked = Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
    if locked.closed_at is not None:
        raise CannotClose(gettext("The organization is deleted."))
    if not Membership.objects.filter(organization=locked, user=user, role__in=with_right(Right.OWN)).exists():
        raise NotAllowed(gettext("An organization is deleted by its owners. Nothing was changed."))
    return locked


def tell(organization: Organization, template: str, **context: Any) -> None:
    """All members, after the commit: a mail server that is away keeps nothing back."""
    people = User.objects.filter(is_active=True, memberships__organization=organization).order_by("email")
    for person in people:
        message = letters.letter(person, template, organization=organization, **context)
        transaction.on_commit(message.send, robust=True)


def open_work(organization_id: UUID) -> int:
    """Jobs, batches and holds that have not ended."""
    jobs = Job.objects.filter(organization=organization_id).open().count()
    batches = Batch.objects.filter(organization=organization_id).exclude(state__in=ENDED).count()
    return jobs + batches + Hold.objects.filter(organization=organization_id, state=Hold.State.OPEN).count()


def sweep(now: datetime | None = None) -> int:
    """Delete those whose time of grace is over. One that cannot be yet keeps no other back. Safe to repeat."""
    now = now or timezone.now()
    due = Organization.objects.filter(closing_at__lte=now, closed_at=None).order_by("closing_at")
    return sum(close(pk, now) for pk in list(due.values_list("pk", flat=True)[:100]))


def close(organization_id: UUID, now: datetime) -> bool:
    """False while work is open: whatever the ask found running was given its time, and this asks again."""
    with transaction.atomic():
        rows = Organization.objects.select_for_update(no_key=True, skip_locked=True)
        row = rows.filter(pk=organization_id, closing_at__lte=now, closed_at=None).first()
        if row is None:
            return False
        if left := open_work(row.pk):
            log.warning("organization not deleted yet", extra={"organization": row.public_id, "open": left})
            return False
        for key in APIKey.objects.filter(organization=row, revoked_at=None).order_by("pk"):
            keys.revoke(key=key, user=None, reason="The organization was deleted.")
        for endpoint in Endpoint.objects.filter(organization=row).order_by("pk"):
            webhooks.delete(endpoint, user=None)
        for invitation in row.invitations.pending().order_by("pk"):
            invitations.end(invitation, "withdrawn", now)
        tell(row, "portal/mail/closed.txt")
        Membership.objects.filter(organization=row).delete()
        Company.objects.filter(organization=row).delete()
        File.objects.filter(organization=row).update(expires_at=now)
        row.name, row.keep_text_days, row.closed_at = NAMELESS, 0, now
        row.save(update_fields=["name", "keep_text_days", "closed_at"])
        audit.record(organization=row, actor=None, action="organization.deleted", target=row.public_id)
        ledger.shut(organization=row)
        if left := open_work(row.pk):  # begun while this was at work, by somebody who had been let in before
            log.warning("organization not deleted yet", extra={"organization": row.public_id, "open": left})
            transaction.set_rollback(True)
            return False
    forgetting.sweep(thorough=True, organization=organization_id)
    while files.expire(batch=500) == 500:
        pass
    log.info("organization deleted", extra={"organization": row.public_id})
    return True
