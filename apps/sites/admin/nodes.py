"""Nodes: each gets its token here and takes the steps of its life."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminSplitDateTime
from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.forms import ModelForm
from django.http import HttpRequest

from apps.accounts import audit
from apps.accounts.models import User
from apps.accounts.readonly import ReadOnlyInline
from apps.accounts.reasoned import MAX_ROWS, Given, ReasonedActions, ReasonedAdmin, ReasonForm, reasoned
from apps.core.errors import NotAllowed
from apps.sites import drains, enrolment, lifecycle, nodes
from apps.sites.admin.contact import LOST, SUSPECT, ago
from apps.sites.models import GPU, BurnIn, Drain, Node, NodeEvent, Pool
from cango_portal import database

State = Node.State


class PoolInline(ReadOnlyInline):
    model = Pool
    fields = [
        "code",
        "model",
        "slots",
        "ready",
        "draining",
        "desired",
        "state",
        "fetch_seconds",
        "load_seconds",
        "reason",
    ]
    show_change_link = True

    def get_queryset(self, request: HttpRequest):  # type: ignore[no-untyped-def]
        return super().get_queryset(request).select_related("model")


class GPUInline(ReadOnlyInline):
    model = GPU
    fields = ["uuid", "name", "memory_mib", "first_seen_at", "removed_at"]
    show_change_link = True


class DrainInline(ReadOnlyInline):
    model = Drain
    fields = ["purpose", "reason", "announced_at", "starts_at", "deadline_at", "began_at", "drained_at", "ended_at"]
    ordering = ["-id"]


class NodeEventInline(ReadOnlyInline):
    model = NodeEvent
    fields = ["at", "before", "after", "actor", "reason"]

    def get_queryset(self, request: HttpRequest):  # type: ignore[no-untyped-def]
        return super().get_queryset(request).select_related("actor")


class DrainForm(ReasonForm):
    minutes = forms.IntegerField(
        label="Finish within (minutes)",
        min_value=0,
        max_value=24 * 60,
        initial=10,
        help_text="What still runs then is taken from the node: it ends with what was delivered, or runs again elsewhere.",
    )


class AdmitForm(ReasonForm):
    untested = forms.BooleanField(
        label="Admit it whatever its burn-in found",
        required=False,
        help_text="Your reason says why. It is kept with the step.",
    )


class AnnounceForm(ReasonForm):
    starts_at = forms.SplitDateTimeField(label="Starts (UTC)", widget=AdminSplitDateTime)
    minutes = forms.IntegerField(label="Its work is gone within (minutes)", min_value=0, max_value=24 * 60, initial=10)
    hours = forms.IntegerField(label="Expected to last (hours)", min_value=1, max_value=14 * 24, initial=4)


class ContactFilter(admin.SimpleListFilter):
    title, parameter_name = "last contact", "contact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("heard", "Heard"), ("suspect", "Suspect"), ("lost", "Lost"), ("never", "Never heard")]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Node]) -> models.QuerySet[Node]:
        since = {
            "heard": Q(heartbeat_at__gte=Now() - SUSPECT),
            "suspect": Q(heartbeat_at__lt=Now() - SUSPECT, heartbeat_at__gte=Now() - LOST),
            "lost": Q(heartbeat_at__lt=Now() - LOST),
            "never": Q(heartbeat_at=None),
        }
        wanted = since.get(self.value() or "")
        return queryset.filter(wanted) if wanted else queryset


class NodeAdmin(ReasonedActions[Node], ReasonedAdmin[Node]):
    """A node is added here and gets its token, shown once; afterwards neither the token nor its hash is.

    `telemetry` registers it, with what the GPUs say now.
    """

    list_display = ["code", "site", "state", "last_contact", "power_w", "partner", "claimant"]
    list_filter = ["state", ContactFilter, "site", "partner"]
    list_select_related = ["site", "partner"]
    search_fields = ["code", "site__code", "claimant__exact"]
    ordering = ["code"]
    actions = ["admit", "enroll", "believe", "drain", "maintain", "announce", "test_again", "quarantine", "retire"]

    def get_form(self, request: HttpRequest, obj: Node | None = None, change: bool = False, **kwargs: Any) -> Any:
        return super().get_form(request, obj, change=change, **(kwargs if obj else {"form": forms.ModelForm, **kwargs}))

    def get_fields(self, request: HttpRequest, obj: Node | None = None) -> Any:
        described = ["container", "partner", "expected_gpus"]
        told = ["state", "state_at", "burn_in", "last_contact", "claimant", "power_w"]
        return ["code", "site", *described, *told, "staff_reason"] if obj else ["code", "site", *described]

    def get_readonly_fields(self, request: HttpRequest, obj: Node | None = None) -> list[str]:
        return ["code", "site", "state", "state_at", "burn_in", "last_contact", "claimant", "power_w"] if obj else []

    def get_inlines(self, request: HttpRequest, obj: Node | None) -> Any:
        return [PoolInline, GPUInline, DrainInline, NodeEventInline] if obj else []

    @admin.display(description="Burn-in")
    def burn_in(self, row: Node) -> str:
        """What the last test of each pool found."""
        tests = BurnIn.objects.filter(pool__node=row).select_related("pool").order_by("pool__code", "-step_id", "-pk")
        newest = {test.pool_id: test for test in reversed(tests)}.values()
        said = [
            f"{test.pool.code} {'passed' if test.passed else f'failed: {test.wrong}'} ({test.at:%Y-%m-%d %H:%M} UTC)"
            for test in newest
        ]
        return ". ".join(sorted(said)) or "no result"

    def target_of(self, row: Node) -> str:
        return row.code

    @admin.display(description="Last contact", ordering="heartbeat_at")
    def last_contact(self, row: Node) -> str:
        if row.heartbeat_at is None:
            return "never"
        silent = datetime.now(UTC) - row.heartbeat_at
        word = "" if silent <= SUSPECT else ", suspect" if silent <= LOST else ", lost"
        return f"{ago(silent)}{word}"

    @transaction.atomic
    def save_model(self, request: HttpRequest, obj: Node, form: ModelForm[Node], change: bool) -> None:
        if change:
            return super().save_model(request, obj, form, change)
        obj.token_sha256 = nodes.digest(nodes.new_token())  # nobody's: it has no token until it is enrolled
        obj.save()
        actor = cast(User, request.user)
        audit.record(organization=None, actor=actor, action="node.added", target=obj.code)
        self.give_token(request, obj, actor, "The node was added")
        return None

    def give_token(self, request: HttpRequest, node: Node, actor: User, reason: str) -> None:
        token = enrolment.issue(node=node, actor=actor, reason=reason, now=datetime.now(UTC))
        self.message_user(
            request, f"The enrolment token of {node.code}, shown once, valid for a day: {token}", messages.WARNING
        )
        self.message_user(
            request,
            f"Next, on the machine: cango-runner enroll --portal {settings.BASE_URL} --token …; docs/deploy.md says what its "
            "runner.toml holds. Then admit the node: until that it gets no work.",
            messages.INFO,
        )

    @admin.action(description="Enrolment token", permissions=["act"])
    def enroll(self, request: HttpRequest, queryset: models.QuerySet[Node]) -> None:
        """A new one-time token for each; what was issued before and not used is void. Its own page asks for no reason."""
        for node in queryset[:MAX_ROWS]:
            try:
                self.give_token(request, node, cast(User, request.user), "A new token")
            except NotAllowed as refusal:
                self.message_user(request, refusal.message, messages.ERROR)

    @reasoned(
        description="Believe its hardware",
        consequence="The GPUs that the machine named at its last enrolment are the node's from now on. It goes to burn-in.",
        when=lambda node: node.state == State.QUARANTINED and bool(node.inventory),
    )
    @transaction.atomic
    def believe(self, row: Node, given: Given) -> None:
        database.run(enrolment.believe(row.pk, reason=given.reason, actor_id=given.user.pk))
        audit.record(organization=None, actor=given.user, action="node.believed", target=row.code, reason=given.reason)

    @reasoned(
        description="Admit",
        consequence="The node gets work of customers. One whose burn-in failed, or has no result yet, is refused.",
        form=AdmitForm,
        when=lambda node: State.ADMITTED in lifecycle.STEPS[node.state],
    )
    def admit(self, row: Node, given: Given) -> None:
        drains.move(
            node=row,
            after=State.ADMITTED,
            reason=given.reason,
            actor=given.user,
            untested=given.fields["untested"],
        )

    @reasoned(
        description="Drain",
        consequence="No new work. Requests that run are finished, shards of batches go on elsewhere. The node stays empty.",
        form=DrainForm,
        when=lambda node: node.state == State.ADMITTED,
    )
    def drain(self, row: Node, given: Given) -> None:
        self.take_out(row, given, Drain.Purpose.DRAIN)

    @reasoned(
        description="Maintenance now",
        consequence="As a drain; when nothing runs there any more the node is in maintenance. Unannounced, it counts against the promise of availability.",
        form=DrainForm,
        when=lambda node: node.state == State.ADMITTED,
    )
    def maintain(self, row: Node, given: Given) -> None:
        if row.state in {State.BURN_IN, State.DRAINING}:  # nothing new comes there anyway
            return drains.move(node=row, after=State.MAINTENANCE, reason=given.reason, actor=given.user)
        return self.take_out(row, given, Drain.Purpose.MAINTENANCE)

    def take_out(self, row: Node, given: Given, purpose: str) -> None:
        drains.drain(
            node=row, purpose=purpose, seconds=60 * given.fields["minutes"], reason=given.reason, actor=given.user
        )

    @reasoned(
        description="Announce maintenance",
        consequence="Customers see it in the list of sites; it begins by itself. Announced a day ahead it does not count against the promise of availability.",
        form=AnnounceForm,
        when=lambda node: node.state != State.RETIRED,
    )
    def announce(self, row: Node, given: Given) -> None:
        starts_at = given.fields["starts_at"]
        deadline_at = starts_at + timedelta(minutes=given.fields["minutes"])
        drains.announce(
            node=row,
            starts_at=starts_at,
            deadline_at=deadline_at,
            ends_at=max(starts_at + timedelta(hours=given.fields["hours"]), deadline_at),
            reason=given.reason,
            actor=given.user,
            now=datetime.now(UTC),
        )

    @reasoned(
        description="Test again",
        consequence="The node goes back to burn-in: it is heard, and gets no work until it is admitted.",
        when=lambda node: State.BURN_IN in lifecycle.STEPS[node.state],
    )
    def test_again(self, row: Node, given: Given) -> None:
        drains.move(node=row, after=State.BURN_IN, reason=given.reason, actor=given.user)

    @reasoned(
        description="Quarantine",
        consequence="The node's token is refused at once. What it runs is lost to it within seconds.",
        when=lambda node: State.QUARANTINED in lifecycle.STEPS[node.state],
    )
    def quarantine(self, row: Node, given: Given) -> None:
        drains.move(node=row, after=State.QUARANTINED, reason=given.reason, actor=given.user)

    @reasoned(
        description="Retire",
        consequence="For good: its token is refused, and nothing brings it back.",
        when=lambda node: State.RETIRED in lifecycle.STEPS[node.state],
    )
    def retire(self, row: Node, given: Given) -> None:
        drains.move(node=row, after=State.RETIRED, reason=given.reason, actor=given.user)
