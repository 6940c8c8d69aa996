"""What the platform found out about itself."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy

from apps.accounts.models import User
from apps.catalog.models import Model


class Reconciliation(models.Model):
    """One comparison of ledger, jobs and Stripe. `report` has the items, cut to the first `reconciling.SHOWN` of them."""

    started_at = models.DateTimeField()
    ended_at = models.DateTimeField()
    since = models.DateTimeField(
        null=True, help_text="Jobs and payments from here on; empty: all. The ledger always whole"
    )
    differences = models.PositiveIntegerField()
    pending = models.PositiveIntegerField(help_text="In flight: too young to be a difference")
    report = models.JSONField()

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.started_at.day} {self.started_at:%b %Y %H:%M}: {self.differences} differences"


HOURS = 24
NO_HOURS = models.Value([0] * HOURS, ArrayField(models.SmallIntegerField()))


def no_hours() -> list[int]:
    return [0] * HOURS


class Availability(models.Model):
    """One model in one region on one day of UTC: how often it was looked at, and how often it took work there.

    Written by `availability.look` alone, at most once for each minute; `looked_at` is the last of them. `…_by_hour`: the same, by
    the hours of the day.
    """

    model = models.ForeignKey(Model, models.PROTECT, related_name="+", db_index=False)
    country = models.CharField(max_length=2)
    region = models.CharField(max_length=40)
    day = models.DateField()
    looks = models.PositiveIntegerField()
    up = models.PositiveIntegerField()
    looked_at = models.DateTimeField()
    looks_by_hour = ArrayField(models.SmallIntegerField(), default=no_hours, db_default=NO_HOURS)
    up_by_hour = ArrayField(models.SmallIntegerField(), default=no_hours, db_default=NO_HOURS)

    class Meta:
        verbose_name_plural = "availability"
        constraints = [
            models.UniqueConstraint(
                fields=["day", "model", "country", "region"], name="operations_availability_one_of_a_day"
            ),
            models.CheckConstraint(
                condition=models.Q(looks__gt=0, up__lte=models.F("looks")), name="operations_availability_up_within_looks"
            ),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.model} in {self.country}/{self.region}, {self.day}"


class IncidentQuerySet(models.QuerySet["Incident"]):
    def public(self) -> IncidentQuerySet:
        return self.filter(public=True)

    def open(self) -> IncidentQuerySet:
        return self.filter(ended_at__isnull=True)


class Incident(models.Model):
    """Something that is wrong, or was. What customers read of it are `title`, `effect` and its updates, once it is `public`.

    `affected` models and `places` (`apps.core.places`) say what it is about; both empty: everything. Its end comes with an update.
    """

    class Severity(models.TextChoices):
        DEGRADED = "degraded", gettext_lazy("Slower or less than usual")
        PARTIAL = "partial", gettext_lazy("A part is away")
        OUTAGE = "outage", gettext_lazy("Nothing works")

    title = models.CharField(max_length=120, help_text="What is wrong, in a few words, as customers read it")
    effect = models.CharField(max_length=300, help_text="What customers notice, and what of it costs them nothing")
    severity = models.CharField(max_length=8, choices=Severity)
    affected = models.ManyToManyField(Model, blank=True, related_name="+", verbose_name="models")
    places = ArrayField(
        models.CharField(max_length=100), default=list, blank=True, help_text="Such as US or US/Georgia"
    )
    owner = models.ForeignKey(User, models.PROTECT, null=True, blank=True, related_name="+")
    public = models.BooleanField("on the status page", default=False)
    began_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, editable=False)
    objects = IncidentQuerySet.as_manager()
    updates: models.Manager[IncidentUpdate]

    class Meta:
        ordering = ["-began_at", "-pk"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(ended_at__isnull=True) | models.Q(ended_at__gte=models.F("began_at")),
                name="operations_incident_ends_after_it_began",
            )
        ]

    def __str__(self) -> str:
        return self.title


class IncidentUpdate(models.Model):
    """What was said of an incident, and when: written once by `incidents.tell`, never changed."""

    class State(models.TextChoices):
        INVESTIGATING = "investigating", gettext_lazy("Investigating")
        IDENTIFIED = "identified", gettext_lazy("Identified")
        MONITORING = "monitoring", gettext_lazy("Monitoring")
        RESOLVED = "resolved", gettext_lazy("Resolved")

    incident = models.ForeignKey(Incident, models.PROTECT, related_name="updates")
    state = models.CharField(max_length=13, choices=State)
    text = models.CharField(max_length=1000)
    actor = models.ForeignKey(User, models.PROTECT, related_name="+")
    at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.incident}: {self.get_state_display()}"
