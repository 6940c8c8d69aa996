"""GPUs, written down where they were found."""

from __future__ import annotations

from datetime import UTC, datetime

from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest

from apps.accounts import audit
from apps.accounts.reasoned import Given, ReasonedActions, ReasonedAdmin, reasoned
from apps.core.errors import NotAllowed
from apps.sites.models import GPU


@admin.register(GPU)
class GPUAdmin(ReasonedActions[GPU], ReasonedAdmin[GPU]):
    """A GPU is written down where it was found; one that was taken out is at no node until it is written down again."""

    list_display = ["uuid", "node", "name", "memory_mib", "first_seen_at", "removed_at"]
    list_filter = ["node__site"]
    list_select_related = ["node"]
    search_fields = ["=uuid", "=serial", "node__code"]
    autocomplete_fields = ["node"]
    ordering = ["uuid"]
    fields = ["uuid", "node", "name", "memory_mib", "serial", "removed_at", "staff_reason"]
    actions = ["remove"]

    def get_readonly_fields(self, request: HttpRequest, obj: GPU | None = None) -> list[str]:
        return ["uuid", "node", "removed_at"] if obj else ["removed_at"]

    @reasoned(
        description="Taken out",
        consequence="The GPU is at this node no more, and may be found at another.",
        when=lambda gpu: gpu.removed_at is None,
    )
    @transaction.atomic
    def remove(self, row: GPU, given: Given) -> None:
        if not GPU.objects.filter(pk=row.pk, removed_at=None).update(removed_at=datetime.now(UTC)):
            raise NotAllowed("Nothing to do: it is so already.")
        audit.record(
            organization=None,
            actor=given.user,
            action="gpu.removed",
            target=row.uuid,
            reason=given.reason,
            data={"node": row.node.code},
        )
