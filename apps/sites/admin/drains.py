"""Drains, and announced maintenance that is called off."""

from __future__ import annotations

from datetime import UTC, datetime

from django.contrib import admin

from apps.accounts.readonly import HistoryAdmin
from apps.accounts.reasoned import Given, ReasonedActions, reasoned
from apps.sites import drains
from apps.sites.models import Drain


@admin.register(Drain)
class DrainAdmin(ReasonedActions[Drain], HistoryAdmin[Drain]):
    list_display = [
        "node",
        "purpose",
        "reason",
        "announced_at",
        "starts_at",
        "deadline_at",
        "began_at",
        "drained_at",
        "ended_at",
    ]
    list_filter = ["purpose", "node__site"]
    list_select_related = ["node"]
    search_fields = ["node__code"]
    ordering = ["-id"]
    actions = ["call_off"]

    @reasoned(
        description="Call off",
        consequence="The announced maintenance does not take place.",
        when=lambda drain: drain.began_at is None and drain.ended_at is None,
    )
    def call_off(self, row: Drain, given: Given) -> None:
        drains.call_off(drain=row, reason=given.reason, actor=given.user, now=datetime.now(UTC))
