"""Sites and their containers."""

from __future__ import annotations

from datetime import UTC, datetime

from django.contrib import admin
from django.http import HttpRequest

from apps.accounts.readonly import ReadOnlyInline
from apps.accounts.reasoned import ReasonedActions, ReasonedAdmin
from apps.sites.admin.contact import ago
from apps.sites.models import Container, Feed, Node, Site


class NodeInline(ReadOnlyInline):
    model = Node
    fields = ["code", "state", "heartbeat_at", "power_w", "partner"]
    show_change_link = True


class ContainerInline(ReadOnlyInline):
    model = Container
    fields = ["code", "power_cap_w", "note"]
    show_change_link = True


class SiteAdmin(ReasonedActions[Site], ReasonedAdmin[Site]):
    """Registered by `telemetry`, with the site's meter."""

    list_display = [
        "name", "code", "stage", "region", "country", "grid_zone", "power_cap_w", "power_usd_per_mwh", "grid_gco2e_per_kwh", "pue",
    ]  # fmt: skip
    list_filter = ["stage", "country"]
    search_fields = ["code", "name", "region", "grid_zone"]
    ordering = ["code"]
    inlines = [ContainerInline, NodeInline]

    def get_readonly_fields(self, request: HttpRequest, obj: Site | None = None) -> list[str]:
        return ["code", "created_at", "feeds_say"] if obj else []

    @admin.display(description="Feeds say")
    def feeds_say(self, row: Site) -> str:
        """Each with its age: an old one is still in force, and must not look new."""
        now, found = datetime.now(UTC), Feed.objects.filter(code__in=row.feeds.values())
        told = [
            f"{feed.kind}: {feed.code}, {ago(now - feed.newest_at) if feed.newest_at else 'nothing yet'}"
            f"{', STALE' if feed.is_stale(now) else ''}"
            for feed in found.order_by("kind")
        ]
        return "; ".join(told) or "it names none"

    def target_of(self, row: Site) -> str:
        return row.code


@admin.register(Container)
class ContainerAdmin(ReasonedAdmin[Container]):
    list_display = ["code", "site", "power_cap_w", "note"]
    list_filter = ["site"]
    list_select_related = ["site"]
    search_fields = ["code", "site__code"]
    ordering = ["code"]

    def get_readonly_fields(self, request: HttpRequest, obj: Container | None = None) -> list[str]:
        return ["code", "site"] if obj else []
