"""The job record: one inference request from admission to settlement."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex, GinIndex
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy

from apps.accounts.models import Organization, User
from apps.catalog.models import WHOLE, Model, PriceVersion, Tier
from apps.core.ids import public, uuid7
from apps.files.models import File
from apps.jobs import sealed
from apps.keys.models import APIKey
from apps.runner.protocol import WRITES
from apps.sites.models import Pool, Site

FINAL = ("succeeded", "failed", "cancelled", "expired")
OPEN = ("queued", "dispatched", "running")


class JobQuerySet(models.QuerySet["Job"]):
    def of(self, organization: Organization) -> JobQuerySet:
        """What the organization is shown: a batch's shards are not."""
        return self.filter(organization=organization, batch_id__isnull=True)

    def described(self, words: dict[str, str]) -> JobQuerySet:
        """With all of these in its metadata. The second condition is the index's own: without it none would be used."""
        return self.filter(metadata__contains=words).exclude(metadata={})

    def open(self) -> JobQuerySet:
        """In the words of the index of what has not ended: another condition would walk through all of an organization's jobs."""
        return self.filter(state__in=OPEN)


class Job(models.Model):
    """One inference request. Only the statements of this app write its state.

    `version` counts every change a reader may see; each step of `state` is an event with that number.
    `price`, `tier` and `discount_basis_points` are those of its admission: what it is charged by, however long it waits.
    `residency` is the rule of its admission too: no later attempt leaves the places it names.
    `attempt` and `fence` name the lease in force; `claimant` is the runner process PostgreSQL accepted for it.
    `gpu_energy_wh` is this job's share of the device counter; `energy_wh` adds the host and PUE factors frozen at
    placement in `energy_factor`; `carbon_gco2e` is `energy_wh` at `grid_gco2e_per_kwh` of that moment. Null until measured.
    `carbon_market_gco2e` is the same at the site's contracts of supply, null where it has none: beside the other, never in one sum.

    With `batch_id` it is a shard: it has no hold of its own, its rows are charged to the batch's as they come, and
    `charge_microusd` is their sum. Only `batches` ends it.
    """

    class State(models.TextChoices):
        QUEUED = "queued", gettext_lazy("Queued")
        DISPATCHED = "dispatched", gettext_lazy("Routed")
        RUNNING = "running", gettext_lazy("Running")
        SUCCEEDED = "succeeded", gettext_lazy("Done")
        FAILED = "failed", gettext_lazy("Failed")
        CANCELLED = "cancelled", gettext_lazy("Cancelled")
        EXPIRED = "expired", gettext_lazy("Expired")

    class Kind(models.TextChoices):
        """What is done: as the runner's protocol names it. A model does more than one kind where it says so."""

        CHAT = "chat", gettext_lazy("Chat")
        COMPLETION = "completion", gettext_lazy("Completion")
        EMBEDDINGS = "embeddings", gettext_lazy("Embeddings")
        RERANK = "rerank", gettext_lazy("Reranking")
        OCR = "ocr", gettext_lazy("Text recognition")

    class EnergyQuality(models.TextChoices):
        COUNTER = "counter", gettext_lazy("measured at the GPU")
        INTEGRATED = "integrated", gettext_lazy("measured, from power readings")
        MODELLED = "modelled", gettext_lazy("estimated from a model of the machine")
        NAMEPLATE = "nameplate", gettext_lazy("estimated from the nameplate")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="jobs", db_index=False)
    api_key = models.ForeignKey(APIKey, models.PROTECT, null=True, related_name="jobs")
    user = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    model = models.ForeignKey(Model, models.PROTECT, related_name="jobs", db_index=False)
    price = models.ForeignKey(PriceVersion, models.PROTECT, related_name="+", db_index=False)
    file = models.ForeignKey(File, models.SET_NULL, null=True, related_name="jobs", db_index=False)
    kind = models.CharField(max_length=12, choices=Kind)
    batch_id = models.UUIDField(null=True, editable=False, help_text="The batch it is a shard of")
    interactive = models.BooleanField(help_text="A client waits for it now")
    streaming = models.BooleanField(default=False, help_text="Tokens go to the client as they come")
    tier = models.CharField(max_length=8, choices=Tier, default=Tier.STANDARD, db_default=Tier.STANDARD)
    discount_basis_points = models.PositiveSmallIntegerField(default=0, db_default=0, help_text="Off, at admission")

    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    reason = models.CharField(max_length=200, blank=True, help_text="Why it is in this state, for the customer")
    version = models.PositiveIntegerField(default=1)
    attempt = models.PositiveSmallIntegerField(default=0)
    fence = models.UUIDField(null=True)
    claimant = models.CharField(max_length=40, blank=True)
    pool = models.ForeignKey(Pool, models.PROTECT, null=True, related_name="jobs")
    placement = models.JSONField(default=dict, help_text="Candidates, their cost and why they were not chosen")
    residency = ArrayField(
        models.CharField(max_length=100),
        null=True,
        editable=False,
        help_text="Places it may run at; null is everywhere",
    )
    max_usd_per_mwh = models.FloatField(null=True, help_text="Placed only where a MWh costs less")

    created_at = models.DateTimeField()
    deadline_at = models.DateTimeField(help_text="Still queued then: expired")
    dispatched_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    first_token_at = models.DateTimeField(null=True)
    lease_expires_at = models.DateTimeField(null=True)
    cancel_requested_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    hold_microusd = models.PositiveBigIntegerField()
    charge_microusd = models.PositiveBigIntegerField(null=True)
    prompt_tokens = models.PositiveIntegerField(default=0)
    cached_prompt_tokens = models.PositiveIntegerField(default=0, db_default=0, help_text="Of the prompt tokens")
    completion_tokens = models.PositiveIntegerField(default=0)
    max_completion_tokens = models.PositiveIntegerField(default=0)
    pages = models.PositiveIntegerField(default=0)
    total_pages = models.PositiveIntegerField(default=0)
    rows = models.PositiveIntegerField(default=0, db_default=0, help_text="Of a batch, that it ended")
    failed_rows = models.PositiveIntegerField(default=0, db_default=0, help_text="Of those rows")

    energy_factor = models.FloatField(null=True)
    grid_gco2e_per_kwh = models.FloatField(null=True)
    gpu_energy_wh = models.FloatField(null=True)
    energy_wh = models.FloatField(null=True)
    energy_quality = models.CharField(max_length=10, choices=EnergyQuality, blank=True)
    carbon_gco2e = models.FloatField(null=True)
    market_gco2e_per_kwh = models.FloatField(null=True)
    carbon_market_gco2e = models.FloatField(null=True)
    finish_reason = models.CharField(max_length=20, blank=True)
    error_code = models.CharField(max_length=64, blank=True)
    error_message = models.CharField(max_length=500, blank=True)
    error_status = models.PositiveSmallIntegerField(null=True)
    metadata = models.JSONField(default=dict, db_default={}, help_text="The customer's own words about it, by name")
    stored = models.BooleanField(
        default=False, db_default=False, help_text="Kept on request (`store`): GET /v1/chat/completions lists it"
    )

    objects = JobQuerySet.as_manager()
    events: models.Manager[Event]

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=FINAL, finished_at__isnull=False, charge_microusd__isnull=False)
                | (~Q(state__in=FINAL) & Q(finished_at__isnull=True, charge_microusd__isnull=True)),
                name="jobs_job_finished_has_time_and_charge",
            ),
            models.CheckConstraint(
                condition=Q(
                    state__in=["dispatched", "running"],
                    fence__isnull=False,
                    pool__isnull=False,
                    lease_expires_at__isnull=False,
                )
                | ~Q(state__in=["dispatched", "running"]),
                name="jobs_job_leased_has_fence",
            ),
            models.CheckConstraint(
                condition=Q(charge_microusd__isnull=True) | Q(charge_microusd__lte=models.F("hold_microusd")),
                name="jobs_job_charge_within_hold",
            ),
            models.CheckConstraint(
                condition=Q(cached_prompt_tokens__lte=models.F("prompt_tokens"), discount_basis_points__lt=WHOLE),
                name="jobs_job_terms",
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "-id"], name="jobs_job_history"),
            models.Index(fields=["model", "-id"], name="jobs_job_of_model"),
            models.Index(
                fields=["organization", "finished_at"], condition=Q(finished_at__isnull=False), name="jobs_job_ended"
            ),
            models.Index(fields=["model", "deadline_at"], condition=Q(state="queued"), name="jobs_job_backlog"),
            # None has `lease_expires_at`: a heartbeat then extends a lease without an entry in any index.
            models.Index(fields=["pool"], condition=Q(state__in=["dispatched", "running"]), name="jobs_job_by_pool"),
            models.Index(
                fields=["organization"],
                condition=Q(state__in=["queued", "dispatched", "running"]),
                name="jobs_job_open_of",
            ),
            models.Index(fields=["organization", "-id"], condition=Q(stored=True), name="jobs_job_stored"),
            models.Index(fields=["file"], condition=Q(file__isnull=False), name="jobs_job_of_file"),
            GinIndex(
                fields=["metadata"], opclasses=["jsonb_path_ops"], condition=~Q(metadata={}), name="jobs_job_metadata"
            ),
        ]

    def __str__(self) -> str:
        return self.public_id

    @property
    def public_id(self) -> str:
        return public("job", uuid.UUID(str(self.pk)))

    @property
    def is_final(self) -> bool:
        return self.state in FINAL

    @property
    def writes(self) -> bool:
        """Whether its answer is a text that comes token by token."""
        return self.kind in WRITES


class Content(models.Model):
    """What the customer sent and got: apart from the job, so that it can be deleted while the record stays.

    Both are encrypted (`sealed.py`). `plain_…` are from before that: they are read where nothing is sealed, and never written.
    """

    job = models.OneToOneField(Job, models.CASCADE, primary_key=True, related_name="content")
    sealed_request = models.BinaryField(null=True)
    sealed_answer = models.BinaryField(null=True)
    plain_request = models.JSONField(null=True, editable=False, db_column="request")
    plain_text = models.TextField(blank=True, editable=False, db_column="text")
    plain_result = models.JSONField(null=True, editable=False, db_column="result")
    plain_asked = models.JSONField(null=True, editable=False, db_column="asked")

    def __str__(self) -> str:
        return f"content of {self.job_id}"

    @property
    def columns(self) -> dict[str, Any]:
        """As `sealed` takes them."""
        return {
            "job_id": self.job_id,
            "sealed_request": self.sealed_request,
            "sealed_answer": self.sealed_answer,
            "plain_request": self.plain_request,
            "plain_text": self.plain_text,
            "plain_result": self.plain_result,
            "plain_asked": self.plain_asked,
        }

    @property
    def request(self) -> Any:
        """Raises Unreadable, as the others."""
        return sealed.request_of(self.columns).request

    @property
    def asked(self) -> Any:
        """A request of /v1/responses as it was sent: what it was converted to is in `request`."""
        return sealed.request_of(self.columns).asked

    @property
    def answer(self) -> sealed.Answer:
        return sealed.answer_of(self.columns)

    @property
    def text(self) -> str:
        return self.answer.text

    @property
    def result(self) -> Any:
        return self.answer.result


class Event(models.Model):
    """One step of a job, numbered by the job's `version` at that step. Written once."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="events", db_index=False)
    number = models.PositiveIntegerField()
    state = models.CharField(max_length=10, choices=Job.State)
    attempt = models.PositiveSmallIntegerField()
    reason = models.CharField(max_length=200, blank=True)
    data = models.JSONField(default=dict)
    at = models.DateTimeField()

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["job", "number"], name="jobs_event_unique")]

    def __str__(self) -> str:
        return f"{self.job_id} {self.number} {self.state}"


class Refusal(models.Model):
    """A request that was refused for money or limits: kept for the customer's list, at most 7 days and 1,000 per organization."""

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="refusals")
    api_key = models.ForeignKey(APIKey, models.SET_NULL, null=True, related_name="+")
    model_name = models.CharField(max_length=100)
    code = models.CharField(max_length=64)
    message = models.CharField(max_length=500)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["organization", "-at"], name="jobs_refusal_recent")]

    def __str__(self) -> str:
        return f"{self.code} {self.at:%Y-%m-%d %H:%M}"


class UsageHour(models.Model):
    """What ended in an hour, summed by who sent it and where it ran. `rollup.fill` alone writes it; nothing is shown of it but sums.

    Energy and carbon are null where none of the jobs was measured.
    """

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+", db_index=False)
    hour = models.DateTimeField(help_text="Its beginning")
    model = models.ForeignKey(Model, models.PROTECT, related_name="+", db_index=False)
    api_key = models.ForeignKey(APIKey, models.PROTECT, null=True, related_name="+", db_index=False)
    user = models.ForeignKey(User, models.PROTECT, null=True, related_name="+", db_index=False)
    site = models.ForeignKey(Site, models.PROTECT, null=True, related_name="+", db_index=False)
    requests = models.PositiveBigIntegerField()
    failed = models.PositiveBigIntegerField()
    prompt_tokens = models.PositiveBigIntegerField()
    cached_prompt_tokens = models.PositiveBigIntegerField()
    completion_tokens = models.PositiveBigIntegerField()
    pages = models.PositiveBigIntegerField()
    charge_microusd = models.PositiveBigIntegerField()
    energy_wh = models.FloatField(null=True)
    carbon_gco2e = models.FloatField(null=True)
    carbon_market_gco2e = models.FloatField(null=True)
    estimated = models.BooleanField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "hour", "model", "api_key", "user", "site"],
                name="jobs_usagehour_unique",
                nulls_distinct=False,
            ),
        ]
        # For filling again. A B-tree of hours was also taken for the hours of one organization, and read everybody's.
        indexes = [BrinIndex(fields=["hour"], name="jobs_usagehour_span", pages_per_range=16)]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H:00} {self.charge_microusd}"


class UsageUntil(models.Model):
    """One row: the end of the hours that are in `UsageHour`."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    at = models.DateTimeField()

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="jobs_usageuntil_one")]

    def __str__(self) -> str:
        return f"until {self.at:%Y-%m-%d %H:%M}"
