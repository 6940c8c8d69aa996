"""Machines at a site, how they become one of ours, and the steps of their life."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now

from apps.accounts.models import User
from apps.sites.models.partners import Partner
from apps.sites.models.sites import Container, Site


class Node(models.Model):
    """One machine with a runner. Its token is stored as SHA-256; `heartbeat_at` is the database clock at its last beat.

    `state` has one writer, `lifecycle.step`. A node of a partner's is not `trusted`: work that is bound to places never
    runs there, other work only where no node of ours has a slot.
    """

    class State(models.TextChoices):
        PENDING = "pending"  # described, never heard
        BURN_IN = "burn-in", "burn-in"  # heard and tested; no work of customers
        ADMITTED = "admitted"
        DRAINING = "draining"  # no new work; what runs is finished
        MAINTENANCE = "maintenance"  # empty, for somebody to open
        QUARANTINED = "quarantined"  # not believed: its token is refused
        RETIRED = "retired"  # final

    site = models.ForeignKey(Site, models.PROTECT, related_name="nodes")
    container = models.ForeignKey(
        Container, models.PROTECT, null=True, blank=True, related_name="nodes", db_index=False
    )
    partner = models.ForeignKey(Partner, models.PROTECT, null=True, blank=True, related_name="nodes", db_index=False)
    code = models.SlugField(unique=True)
    # A node that code before 0.4 adds works at once, as it did there.
    state = models.CharField(max_length=11, choices=State, default=State.PENDING, db_default=State.ADMITTED)
    state_at = models.DateTimeField(db_default=Now(), editable=False)
    token_sha256 = models.CharField(max_length=64, unique=True)
    # What its enrolment left: an Ed25519 key, how often it was enrolled (older tokens end with it), what the machine is.
    public_key = models.CharField(max_length=64, default="", db_default="", editable=False)
    generation = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    renewed_at = models.FloatField(null=True, editable=False)
    inventory = models.JSONField(default=dict, db_default=models.Value({}, models.JSONField()), editable=False)
    expected_gpus = models.PositiveSmallIntegerField(
        "expected GPUs", null=True, blank=True, help_text="Another number at its enrolment quarantines it"
    )
    heartbeat_at = models.DateTimeField(null=True)
    claimant = models.CharField(max_length=40, blank=True, help_text="The runner process that beat last")
    power_w = models.FloatField(null=True)

    def __str__(self) -> str:
        return self.code

    @property
    def trusted(self) -> bool:
        return self.partner_id is None


class EnrolmentToken(models.Model):
    """What staff hand to a machine so that it becomes a node, once. Stored as SHA-256; valid for a day, for that node's site."""

    node = models.ForeignKey(Node, models.PROTECT, related_name="enrolment_tokens")
    sha256 = models.CharField(max_length=64, unique=True)
    actor = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"enrolment of {self.node.code}"


class NodeEvent(models.Model):
    """One step of a node's life: who took it and why. `actor` is null where the portal did. Written by `lifecycle.step` alone."""

    node = models.ForeignKey(Node, models.PROTECT, related_name="events")
    before = models.CharField(max_length=11)
    after = models.CharField(max_length=11)
    actor = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    reason = models.CharField(max_length=200)
    at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.before} to {self.after}"
