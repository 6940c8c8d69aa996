"""Figures that change by the hour: where they come from, and each that was told."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q


class Feed(models.Model):
    """Where figures come from that change by the hour: a file or an address, read every minute by `feeds.read_due`.

    `address` is a file's name below FEEDS_DIR, or a URL. What is newest of what has begun is in force; older than
    `stale_seconds` it still is, and everywhere shown as stale.
    """

    class Kind(models.TextChoices):
        PRICE = "price", "Price of power"
        CARBON = "carbon", "Carbon of the grid (location)"
        MARKET = "market", "Carbon by contract (market)"
        METER = "meter", "Energy meter of a site"

    class Adapter(models.TextChoices):
        FILE = "file"
        HTTP = "http", "HTTP"

    class Unit(models.TextChoices):
        USD_PER_MWH = "usd_per_mwh", "USD/MWh"
        G_PER_KWH = "gco2e_per_kwh", "gCO₂e/kWh"
        LB_PER_MWH = "lb_per_mwh", "lb/MWh"
        WH = "wh", "Wh, cumulative"
        KWH = "kwh", "kWh, cumulative"

    UNITS = {
        Kind.PRICE: (Unit.USD_PER_MWH,),
        Kind.CARBON: (Unit.G_PER_KWH, Unit.LB_PER_MWH),
        Kind.MARKET: (Unit.G_PER_KWH, Unit.LB_PER_MWH),
        Kind.METER: (Unit.WH, Unit.KWH),
    }

    code = models.SlugField(unique=True)
    kind = models.CharField(max_length=6, choices=Kind)
    adapter = models.CharField(max_length=4, choices=Adapter)
    address = models.CharField(max_length=400, help_text="A file's name in FEEDS_DIR, or https://…")
    unit = models.CharField(max_length=13, choices=Unit)
    stale_seconds = models.PositiveIntegerField(default=7200, help_text="Shown as stale when its newest value is older")
    read_at = models.DateTimeField(null=True, editable=False)
    newest_at = models.DateTimeField(null=True, editable=False, help_text="Of the value in force")
    value = models.FloatField(null=True, editable=False, help_text="In force, in the portal's unit")
    error = models.CharField(max_length=200, blank=True, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(newest_at__isnull=True, value__isnull=True)
                | Q(newest_at__isnull=False, value__isnull=False),
                name="sites_feed_value_has_time",
            )
        ]

    def __str__(self) -> str:
        return self.code

    def clean(self) -> None:
        if self.kind in self.UNITS and self.unit not in self.UNITS[self.Kind(self.kind)]:
            raise ValidationError({"unit": "A feed of this kind has another unit."})
        if self.adapter == self.Adapter.HTTP and not self.address.startswith(("http://", "https://")):
            raise ValidationError({"address": "An address begins with http:// or https://."})

    def is_stale(self, now: datetime) -> bool:
        """Also where it never told anything."""
        return self.newest_at is None or now - self.newest_at > timedelta(seconds=self.stale_seconds)


class FeedValue(models.Model):
    """One figure of a feed, in the portal's unit: in force from `at` until the next."""

    feed = models.ForeignKey(Feed, models.PROTECT, related_name="values", db_index=False)
    at = models.DateTimeField()
    value = models.FloatField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["feed", "at"], name="sites_feedvalue_one_at_a_time")]
