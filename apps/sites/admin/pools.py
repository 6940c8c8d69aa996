"""Deployments and pools."""

from __future__ import annotations

from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest

from apps.accounts import audit
from apps.accounts.reasoned import Given, ReasonedActions, ReasonedAdmin, reasoned
from apps.core.errors import NotAllowed
from apps.sites.models import Deployment, Pool


@admin.register(Deployment)
class DeploymentAdmin(ReasonedAdmin[Deployment]):
    list_display = [
        "model",
        "site",
        "replicas",
        "ready",
        "engine",
        "revision",
        "quantization",
        "pinned",
        "park_after_seconds",
    ]
    list_filter = ["site", "pinned"]
    list_select_related = ["model", "site"]
    search_fields = ["model__name", "site__code"]
    autocomplete_fields = ["model", "site"]
    ordering = ["site__code", "model__name"]

    def get_readonly_fields(self, request: HttpRequest, obj: Deployment | None = None) -> list[str]:
        return ["model", "site"] if obj else []

    def get_queryset(self, request: HttpRequest):  # type: ignore[no-untyped-def]
        return super().get_queryset(request).prefetch_related("pools")

    @admin.display(description="Ready pools")
    def ready(self, row: Deployment) -> int:
        return sum(pool.ready for pool in row.pools.all())


@admin.register(Pool)
class PoolAdmin(ReasonedActions[Pool], ReasonedAdmin[Pool]):
    list_display = [
        "code",
        "model",
        "node",
        "site",
        "slots",
        "ready",
        "desired",
        "state",
        "load_seconds",
        "draining",
        "node_state",
        "reason",
    ]
    list_filter = ["ready", "desired", "state", "draining", "node__state", "node__site"]
    list_select_related = ["model", "node__site"]
    search_fields = ["code", "model__name", "node__code"]
    autocomplete_fields = ["model", "node", "deployment"]
    ordering = ["code"]
    fields = [
        "code",
        "model",
        "node",
        "deployment",
        "slots",
        "desired",
        "ready",
        "state",
        "reason",
        "fetch_seconds",
        "load_seconds",
        "draining",
        "staff_reason",
    ]
    actions = ["drain", "undrain"]

    def get_readonly_fields(self, request: HttpRequest, obj: Pool | None = None) -> list[str]:
        told = [
            "ready",
            "state",
            "reason",
            "fetch_seconds",
            "load_seconds",
            "draining",
        ]  # by the runner, and by the acts below
        return [*told, "code", "model", "node"] if obj else told

    def target_of(self, row: Pool) -> str:
        return row.code

    @admin.display(description="Site", ordering="node__site")
    def site(self, row: Pool) -> str:
        return row.node.site.name

    @admin.display(description="Node", ordering="node__state")
    def node_state(self, row: Pool) -> str:
        return row.node.get_state_display()

    @reasoned(
        description="Drain",
        consequence="The pool takes no new work. Requests that run there are finished, shards of batches go on elsewhere.",
        when=lambda pool: not pool.draining,
    )
    def drain(self, row: Pool, given: Given) -> None:
        self.set_draining(row, given, draining=True)

    @reasoned(description="Undrain", consequence="The pool takes work again.", when=lambda pool: pool.draining)
    def undrain(self, row: Pool, given: Given) -> None:
        self.set_draining(row, given, draining=False)

    @transaction.atomic
    def set_draining(self, row: Pool, given: Given, *, draining: bool) -> None:
        if not Pool.objects.filter(pk=row.pk, draining=not draining).update(draining=draining):
            raise NotAllowed("Nothing to do: it is so already.")
        audit.record(
            organization=None,
            actor=given.user,
            action="pool.drained" if draining else "pool.undrained",
            target=row.code,
            reason=given.reason,
        )
