"""The newest look of each node, in Redis for ten minutes: for whoever watches. Nothing is counted from it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from apps.runner.protocol import Reading
from cango_portal import valkey

log = logging.getLogger(__name__)

KEEP_SECONDS = 600


def key(node_id: int) -> str:
    return f"telemetry:newest:{node_id}"


async def keep(readings: Mapping[int, Reading]) -> None:
    """By node. A Redis that is away loses them, and nothing else."""
    if not readings:
        return
    try:
        async with valkey.client_async().pipeline(transaction=False) as pipe:
            for node_id, reading in readings.items():
                pipe.set(key(node_id), reading.model_dump_json(), ex=KEEP_SECONDS)
            await pipe.execute()
    except valkey.Away as error:
        log.debug("readings are not shown", extra={"reason": type(error).__name__})


def of(node_id: int) -> dict[str, Any] | None:
    """The newest look as JSON. None where there is none, or Redis is away."""
    try:
        found: Any = valkey.client().get(key(node_id))
    except valkey.Away:
        return None
    look: dict[str, Any] | None = json.loads(found) if found else None
    return look
