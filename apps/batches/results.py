"""What a batch that runs has so far: the lines that its files will have, of the rows that have ended."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from channels.db import database_sync_to_async

from apps.batches import finalizing
from apps.batches.endpoints import ENDPOINTS
from apps.batches.models import Batch, Row, Shard


async def so_far(batch: Batch) -> AsyncIterator[bytes]:
    """Good and failed rows together, by line; one shard in memory at a time."""
    for shard in await database_sync_to_async(begun)(batch):
        yield await database_sync_to_async(lines)(batch, shard)


def begun(batch: Batch) -> list[Shard]:
    return list(Shard.objects.filter(batch=batch, job__isnull=False).order_by("number"))


def lines(batch: Batch, shard: Shard) -> bytes:
    """Of one shard. A row whose answer has left for the batch's files is not there any more."""
    endpoint = ENDPOINTS[batch.endpoint]
    ended = Row.objects.filter(batch=batch, line__gte=shard.first_line, line__lt=shard.first_line + shard.lines)
    kept = ended.exclude(sealed_body=None, plain_body=None).order_by("line")
    asked = finalizing.asked_of(shard)
    found = []
    for row in kept:
        body = finalizing.body_of(row)
        if body is not None and row.status == finalizing.OK and row.line in asked:
            body = endpoint.told(body, json.loads(asked[row.line].kept))
        custom_id = asked[row.line].custom_id if row.line in asked else None
        told = finalizing.described(batch.pk, row.line, custom_id, row, "", body=body)
        found.append(json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
    return b"".join(found)
