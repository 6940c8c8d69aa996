"""Batches: a file of requests that run within a day at the batch price, in shards that run on any pool."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy

from apps.accounts.models import Organization, User
from apps.catalog.models import WHOLE, Model, PriceVersion
from apps.core.ids import public, uuid7
from apps.files import sealing
from apps.jobs.models import Job
from apps.keys.models import APIKey

ENDED = ("completed", "failed", "expired", "cancelled")


class BatchQuerySet(models.QuerySet["Batch"]):
    def of(self, organization: Organization) -> BatchQuerySet:
        return self.filter(organization=organization)


class Batch(models.Model):
    """One batch from its creation to its files. Only the statements of this app write its state.

    `version` counts every change a reader may see. Counts, tokens, charge and energy are the sums of its rows, kept with
    them in one transaction. `hold_microusd` is what was held at its start: the worst case of every row. `expires_at` is
    the end of its window; `ending` names the final state it is on its way to while `finalizing` or `cancelling`.
    `residency` and `allowed_models` are its key's of then.
    With `max_power_usd_per_mwh` its shards wait until an eligible pool's MWh costs less. Files are named, not joined: a
    customer may delete one while the record stays. A task works on it until `working_until`, or has died.
    """

    class State(models.TextChoices):
        VALIDATING = "validating", gettext_lazy("Checking the file")
        IN_PROGRESS = "in_progress", gettext_lazy("Running")
        FINALIZING = "finalizing", gettext_lazy("Writing the files")
        COMPLETED = "completed", gettext_lazy("Done")
        FAILED = "failed", gettext_lazy("Failed")
        EXPIRED = "expired", gettext_lazy("Expired")
        CANCELLING = "cancelling", gettext_lazy("Stopping")
        CANCELLED = "cancelled", gettext_lazy("Cancelled")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="batches", db_index=False)
    api_key = models.ForeignKey(APIKey, models.PROTECT, null=True, related_name="+")
    user = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    endpoint = models.CharField(max_length=40)
    completion_window = models.CharField(max_length=8, default="24h")
    metadata = models.JSONField(null=True)
    input_file_id = models.UUIDField()
    output_file_id = models.UUIDField(null=True)
    error_file_id = models.UUIDField(null=True)
    output_seconds = models.PositiveIntegerField(null=True, help_text="How long the files are kept that it writes")
    max_power_usd_per_mwh = models.FloatField(null=True)
    residency = ArrayField(
        models.CharField(max_length=100), null=True, help_text="Places it may run at; null is everywhere"
    )
    allowed_models = ArrayField(models.CharField(max_length=100), null=True, help_text="Of its key; null is all")

    state = models.CharField(max_length=12, choices=State, default=State.VALIDATING)
    ending = models.CharField(max_length=10, blank=True)
    version = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    in_progress_at = models.DateTimeField(null=True)
    finalizing_at = models.DateTimeField(null=True)
    completed_at = models.DateTimeField(null=True)
    failed_at = models.DateTimeField(null=True)
    expired_at = models.DateTimeField(null=True)
    cancelling_at = models.DateTimeField(null=True)
    cancelled_at = models.DateTimeField(null=True)
    mark = models.BinaryField(
        max_length=32, null=True, editable=False, help_text="Of the Idempotency-Key it was made with"
    )
    digest = models.BinaryField(max_length=32, null=True, editable=False, help_text="Of the request that made it")
    working_until = models.DateTimeField(null=True)

    model = models.ForeignKey(Model, models.PROTECT, null=True, related_name="+")
    price = models.ForeignKey(PriceVersion, models.PROTECT, null=True, related_name="+")
    discount_basis_points = models.PositiveSmallIntegerField(default=0)
    errors = models.JSONField(default=list, help_text="What is wrong with the file: [{code, message, param, line}]")
    total = models.PositiveIntegerField(default=0)
    completed = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    prompt_tokens = models.PositiveBigIntegerField(default=0)
    cached_prompt_tokens = models.PositiveBigIntegerField(default=0)
    completion_tokens = models.PositiveBigIntegerField(default=0)
    input_tokens_ceiling = models.PositiveBigIntegerField(
        default=0, db_default=0, help_text="The most that all its rows can read"
    )
    hold_microusd = models.PositiveBigIntegerField(default=0)
    charge_microusd = models.PositiveBigIntegerField(default=0)
    gpu_energy_mj = models.PositiveBigIntegerField(null=True)
    energy_wh = models.FloatField(null=True)
    carbon_gco2e = models.FloatField(null=True)
    carbon_market_gco2e = models.FloatField(null=True)
    mailed_at = models.DateTimeField(null=True, editable=False, help_text="Since then nobody is to be told by mail")
    cleaned = models.BooleanField(
        default=False, db_default=False, help_text="After its end: nothing of its work is left"
    )
    objects = BatchQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "batches"
        constraints = [
            models.CheckConstraint(
                condition=Q(charge_microusd__lte=F("hold_microusd")), name="batches_batch_charge_within_hold"
            ),
            models.CheckConstraint(
                condition=Q(total__gte=F("completed") + F("failed")), name="batches_batch_counts_within_total"
            ),
            models.CheckConstraint(
                condition=Q(discount_basis_points__lt=WHOLE), name="batches_batch_discount_leaves_a_price"
            ),
            models.UniqueConstraint(fields=["mark"], condition=Q(mark__isnull=False), name="batches_batch_mark_unique"),
        ]
        indexes = [
            models.Index(fields=["organization", "-id"], name="batches_batch_history"),
            models.Index(fields=["digest"], name="batches_batch_digest"),
            models.Index(fields=["state"], condition=~Q(state__in=ENDED), name="batches_batch_open"),
            models.Index(fields=["organization"], condition=~Q(state__in=ENDED), name="batches_batch_running"),
            models.Index(fields=["id"], condition=Q(state__in=ENDED, cleaned=False), name="batches_batch_unclean"),
        ]

    def __str__(self) -> str:
        return self.public_id

    @property
    def public_id(self) -> str:
        return public("batch", uuid.UUID(str(self.pk)))

    @property
    def is_final(self) -> bool:
        return self.state in ENDED

    @property
    def ended_at(self) -> datetime | None:
        found: datetime | None = getattr(self, f"{self.state}_at") if self.is_final else None
        return found


class Draft(models.Model):
    """A batch that somebody prepares on a page: its file is read as the batch's check will, and nothing is held or kept.

    `id` is that of the batch it becomes. Tokens and `hold_microusd` are the worst case of the `good` rows; `lines` counts
    those read so far. `bad_lines` null: with those left out the file would still not do.
    """

    class State(models.TextChoices):
        CHECKING = "checking", "Checking the file"
        CHECKED = "checked", "Checked"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    user = models.ForeignKey(User, models.PROTECT, related_name="+")
    name = models.CharField(max_length=100, blank=True)
    endpoint = models.CharField(max_length=40)
    input_file_id = models.UUIDField()
    max_power_usd_per_mwh = models.FloatField(null=True)
    deadline_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    state = models.CharField(max_length=8, choices=State, default=State.CHECKING)
    version = models.PositiveIntegerField(default=1)
    working_until = models.DateTimeField(null=True)
    lines = models.PositiveIntegerField(default=0)
    model = models.ForeignKey(Model, models.PROTECT, null=True, related_name="+")
    price = models.ForeignKey(PriceVersion, models.PROTECT, null=True, related_name="+")
    discount_basis_points = models.PositiveSmallIntegerField(default=0)
    errors = models.JSONField(default=list)
    bad = models.PositiveIntegerField(default=0)
    bad_lines = ArrayField(models.PositiveIntegerField(), null=True)
    good = models.PositiveIntegerField(default=0)
    input_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    hold_microusd = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return self.public_id

    @property
    def public_id(self) -> str:
        return public("batch", uuid.UUID(str(self.pk)))


class Shard(models.Model):
    """Some consecutive lines of a batch, ready for an engine in a stored file of their own.

    `ceilings_microusd` is the most each row may cost, in the order of the lines: a row is never charged above it.
    Without a job it waits for its turn; with one it is that job. `path` is blank once the file is gone.
    """

    batch = models.ForeignKey(Batch, models.PROTECT, related_name="shards")
    number = models.PositiveIntegerField()
    first_line = models.PositiveIntegerField()
    lines = models.PositiveIntegerField()
    path = models.CharField(max_length=200)
    ceilings_microusd = ArrayField(models.BigIntegerField())
    job = models.OneToOneField(Job, models.PROTECT, null=True, related_name="shard")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["batch", "number"], name="batches_shard_unique")]

    def __str__(self) -> str:
        return f"{self.batch_id} shard {self.number}"


class Row(models.Model):
    """How one line of a batch ended, and what it cost. Written once: the constraint decides which report counts. All rows
    of a report have one time.

    Its body is the answer as OpenAI's clients know it, encrypted, kept until the files are written. `plain_body` is from before
    that, never written.
    """

    batch = models.ForeignKey(Batch, models.PROTECT, related_name="rows", db_index=False)
    line = models.PositiveIntegerField()
    job = models.ForeignKey(Job, models.PROTECT, related_name="+")
    status = models.PositiveSmallIntegerField(help_text="As the same request at its endpoint would have been answered")
    prompt_tokens = models.PositiveIntegerField(default=0)
    cached_prompt_tokens = models.PositiveIntegerField(default=0)
    completion_tokens = models.PositiveIntegerField(default=0)
    charge_microusd = models.PositiveBigIntegerField(default=0)
    gpu_energy_mj = models.PositiveBigIntegerField(null=True)
    energy_wh = models.FloatField(null=True)
    carbon_gco2e = models.FloatField(null=True)
    carbon_market_gco2e = models.FloatField(null=True)
    plain_body = models.JSONField(null=True, editable=False, db_column="body")
    sealed_body = models.BinaryField(null=True)
    at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["batch", "line"], name="batches_row_unique"),
            models.CheckConstraint(
                condition=Q(status=200) | Q(charge_microusd=0), name="batches_row_failed_costs_nothing"
            ),
        ]
        indexes = [
            models.Index(fields=["batch", "at"], name="batches_row_by_time"),
            models.Index(fields=["batch", "line"], condition=~Q(status=200), name="batches_row_failed"),
        ]

    def __str__(self) -> str:
        return f"{self.batch_id} line {self.line}"

    @property
    def body(self) -> dict[str, Any] | None:
        """Raises Unreadable."""
        if self.sealed_body is None:
            found: dict[str, Any] | None = self.plain_body
        else:
            found = sealing.unseal_json(self.sealed_body, about_row(self.batch_id, self.line))
        return found


def about_row(batch_id: uuid.UUID, line: int) -> bytes:
    """What the sealed body of a row is bound to."""
    return b"batch row" + batch_id.bytes + line.to_bytes(4)
