"""What the platform found out about itself."""

from __future__ import annotations

from django.db import models


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
