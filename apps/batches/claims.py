"""One task works on a batch at a time, and says that it lives; after a while of silence another begins anew."""

from __future__ import annotations

import time
from datetime import datetime
from uuid import UUID

from apps.batches import statements
from apps.core.sql import Row
from cango_portal import database

ALIVE_SECONDS = 5.0


class Stopped(Exception):
    """The batch has been moved on, or another task works on it: what this one made is not wanted."""


class Claim:
    """This task's right to work on a batch. `token` is what the row must still say when the work is written."""

    def __init__(self, batch: Row) -> None:
        self.batch_id: UUID = batch["id"]
        self.token: datetime = batch["working_until"]
        self.told_at = time.monotonic()

    def alive(self) -> None:
        """Call it often. Raises Stopped."""
        if time.monotonic() - self.told_at < ALIVE_SECONDS:
            return
        token = database.run(statements.go_on(self.batch_id, self.token))
        if token is None:
            raise Stopped
        self.token, self.told_at = token, time.monotonic()
