"""What a model runs on: deployments, and the pools of slots that nodes serve."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator, URLValidator
from django.db import models
from django.db.models import Q

from apps.catalog.models import Model
from apps.sites.models.nodes import Node
from apps.sites.models.sites import Site


class Deployment(models.Model):
    """A model that is to run at a site: on how many nodes, in which build. Its pools are what runs of it."""

    site = models.ForeignKey(Site, models.PROTECT, related_name="deployments")
    model = models.ForeignKey(Model, models.PROTECT, related_name="deployments")
    replicas = models.PositiveSmallIntegerField(default=1, help_text="Pools that are to be ready")
    engine = models.CharField(max_length=40, blank=True, help_text="Such as vllm 0.12")
    revision = models.CharField(max_length=80, blank=True, help_text="Of the weights")
    quantization = models.CharField(max_length=20, blank=True)
    pinned = models.BooleanField(default=False, help_text="Never parked to save power")
    park_after_seconds = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="Unloaded after so long without work, and loaded again with the next; empty: never",
    )
    weights_url = models.CharField(
        "URL of the weights",
        max_length=2000,
        blank=True,
        default="",
        db_default="",
        validators=[URLValidator(schemes=["http", "https"])],
        help_text="One file that nodes fetch; empty: what each node's runner.toml names",
    )
    weights_sha256 = models.CharField(
        "SHA-256 of the weights",
        max_length=64,
        blank=True,
        default="",
        db_default="",
        validators=[RegexValidator(r"^[0-9a-f]{64}$", "This is no SHA-256 in lower-case hexadecimal.")],
        help_text="What is fetched must have it; nodes keep the file under this name",
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["site", "model"], name="sites_deployment_one_of_a_model"),
            models.CheckConstraint(
                condition=Q(pinned=False) | Q(park_after_seconds__isnull=True),
                name="sites_deployment_pinned_or_parked",
                violation_error_message="A pinned model is never parked.",
            ),
            models.CheckConstraint(
                condition=Q(weights_url="", weights_sha256="") | ~Q(weights_url="") & ~Q(weights_sha256=""),
                name="sites_deployment_weights_verified",
                violation_error_message="Weights have a URL and a SHA-256, or neither.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model.name} at {self.site.code}"


class Pool(models.Model):
    """Slots for one model on one node. `code` names its queue and streams: `pool.<code>`, `out:<code>:…`.

    `state` is one of the runner's words: absent, fetching, on-disk, loading, ready, parked, error; empty from an old runner.
    """

    class Desired(models.TextChoices):
        READY = "ready"
        PARKED = "parked", "parked: unloaded, no work"
        ABSENT = "absent", "absent: unloaded, and its fetched files removed"

    code = models.SlugField(unique=True)
    model = models.ForeignKey(Model, models.PROTECT, related_name="pools")
    node = models.ForeignKey(Node, models.PROTECT, related_name="pools")
    deployment = models.ForeignKey(
        Deployment, models.PROTECT, null=True, blank=True, related_name="pools", db_index=False
    )
    slots = models.PositiveSmallIntegerField()
    ready = models.BooleanField(default=False, help_text="The engine answered at the last heartbeat")
    reason = models.CharField(max_length=200, blank=True, help_text="Why it is not ready, from the runner")
    draining = models.BooleanField(default=False)
    # What staff or the planner want, and what the runner said it is; the seconds are of the last fetch and load there.
    desired = models.CharField(max_length=6, choices=Desired, default=Desired.READY, db_default=Desired.READY)
    state = models.CharField(max_length=8, blank=True, default="", db_default="", editable=False)
    fetch_seconds = models.FloatField("fetched in (s)", null=True, editable=False)
    load_seconds = models.FloatField("loaded in (s)", null=True, editable=False)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(slots__gt=0), name="sites_pool_has_slots")]

    def __str__(self) -> str:
        return self.code

    def clean(self) -> None:
        deployment = self.deployment
        if deployment and (deployment.model_id, deployment.site_id) != (self.model_id, self.node.site_id):
            raise ValidationError({"deployment": "It is of another model, or at another site."})
