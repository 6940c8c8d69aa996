"""Where work runs: sites, the nodes that stand there, and the pools of slots they serve."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from apps.catalog.models import Model


class Site(models.Model):
    """A place with power and a grid connection.

    `pue` is facility power over IT power (≥ 1), `host_share` the host's power per watt of device (≥ 0); with the grid's
    carbon intensity they turn a device's energy into the energy and carbon a customer is shown.
    """

    code = models.SlugField(unique=True)
    name = models.CharField(max_length=80)
    region = models.CharField(max_length=40)
    country = models.CharField(max_length=2, help_text="ISO 3166-1 alpha-2")
    time_zone = models.CharField(max_length=64, default="UTC")
    pue = models.FloatField(default=1.2)
    host_share = models.FloatField(default=0.1)
    grid_gco2e_per_kwh = models.FloatField(help_text="Average intensity of the local grid")
    power_usd_per_mwh = models.FloatField(help_text="What a MWh costs here")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(pue__gte=1) & Q(host_share__gte=0), name="sites_site_factors_plausible")
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def energy_factor(self) -> float:
        """Site energy per unit of device energy: (1 + host share) × PUE."""
        return (1 + self.host_share) * self.pue


class Node(models.Model):
    """One machine with a runner. Its token is stored as SHA-256; `heartbeat_at` is the database clock at its last beat."""

    site = models.ForeignKey(Site, models.PROTECT, related_name="nodes")
    code = models.SlugField(unique=True)
    token_sha256 = models.CharField(max_length=64, unique=True)
    heartbeat_at = models.DateTimeField(null=True)
    claimant = models.CharField(max_length=40, blank=True, help_text="The runner process that beat last")
    power_w = models.FloatField(null=True)
    admitted = models.BooleanField(default=True)

    def __str__(self) -> str:
        return self.code


class Pool(models.Model):
    """Slots for one model on one node. `code` names its queue and streams: `pool.<code>`, `out:<code>:…`."""

    code = models.SlugField(unique=True)
    model = models.ForeignKey(Model, models.PROTECT, related_name="pools")
    node = models.ForeignKey(Node, models.PROTECT, related_name="pools")
    slots = models.PositiveSmallIntegerField()
    ready = models.BooleanField(default=False, help_text="The engine answered at the last heartbeat")
    reason = models.CharField(max_length=200, blank=True, help_text="Why it is not ready, from the runner")
    draining = models.BooleanField(default=False)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(slots__gt=0), name="sites_pool_has_slots")]

    def __str__(self) -> str:
        return self.code


class Listening(models.Model):
    """One row: since when the portal has heard runners without a gap, and when it last said so, by the database clock.

    Written each second by every process that takes heartbeats. Where none could, no lease was extended, and an expired
    one says nothing about its runner.
    """

    id = models.SmallIntegerField(primary_key=True, default=1)
    since = models.DateTimeField(db_default=Now())
    at = models.DateTimeField(db_default=Now())
