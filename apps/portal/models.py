"""Exports of an organization's data."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q

from apps.accounts.models import Organization, User
from apps.core.ids import public, uuid7


class Export(models.Model):
    """A file of all that an organization has here, made by a task. `take` counts the tries: only the newest one writes.

    `done` of `total` rows are written since `begun_at`, when the newest take began. The file goes at `expires_at`; the row stays.
    """

    class State(models.TextChoices):
        WAITING = "waiting"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="exports")
    user = models.ForeignKey(User, models.PROTECT, related_name="+")
    state = models.CharField(max_length=7, choices=State, default=State.WAITING)
    take = models.PositiveSmallIntegerField(default=0)
    part = models.CharField(max_length=40, blank=True, help_text="What is being written")
    done = models.PositiveBigIntegerField(default=0)
    total = models.PositiveBigIntegerField(default=0)
    begun_at = models.DateTimeField(null=True)
    working_until = models.DateTimeField(null=True)
    path = models.CharField(max_length=200, blank=True)
    size_bytes = models.PositiveBigIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization"],
                condition=Q(finished_at=None),
                name="portal_export_one_at_a_time",
            )
        ]
        indexes = [models.Index(fields=["organization", "-id"], name="portal_export_recent")]

    def __str__(self) -> str:
        return self.public_id

    @property
    def public_id(self) -> str:
        return public("exp", uuid.UUID(str(self.pk)))

    @property
    def is_open(self) -> bool:
        return self.state in (self.State.WAITING, self.State.RUNNING)
