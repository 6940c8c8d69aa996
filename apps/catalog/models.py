"""What is on offer and what it costs."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class ModelQuerySet(models.QuerySet["Model"]):
    def on_offer(self) -> ModelQuerySet:
        return self.filter(listed=True)


class Model(models.Model):
    """A model customers can name: `cango/demo-chat`.

    `engine_name` is what the engine behind it is asked for. Limits count tokens; `max_queue_seconds` is how long an
    interactive request waits for a free slot before 503 `no_capacity`.
    """

    class Kind(models.TextChoices):
        CHAT = "chat", "Chat"
        EMBEDDINGS = "embeddings", "Embeddings"
        OCR = "ocr", "Text recognition"

    name = models.CharField(max_length=100, unique=True, help_text="publisher/name, as the API takes it")
    title = models.CharField(max_length=120)
    kind = models.CharField(max_length=12, choices=Kind)
    description = models.TextField(help_text="What it is and what it is good for, in plain words")
    license = models.CharField(max_length=60, blank=True)
    engine_name = models.CharField(max_length=200)
    context_tokens = models.PositiveIntegerField(default=0)
    max_output_tokens = models.PositiveIntegerField(default=0)
    max_pages = models.PositiveIntegerField(default=0)
    dimensions = models.PositiveIntegerField(default=0)
    max_queue_seconds = models.PositiveIntegerField(default=20)
    listed = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    objects = ModelQuerySet.as_manager()
    prices: models.Manager[PriceVersion]

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class PriceVersion(models.Model):
    """Prices from `effective_at` on. A job is charged by the version at its admission; a version is never edited."""

    model = models.ForeignKey(Model, models.PROTECT, related_name="prices")
    effective_at = models.DateTimeField()
    input_microusd_per_mtok = models.PositiveBigIntegerField(default=0)
    output_microusd_per_mtok = models.PositiveBigIntegerField(default=0)
    request_microusd = models.PositiveBigIntegerField(default=0)
    page_microusd = models.PositiveBigIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-effective_at"]
        constraints = [
            models.UniqueConstraint(fields=["model", "effective_at"], name="catalog_priceversion_unique"),
            models.CheckConstraint(
                condition=Q(input_microusd_per_mtok__gt=0)
                | Q(output_microusd_per_mtok__gt=0)
                | Q(request_microusd__gt=0)
                | Q(page_microusd__gt=0),
                name="catalog_priceversion_not_free",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model} from {self.effective_at.day} {self.effective_at:%b %Y %H:%M}"
