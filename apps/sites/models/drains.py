"""Nodes that are taken out of work, at once or announced."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from apps.accounts.models import User
from apps.sites.models.nodes import Node


class Drain(models.Model):
    """A time in which a node takes no new work: why, since when, and until when what runs there may run.

    `announced_at` is when customers were told, null where nobody was; `starts_at` lies ahead of it. `began_at`,
    `drained_at` (nothing runs there any more) and `ended_at` are the database's clock when it happened. It is `open` from
    its beginning to its end, one of a node at most; one that was called off has an end and no beginning.
    """

    class Purpose(models.TextChoices):
        DRAIN = "drain"  # the node stays empty until staff decide
        MAINTENANCE = "maintenance"  # somebody opens it as soon as it is empty

    node = models.ForeignKey(Node, models.PROTECT, related_name="drains")
    purpose = models.CharField(max_length=11, choices=Purpose)
    reason = models.CharField(max_length=200)
    actor = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    announced_at = models.DateTimeField(null=True)
    starts_at = models.DateTimeField()
    deadline_at = models.DateTimeField(help_text="What runs there then is taken from it")
    ends_at = models.DateTimeField(null=True, help_text="When it is expected to work again")
    began_at = models.DateTimeField(null=True)
    drained_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    open = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["node"], condition=Q(open=True), name="sites_drain_one_open"),
            models.CheckConstraint(
                condition=Q(deadline_at__gte=models.F("starts_at")), name="sites_drain_deadline_after_start"
            ),
            models.CheckConstraint(
                condition=Q(announced_at__isnull=True) | Q(announced_at__lt=models.F("starts_at")),
                name="sites_drain_announced_before_start",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.purpose} of {self.node.code}"
