"""Prompts whose answer is known, and what tests of pools found with them."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Now

from apps.catalog.models import Model
from apps.sites.models.nodes import NodeEvent
from apps.sites.models.pools import Pool


def known_answer(value: object) -> None:
    """`expects` of a golden prompt: {"contains": text}, {"vector": numbers} or {"best": index}, one of them."""
    if not isinstance(value, dict) or len(value) != 1:
        raise ValidationError("Name one of contains, vector and best.")
    (name, known), *_ = value.items()
    right = {
        "contains": isinstance(known, str) and known.strip() != "",
        "vector": isinstance(known, list) and known != [] and all(isinstance(each, int | float) for each in known),
        "best": isinstance(known, int) and not isinstance(known, bool) and known >= 0,
    }
    if not right.get(name):
        raise ValidationError("contains is a text, vector a list of numbers, best the index of a document.")


class GoldenPrompt(models.Model):
    """A prompt whose answer is known, at temperature 0. The first of a model is its light probe, all are its burn-in."""

    model = models.ForeignKey(Model, models.PROTECT, related_name="golden_prompts")
    body = models.JSONField(help_text='As the OpenAI API has it, without model: {"messages": [...]}')
    expects = models.JSONField(
        validators=[known_answer], help_text='{"contains": "Paris"}, {"vector": [...]} or {"best": 0}'
    )
    max_completion_tokens = models.PositiveSmallIntegerField(
        default=16, validators=[MinValueValidator(1), MaxValueValidator(4096)]
    )

    def __str__(self) -> str:
        return f"golden prompt {self.pk} of {self.model.name}"


class BurnIn(models.Model):
    """What a test of one pool found, by the runner's word. `step` is the step into burn-in that asked for it."""

    step = models.ForeignKey(NodeEvent, models.PROTECT, related_name="burn_ins")
    pool = models.ForeignKey(Pool, models.PROTECT, related_name="burn_ins")
    passed = models.BooleanField()
    findings = models.JSONField(default=list)
    gpu = models.CharField("GPU", max_length=80, blank=True)
    driver = models.CharField(max_length=40, blank=True)
    seconds = models.FloatField()
    at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name = "burn-in"
        constraints = [models.UniqueConstraint(fields=["step", "pool"], name="sites_burnin_one_of_a_step")]

    def __str__(self) -> str:
        return f"burn-in of {self.pool.code}"

    @property
    def wrong(self) -> str:
        """What was found wrong, in words."""
        return "; ".join(each["text"] for each in self.findings if not each["good"])


class SpeedCurve(models.Model):
    """Tokens a second of one pool with so many requests at a time, as a burn-in measured it."""

    burn_in = models.ForeignKey(BurnIn, models.PROTECT, related_name="speeds")
    model = models.ForeignKey(Model, models.PROTECT, related_name="+")
    gpu = models.CharField("GPU", max_length=80, blank=True)
    driver = models.CharField(max_length=40, blank=True)
    concurrency = models.PositiveSmallIntegerField()
    tokens_per_second = models.FloatField()
    first_token_seconds = models.FloatField(null=True)
    at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name = "point of a speed curve"
        verbose_name_plural = "speed curves"
        constraints = [models.UniqueConstraint(fields=["burn_in", "concurrency"], name="sites_speedcurve_one_point")]

    def __str__(self) -> str:
        return f"{self.tokens_per_second:.1f} tokens/s at {self.concurrency}"


class PowerCurve(models.Model):
    """Watts of one pool's devices with so many requests at a time; 0 is idle with the model loaded. `quality` as of energy."""

    burn_in = models.ForeignKey(BurnIn, models.PROTECT, related_name="powers")
    model = models.ForeignKey(Model, models.PROTECT, related_name="+")
    gpu = models.CharField("GPU", max_length=80, blank=True)
    driver = models.CharField(max_length=40, blank=True)
    concurrency = models.PositiveSmallIntegerField()
    power_w = models.FloatField()
    quality = models.CharField(max_length=10)
    at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name = "point of a power curve"
        verbose_name_plural = "power curves"
        constraints = [models.UniqueConstraint(fields=["burn_in", "concurrency"], name="sites_powercurve_one_point")]

    def __str__(self) -> str:
        return f"{self.power_w:.0f} W at {self.concurrency}"
