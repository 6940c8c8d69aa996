"""The fleet's rows: sites and pools are described here, nodes are given their token, pools are drained for work on them."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import admin, messages
from django.db import transaction
from django.forms import ModelForm
from django.http import HttpRequest

from apps.accounts import audit
from apps.accounts.models import User
from apps.accounts.readonly import ReadOnlyAdmin, ReadOnlyInline
from apps.accounts.reasoned import Given, ReasonedActions, ReasonedAdmin, reasoned
from apps.core.errors import NotAllowed
from apps.sites import nodes
from apps.sites.models import Node, Pool, Site


class NodeInline(ReadOnlyInline):
    model = Node
    fields = ["code", "heartbeat_at", "power_w", "admitted"]
    show_change_link = True


@admin.register(Site)
class SiteAdmin(ReasonedAdmin[Site]):
    list_display = ["name", "code", "region", "country", "power_usd_per_mwh", "grid_gco2e_per_kwh", "pue"]
    list_filter = ["country"]
    search_fields = ["code", "name", "region"]
    ordering = ["code"]
    inlines = [NodeInline]

    def get_readonly_fields(self, request: HttpRequest, obj: Site | None = None) -> list[str]:
        return ["code", "created_at"] if obj else []

    def target_of(self, row: Site) -> str:
        return row.code


class PoolInline(ReadOnlyInline):
    model = Pool
    fields = ["code", "model", "slots", "ready", "draining", "reason"]
    show_change_link = True

    def get_queryset(self, request: HttpRequest):  # type: ignore[no-untyped-def]
        return super().get_queryset(request).select_related("model")


@admin.register(Node)
class NodeAdmin(ReasonedActions[Node], ReadOnlyAdmin[Node]):
    """A node is added here and gets its token, shown once; afterwards neither the token nor its hash is."""

    list_display = ["code", "site", "heartbeat_at", "power_w", "claimant", "admitted"]
    list_filter = ["site", "admitted"]
    list_select_related = ["site"]
    search_fields = ["code", "site__code", "claimant__exact"]
    ordering = ["code"]
    actions = ["suspend", "admit"]

    def get_fields(self, request: HttpRequest, obj: Node | None = None) -> Any:
        return ["code", "site", "heartbeat_at", "claimant", "power_w", "admitted"] if obj else ["code", "site"]

    def get_inlines(self, request: HttpRequest, obj: Node | None) -> Any:
        return [PoolInline] if obj else []

    def has_add_permission(self, request: HttpRequest) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    @transaction.atomic
    def save_model(self, request: HttpRequest, obj: Node, form: ModelForm[Node], change: bool) -> None:
        token = nodes.new_token()
        obj.token_sha256 = nodes.digest(token)
        super().save_model(request, obj, form, change)
        audit.record(organization=None, actor=cast(User, request.user), action="node.added", target=obj.code)
        self.message_user(request, f"The token of {obj.code}, shown once: {token}", messages.WARNING)
        self.message_user(
            request,
            "Next: put this token as node_token into the node's runner.toml and start its runner; docs/deploy.md says how.",
            messages.INFO,
        )

    @reasoned(
        description="Suspend",
        consequence="The node's token is refused at once. What it runs is lost to it within seconds.",
        when=lambda node: node.admitted,
    )
    def suspend(self, row: Node, given: Given) -> None:
        self.set_admitted(row, given, admitted=False)

    @reasoned(description="Admit", consequence="The node may work again.", when=lambda node: not node.admitted)
    def admit(self, row: Node, given: Given) -> None:
        self.set_admitted(row, given, admitted=True)

    @transaction.atomic
    def set_admitted(self, row: Node, given: Given, *, admitted: bool) -> None:
        if not Node.objects.filter(pk=row.pk, admitted=not admitted).update(admitted=admitted):
            raise NotAllowed("Nothing to do: it is so already.")
        action = "node.admitted" if admitted else "node.suspended"
        audit.record(organization=None, actor=given.user, action=action, target=row.code, reason=given.reason)


@admin.register(Pool)
class PoolAdmin(ReasonedActions[Pool], ReasonedAdmin[Pool]):
    list_display = ["code", "model", "node", "site", "slots", "ready", "draining", "reason"]
    list_filter = ["ready", "draining", "node__site"]
    list_select_related = ["model", "node__site"]
    search_fields = ["code", "model__name", "node__code"]
    autocomplete_fields = ["model", "node"]
    ordering = ["code"]
    fields = ["code", "model", "node", "slots", "ready", "reason", "draining", "staff_reason"]
    actions = ["drain", "undrain"]

    def get_readonly_fields(self, request: HttpRequest, obj: Pool | None = None) -> list[str]:
        told = ["ready", "reason", "draining"]  # by the runner, and by the acts below
        return [*told, "code", "model", "node"] if obj else told

    def target_of(self, row: Pool) -> str:
        return row.code

    @admin.display(description="Site", ordering="node__site")
    def site(self, row: Pool) -> str:
        return row.node.site.name

    @reasoned(
        description="Drain",
        consequence="The pool takes no new work. What runs there is finished.",
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
