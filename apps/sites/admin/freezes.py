"""Freezes: work of silent nodes that is kept, until staff release it."""

from __future__ import annotations

from django.contrib import admin
from django.db import transaction
from django.db.models.functions import Now

from apps.accounts import audit
from apps.accounts.readonly import HistoryAdmin
from apps.accounts.reasoned import Given, ReasonedActions, reasoned
from apps.core.errors import NotAllowed
from apps.sites.models import Freeze


@admin.register(Freeze)
class FreezeAdmin(ReasonedActions[Freeze], HistoryAdmin[Freeze]):
    """When many nodes fell silent at once and their work was kept. It ends by itself when they are heard again."""

    list_display = ["began_at", "nodes", "leases", "running", "released_at", "ended_at"]
    list_filter = ["open"]
    ordering = ["-id"]
    actions = ["release"]

    @reasoned(
        description="Release",
        consequence="The silent nodes are lost: what streamed ends with an error, everything else they had runs again elsewhere.",
        when=lambda freeze: freeze.open and freeze.released_at is None,
    )
    @transaction.atomic
    def release(self, row: Freeze, given: Given) -> None:
        if not Freeze.objects.filter(pk=row.pk, open=True, released_at=None).update(released_at=Now()):
            raise NotAllowed("It was released already, or is over.")
        audit.record(
            organization=None, actor=given.user, action="freeze.released", target=str(row), reason=given.reason
        )
