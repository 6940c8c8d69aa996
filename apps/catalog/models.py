"""What is on offer and what it costs."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy, pgettext_lazy

from apps.accounts.models import Organization, User
from apps.core import numbers
from apps.wire.capabilities import Capability
from apps.wire.chat import MAX_CHOICES

WHOLE = 10_000  # basis points: 10,000 are the whole price


class Tier(models.TextChoices):
    """How soon work wants to run, and what share of the price that costs. Standard pays the whole price.

    Flexible work waits behind standard work, a batch behind both. The price version in force at admission has the shares.
    """

    STANDARD = "standard", gettext_lazy("Standard")
    FLEXIBLE = "flexible", gettext_lazy("Flexible")
    BATCH = "batch", pgettext_lazy("tier", "Batch")


class ModelQuerySet(models.QuerySet["Model"]):
    def on_offer(self) -> ModelQuerySet:
        return self.filter(Q(retires_at__isnull=True) | Q(retires_at__gt=Now()), listed=True)


class Model(models.Model):
    """A model customers can name: `cango/demo-chat`.

    `engine_name` is what the engine behind it is asked for. Limits count tokens; `max_queue_seconds` is how long an
    interactive request waits for a free slot before 503 `no_capacity`. `capabilities` are what that engine does when it
    is asked: what they leave out is refused by name. `image_tokens` bounds the price of an image.
    """

    class Kind(models.TextChoices):
        CHAT = "chat", gettext_lazy("Chat")
        EMBEDDINGS = "embeddings", gettext_lazy("Embeddings")
        RERANK = "rerank", gettext_lazy("Reranking")
        OCR = "ocr", gettext_lazy("Text recognition")

    # What each term of apps/wire/capabilities.py promises, for those who tick it.
    CAPABILITIES = {
        Capability.COMPLETIONS: "Continues a bare prompt (/v1/completions)",
        Capability.TOOLS: "Calls functions: its chat template prints tools, and the engine parses the calls",
        Capability.PARALLEL_TOOL_CALLS: "Makes several calls at once, or one if told so",
        Capability.JSON_OBJECT: "Answers with JSON when asked to",
        Capability.JSON_SCHEMA: "Keeps to a JSON schema, by a grammar",
        Capability.IMAGE_INPUT: "Reads images in messages; give the most tokens of one below",
        Capability.LOGPROBS: "Tells the probabilities of tokens",
        Capability.STOP: "Stops at given texts",
        Capability.SEED: "Repeats itself with the same seed",
        Capability.PENALTIES: "Takes presence and frequency penalties",
        Capability.LOGIT_BIAS: "Makes given tokens more or less likely",
        Capability.REASONING_EFFORT: "Thinks more or less when told (reasoning_effort)",
        Capability.VERBOSITY: "Says more or less when told (verbosity)",
        Capability.TOKEN_INPUT: "Takes tokens in place of text (embeddings, completions)",
        Capability.ECHO: "Repeats the prompt itself, with probabilities (completions)",
        Capability.SUFFIX: "Fills in before a given end (completions)",
        Capability.BEST_OF: "Writes several and gives the best (completions)",
        Capability.RERANK: "Ranks documents by the likeness of their vectors (embeddings)",
    }

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
    shorter_dimensions = ArrayField(
        models.PositiveIntegerField(validators=[MinValueValidator(1)]),
        default=list,
        db_default=[],
        blank=True,
        help_text="Sizes its vectors may be cut to and still be good, with commas: what the model was trained for",
    )
    capabilities = ArrayField(
        models.CharField(max_length=30),
        default=list,
        db_default=[],
        blank=True,
        help_text="What the engine behind it does when asked. What is not ticked is refused with the parameter's name",
    )
    max_choices = models.PositiveSmallIntegerField(
        default=8,
        db_default=8,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_CHOICES)],
        help_text="The most answers to one prompt (n). llama.cpp computes each in a slot of its own: not more than those",
    )
    image_tokens = models.PositiveIntegerField(
        default=0,
        db_default=0,
        help_text="The most prompt tokens one image can become: what is held for it. Needed for image input",
    )
    vocabulary_tokens = models.PositiveIntegerField(
        default=0,
        db_default=0,
        help_text="How many tokens its engine knows. Ids from there on are refused where tokens are sent in place of text; 0: its engine judges",
    )
    max_queue_seconds = models.PositiveIntegerField(default=20)
    listed = models.BooleanField(default=True)
    retires_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="From then on it is not on offer any more; until then its page and the catalog say so. Empty: no end is known",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    objects = ModelQuerySet.as_manager()
    prices: models.Manager[PriceVersion]

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class PriceVersion(models.Model):
    """Prices from `effective_at` on. A job is charged by the version at its admission; a version is never edited.

    `cached_input_microusd_per_mtok` is for prompt tokens an engine had kept; null: they cost what other input costs.
    `page_microusd` is for a page or an image. `…_basis_points` are the share of every price that work of a tier pays.
    """

    model = models.ForeignKey(Model, models.PROTECT, related_name="prices")
    effective_at = models.DateTimeField()
    input_microusd_per_mtok = models.PositiveBigIntegerField(default=0)
    cached_input_microusd_per_mtok = models.PositiveBigIntegerField(null=True, blank=True)
    output_microusd_per_mtok = models.PositiveBigIntegerField(default=0)
    request_microusd = models.PositiveBigIntegerField(default=0)
    page_microusd = models.PositiveBigIntegerField(default=0)
    batch_basis_points = models.PositiveSmallIntegerField(default=5000, db_default=5000)
    flexible_basis_points = models.PositiveSmallIntegerField(default=7000, db_default=7000)
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
            models.CheckConstraint(
                condition=Q(batch_basis_points__range=(1, WHOLE), flexible_basis_points__range=(1, WHOLE)),
                name="catalog_priceversion_tiers_cost_at_most_the_price",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model} from {self.effective_at.day} {self.effective_at:%b %Y %H:%M}"


class Discount(models.Model):
    """`basis_points` off every price for one organization, on one model or (null) on all, for work admitted in its time.

    The largest in force counts alone; discounts are never added up. Once it has begun only its end may change.
    """

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="discounts")
    model = models.ForeignKey(Model, models.PROTECT, null=True, blank=True, related_name="discounts")
    basis_points = models.PositiveSmallIntegerField()
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=200)
    created_by = models.ForeignKey(User, models.PROTECT, related_name="+", editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-starts_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(basis_points__range=(1, WHOLE - 1)), name="catalog_discount_leaves_a_price"
            ),
            models.CheckConstraint(
                condition=Q(ends_at__isnull=True) | Q(ends_at__gte=F("starts_at")),
                name="catalog_discount_ends_after_start",
            ),
        ]

    def __str__(self) -> str:
        return f"{numbers.basis_points(self.basis_points)} for {self.organization}"
