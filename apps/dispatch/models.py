"""The outbox: orders written in the job's own transaction, sent after commit."""

from __future__ import annotations

from django.db import models

from apps.jobs.models import Job


class Order(models.Model):
    """One attempt's order for the pool's queue, kept until its attempt starts or ends.

    `body` is `runner.protocol.Order` as JSON. `resent_at`: when the dispatcher last sent it again, because nobody had
    claimed it.
    """

    job = models.ForeignKey(Job, models.CASCADE, related_name="orders")
    attempt = models.PositiveSmallIntegerField()
    queue = models.CharField(max_length=80)
    body = models.JSONField()
    created_at = models.DateTimeField()
    resent_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["job", "attempt"], name="dispatch_order_unique")]

    def __str__(self) -> str:
        return f"{self.job_id} attempt {self.attempt}"
