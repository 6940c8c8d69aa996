"""One task works on a batch at a time, and says that it lives; after a while of silence another begins anew."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event, Lock, Thread
from uuid import UUID

from django.db import connection

from apps.batches import statements
from apps.core.ids import public
from apps.core.sql import Plan, Row
from cango_portal import database

GoOn = Callable[[UUID, datetime], Plan[datetime | None]]

log = logging.getLogger(__name__)

ALIVE_SECONDS = 5.0
STEP_SECONDS = 1800.0  # one step of the work that takes longer hangs: then another may begin anew


class Stopped(Exception):
    """The batch has been moved on, or another task works on it: what this one made is not wanted."""


class Claim:
    """This task's right to work on a batch. `token` is what the row must still say when the work is written.

    `name` is its own, and greater than that of every earlier claim on the batch. `go_on` says in its row that it lives.
    """

    def __init__(self, batch: Row, *, go_on: GoOn = statements.go_on) -> None:
        self.batch_id: UUID = batch["id"]
        self.go_on = go_on
        self.token: datetime = batch["working_until"]
        self.name = f"{self.token.astimezone(UTC):%Y%m%d%H%M%S%f}"
        self.told_at = self.stepped_at = time.monotonic()
        self.lost = False
        self.renewing = Lock()

    def alive(self) -> None:
        """Call it often. Raises Stopped."""
        self.stepped_at = time.monotonic()
        self.renew()
        if self.lost:
            raise Stopped

    def renew(self) -> None:
        with self.renewing:
            if self.lost or time.monotonic() - self.told_at < ALIVE_SECONDS:
                return
            token = database.run(self.go_on(self.batch_id, self.token))
            if token is None:
                self.lost = True
            else:
                self.token, self.told_at = token, time.monotonic()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Renew it beside steps that take long, such as storing a file. Raises Stopped at the end."""
        done = Event()

        def keep() -> None:
            try:
                while not done.wait(ALIVE_SECONDS) and time.monotonic() - self.stepped_at < STEP_SECONDS:
                    try:
                        self.renew()
                    except Exception:  # the database is away for a moment: the claim may outlive that
                        log.exception("claim not renewed", extra={"batch": public("batch", self.batch_id)})
            finally:
                connection.close()

        keeper = Thread(target=keep, name="batches.claim", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            done.set()
            keeper.join()
        if self.lost:
            raise Stopped
