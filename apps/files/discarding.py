"""The one way a file goes: out of sight, its bytes, its row. The sweep finishes what dies in between."""

from __future__ import annotations

from uuid import UUID

from channels.db import database_sync_to_async
from django.core.files.storage import default_storage
from django.db.models.functions import Now

from apps.files.models import File


def discard(file_id: UUID, path: str) -> None:
    """Let a file go now. The caller has made sure that nobody reads it. Safe to repeat."""
    File.objects.filter(pk=file_id).exclude(status=File.Status.DELETED).update(
        status=File.Status.DELETED, expires_at=Now()
    )
    default_storage.delete(path)
    File.objects.filter(pk=file_id).delete()


async def discard_async(file_id: UUID, path: str) -> None:
    """`discard` in a thread of its own: a store may be slow."""
    await database_sync_to_async(discard, thread_sensitive=False)(file_id, path)
