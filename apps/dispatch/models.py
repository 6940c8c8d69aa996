"""What is written in the job's own transaction: the outbox of orders, and by what a request is known again."""

from __future__ import annotations

from django.db import models

from apps.jobs.models import Job


class Order(models.Model):
    """One attempt's order for the pool's queue, kept until its attempt starts or ends.

    `body` is `runner.protocol.Order` as JSON, without what was asked. `resent_at`: when the dispatcher last sent it again, because nobody had
    claimed it.
    """

    job = models.ForeignKey(Job, models.CASCADE, related_name="orders", db_index=False)
    attempt = models.PositiveSmallIntegerField()
    queue = models.CharField(max_length=80)
    body = models.JSONField()
    created_at = models.DateTimeField()
    resent_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["job", "attempt"], name="dispatch_order_unique")]

    def __str__(self) -> str:
        return f"{self.job_id} attempt {self.attempt}"


class Receipt(models.Model):
    """One admitted request, so that the same one again finds its job. Kept a day; `dispatch/receipts.py` reads it.

    `mark` and `digest` are SHA-256: of whose it is and its Idempotency-Key, and of whose it is and what was sent.
    `followers` are the clients that wait for an interactive job: the last one to hang up cancels it. No foreign key: the
    receipt of a job that was deleted still says that its key was used.
    """

    job_id = models.UUIDField(primary_key=True)
    mark = models.BinaryField(max_length=32, null=True)
    digest = models.BinaryField(max_length=32)
    followers = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["mark"], condition=models.Q(mark__isnull=False), name="dispatch_receipt_mark_unique"
            )
        ]
        indexes = [models.Index(fields=["digest"], name="dispatch_receipt_digest")]

    def __str__(self) -> str:
        return f"receipt of {self.job_id}"
