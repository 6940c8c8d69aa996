"""When a member was last here: with a session, in one organization."""

from __future__ import annotations

import logging
from datetime import timedelta

from django.db import DatabaseError, transaction
from django.db.models import Q
from django.utils import timezone

from apps.accounts.models import Membership

log = logging.getLogger(__name__)

EVERY = timedelta(minutes=5)  # a request after less writes nothing


def seen(membership: Membership) -> None:
    """Now. Waits for no lock, and a page that only reads is answered also by a database that takes no writes."""
    now = timezone.now()
    stale = Q(last_active_at=None) | Q(last_active_at__lt=now - EVERY)
    if membership.last_active_at is not None and membership.last_active_at >= now - EVERY:
        return
    free = Membership.objects.select_for_update(skip_locked=True, no_key=True).filter(stale, pk=membership.pk)
    try:
        with transaction.atomic():
            # Asked again under the lock: of requests side by side one writes, and none sets an older time.
            if Membership.objects.filter(pk__in=free.values("pk")).update(last_active_at=now):
                membership.last_active_at = now
    except DatabaseError as error:
        log.warning("a member's last activity was not written", extra={"error": type(error).__name__})
