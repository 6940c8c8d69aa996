"""Stored inputs: what a job reads that is too large for its order."""

from __future__ import annotations

import uuid

from django.db import models

from apps.accounts.models import Organization
from apps.core.ids import public, uuid7


class File(models.Model):
    """The bytes live in Django's default storage under `path`; this row says whose they are and until when."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="files")
    name = models.CharField(max_length=200)
    content_type = models.CharField(max_length=100)
    size_bytes = models.PositiveBigIntegerField()
    sha256 = models.CharField(max_length=64)
    pages = models.PositiveIntegerField(null=True, help_text="Pages of a PDF, 1 for an image")
    path = models.CharField(max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["expires_at"], name="files_file_expiry")]

    def __str__(self) -> str:
        return self.name

    @property
    def public_id(self) -> str:
        return public("file", uuid.UUID(str(self.pk)))
