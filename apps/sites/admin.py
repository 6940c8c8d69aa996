"""The fleet's rows: sites and pools are described here, nodes get their token and take the steps of their life."""

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
from apps.accounts.readonly import HistoryAdmin, ReadOnlyInline
from apps.accounts.reasoned import MAX_ROWS, Given, ReasonedActions, ReasonedAdmin, ReasonForm, reasoned
from apps.core.errors import NotAllowed
from apps.sites import drains, enrolment, lifecycle, nodes
from apps.sites.models import (
    GPU,
    BurnIn,
    Container,
    Deployment,
    Drain,
    Feed,
    Freeze,
    GoldenPrompt,
    Node,
    NodeEvent,
    Partner,
    Pool,
    PowerCurve,
    Site,
    SpeedCurve,
)
from cango_portal import database

State = Node.State
SUSPECT, LOST = timedelta(seconds=6), timedelta(seconds=10)  # as placement and the leases of interactive work have it


class NodeInline(ReadOnlyInline):
    model = Node
    fields = ["code", "state", "heartbeat_at", "power_w", "partner"]
    show_change_link = True


class ContainerInline(ReadOnlyInline):
    model = Container
    fields = ["code", "power_cap_w", "note"]
    show_change_link = True


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


@admin.register(Partner)
class PartnerAdmin(ReasonedAdmin[Partner]):
    """Who owns nodes that are not ours. A change of the share holds from now on."""

    list_display = ["name", "code", "revenue_share_basis_points"]
    search_fields = ["code", "name"]
    ordering = ["code"]


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


@admin.register(GoldenPrompt)
class GoldenPromptAdmin(ReasonedAdmin[GoldenPrompt]):
    """The first of a model is what an idle pool is asked every half minute: keep it short."""

    list_display = ["model", "expects", "max_completion_tokens"]
    list_select_related = ["model"]
    search_fields = ["model__name"]
    autocomplete_fields = ["model"]
    ordering = ["model__name", "id"]

    def get_readonly_fields(self, request: HttpRequest, obj: GoldenPrompt | None = None) -> list[str]:
        return ["model"] if obj else []


class SpeedInline(ReadOnlyInline):
    model = SpeedCurve
    fields = ["concurrency", "tokens_per_second", "first_token_seconds"]
    ordering = ["concurrency"]


class PowerInline(ReadOnlyInline):
    model = PowerCurve
    fields = ["concurrency", "power_w", "quality"]
    ordering = ["concurrency"]


@admin.register(BurnIn)
class BurnInAdmin(HistoryAdmin[BurnIn]):
    list_display = ["pool", "passed", "gpu", "driver", "seconds", "at"]
    list_filter = ["passed", "pool__node__site"]
    list_select_related = ["pool"]
    search_fields = ["pool__code", "pool__node__code"]
    ordering = ["-id"]
    inlines = [SpeedInline, PowerInline]


@admin.register(SpeedCurve)
class SpeedCurveAdmin(HistoryAdmin[SpeedCurve]):
    list_display = ["model", "gpu", "driver", "concurrency", "tokens_per_second", "first_token_seconds", "at"]
    list_filter = ["gpu"]
    list_select_related = ["model"]
    search_fields = ["model__name", "burn_in__pool__code"]
    ordering = ["-burn_in_id", "concurrency"]


@admin.register(PowerCurve)
class PowerCurveAdmin(HistoryAdmin[PowerCurve]):
    list_display = ["model", "gpu", "driver", "concurrency", "power_w", "quality", "at"]
    list_filter = ["gpu", "quality"]
    list_select_related = ["model"]
    search_fields = ["model__name", "burn_in__pool__code"]
    ordering = ["-burn_in_id", "concurrency"]


def ago(silent: timedelta) -> str:
    """`3 s ago`, `5 min ago`, `2 days ago`."""
    seconds = max(int(silent.total_seconds()), 0)
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


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
