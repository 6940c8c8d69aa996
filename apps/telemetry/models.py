"""What the fleet drew: a row for each GPU and minute, and what is needed to count each reading once."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from apps.sites.models import Node, Site


class Minute(models.Model):
    """One GPU in the minute that begins at `at`, by the node's clock. Readings add to it; staff do not change it.

    `energy_mj` covers `counted_seconds` of it: the sum of differences of the GPU's counter, or of mean powers where it has none
    (`integrated`). Null where nothing is known, which is no zero.
    """

    class Quality(models.TextChoices):
        COUNTER = "counter"
        INTEGRATED = "integrated"

    node = models.ForeignKey(Node, models.PROTECT, related_name="minutes", db_index=False)
    uuid = models.CharField("GPU", max_length=80)
    at = models.DateTimeField(db_index=True)
    energy_mj = models.BigIntegerField("energy (mJ)", null=True)
    counted_seconds = models.FloatField(default=0)
    quality = models.CharField(max_length=10, choices=Quality, blank=True)
    samples = models.PositiveIntegerField(default=0)
    power_samples = models.PositiveIntegerField(default=0)
    power_sum_w = models.FloatField(default=0)
    power_max_w = models.FloatField("most (W)", null=True)
    temperature_max_c = models.FloatField("hottest (°C)", null=True)
    utilization_samples = models.PositiveIntegerField(default=0)
    utilization_sum = models.FloatField(default=0)
    memory_max_mib = models.BigIntegerField("most memory (MiB)", null=True)
    reasons = ArrayField(models.CharField(max_length=20), default=list)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["node", "uuid", "at"], name="telemetry_minute_one_of_a_gpu"),
            models.CheckConstraint(
                condition=Q(energy_mj__isnull=True, counted_seconds=0, quality="")
                | Q(energy_mj__gte=0, counted_seconds__gt=0) & ~Q(quality=""),
                name="telemetry_minute_energy_has_time",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.uuid} at {self.at:%Y-%m-%d %H:%M}"

    @property
    def power_mean_w(self) -> float | None:
        return self.power_sum_w / self.power_samples if self.power_samples else None

    @property
    def utilization(self) -> float | None:
        return self.utilization_sum / self.utilization_samples if self.utilization_samples else None


class Source(models.Model):
    """One runner process as it counts its looks: those up to `seq` are counted."""

    node = models.ForeignKey(Node, models.PROTECT, related_name="+", db_index=False)
    boot = models.CharField(max_length=40)
    seq = models.BigIntegerField()
    heard_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(fields=["node", "boot"], name="telemetry_source_one_of_a_process")]


class Last(models.Model):
    """Each GPU's newest counted reading: where the next window begins, over restarts of the runner too."""

    node = models.ForeignKey(Node, models.PROTECT, related_name="+", db_index=False)
    uuid = models.CharField(max_length=80)
    at = models.FloatField(help_text="Unix seconds")
    energy_mj = models.BigIntegerField(null=True)
    power_w = models.FloatField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["node", "uuid"], name="telemetry_last_one_of_a_gpu")]


class SiteMeterReading(models.Model):
    """What a site's energy meter showed, cumulative, by a feed or entered by staff."""

    site = models.ForeignKey(Site, models.PROTECT, related_name="meter_readings", db_index=False)
    at = models.DateTimeField()
    energy_wh = models.FloatField("energy (Wh)")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["site", "at"], name="telemetry_sitemeterreading_one_at_a_time"),
            models.CheckConstraint(condition=Q(energy_wh__gte=0), name="telemetry_sitemeterreading_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.energy_wh:.0f} Wh at {self.at:%Y-%m-%d %H:%M}"


class MeterAlarm(models.Model):
    """A site whose meter and GPUs told different stories for a quarter of an hour. `open` until they agree: one at most.

    The figures are of the window in which it began; `counted_wh` is the GPUs' energy times the site's factor.
    """

    site = models.ForeignKey(Site, models.PROTECT, related_name="meter_alarms")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    meter_wh = models.FloatField("meter (Wh)")
    counted_wh = models.FloatField("counted (Wh)")
    began_at = models.DateTimeField(db_default=Now())
    ended_at = models.DateTimeField(null=True)
    open = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["site"], condition=Q(open=True), name="telemetry_meteralarm_one_open")
        ]

    def __str__(self) -> str:
        return f"{self.counted_wh:.0f} of {self.meter_wh:.0f} Wh at {self.site.code}"
