"""Stored files: what a job or a batch reads, and what a batch wrote."""

from __future__ import annotations

import uuid

from django.db import models

from apps.accounts.models import Organization
from apps.core.ids import public, uuid7


class File(models.Model):
    """The bytes live in Django's default storage under `path`; this row says whose they are and until when.

    The row is there before the bytes (`incoming`) and goes after them (`deleted`): whatever dies in between, the sweep
    finds the bytes by their row. Only a `processed` file is there for anybody. `expires_at` null: until it is deleted.
    """

    class Purpose(models.TextChoices):
        """The official words, and `input`: a job's own input, which `/v1/files` does not list."""

        INPUT = "input"
        BATCH = "batch"
        BATCH_OUTPUT = "batch_output"
        USER_DATA = "user_data"

    class Status(models.TextChoices):
        INCOMING = "incoming"
        PROCESSED = "processed"
        DELETED = "deleted"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="files")
    purpose = models.CharField(max_length=12, choices=Purpose, default=Purpose.INPUT, db_default=Purpose.INPUT)
    status = models.CharField(max_length=9, choices=Status, default=Status.PROCESSED, db_default=Status.PROCESSED)
    name = models.CharField(max_length=200)
    content_type = models.CharField(max_length=100)
    size_bytes = models.PositiveBigIntegerField()
    sha256 = models.CharField(max_length=64)
    pages = models.PositiveIntegerField(null=True, help_text="Pages of a PDF, 1 for an image")
    path = models.CharField(max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["expires_at"], name="files_file_expiry"),
            models.Index(fields=["organization", "id"], name="files_file_listing"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def public_id(self) -> str:
        return public("file", uuid.UUID(str(self.pk)))


class Reading(models.Model):
    """Work that still reads a file, `batch:…` say: until it ends the file is neither deleted nor expired."""

    file = models.ForeignKey(File, models.CASCADE, related_name="readings")
    reader = models.CharField(max_length=64)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["reader", "file"], name="files_reading_unique")]

    def __str__(self) -> str:
        return self.reader
