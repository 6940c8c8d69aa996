"""Feeds: what each told last, and whether that is too old."""

from __future__ import annotations

from datetime import UTC, datetime

from django.contrib import admin
from django.http import HttpRequest

from apps.accounts.reasoned import ReasonedAdmin
from apps.sites.admin.contact import ago
from apps.sites.models import Feed


@admin.register(Feed)
class FeedAdmin(ReasonedAdmin[Feed]):
    """What it told last, and whether that is too old. Sites name it by its code."""

    list_display = ["code", "kind", "adapter", "address", "value", "unit", "newest_at", "state", "error"]
    list_filter = ["kind", "adapter"]
    search_fields = ["code", "address"]
    ordering = ["code"]

    def get_readonly_fields(self, request: HttpRequest, obj: Feed | None = None) -> list[str]:
        return ["code", "kind", "value", "newest_at", "state", "read_at", "error"] if obj else []

    def target_of(self, row: Feed) -> str:
        return row.code

    @admin.display(description="State")
    def state(self, row: Feed) -> str:
        if row.newest_at is None:
            return "told nothing yet"
        old = ago(datetime.now(UTC) - row.newest_at)
        return f"STALE: of {old}" if row.is_stale(datetime.now(UTC)) else f"of {old}"
