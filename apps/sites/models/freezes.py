"""Since when heartbeats are taken, and when many nodes fell silent at once."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class Listening(models.Model):
    """One row: since when the portal has heard runners without a gap, and when it last said so, by the database clock.

    Written each second by every process that takes heartbeats. Where none could, no lease was extended, and an expired
    one says nothing about its runner.
    """

    id = models.SmallIntegerField(primary_key=True, default=1)
    since = models.DateTimeField(db_default=Now())
    at = models.DateTimeField(db_default=Now())


class Freeze(models.Model):
    """A time in which the leases of silent nodes are kept: so many fell silent at once that the fault is likely not theirs.

    `nodes` of them held `leases` of the `running` ones when it began. `released_at` is when a person said that they are
    lost after all. It is `open` until it has ended: one at most.
    """

    nodes = models.PositiveIntegerField()
    leases = models.PositiveIntegerField()
    running = models.PositiveIntegerField()
    began_at = models.DateTimeField(db_default=Now())
    released_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    open = models.BooleanField(default=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["open"], condition=Q(open=True), name="sites_freeze_one_open")]

    def __str__(self) -> str:
        return f"{self.leases} of {self.running} leases at {self.nodes} nodes"
