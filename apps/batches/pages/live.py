"""A row that is in progress, on a batch's page: its text as it is written, and how many there are beside it."""

from __future__ import annotations

from typing import Any

from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.translation import gettext, ngettext

from apps.batches.endpoints import ENDPOINTS
from apps.batches.models import Batch
from apps.batches.writing import Writing
from apps.core import numbers
from apps.runner.protocol import TEXT_UNITS, WRITES

EARLY_SECONDS = 0.5  # before that a rate would be a guess


class LivePage:
    """`row` is what the shard says that has it; None where none is shown. `at` is the version on the socket."""

    def __init__(
        self, public_id: str, row: Writing | None = None, *, at: int = 0, running: int = 0, custom_id: str = ""
    ) -> None:
        self.public_id = public_id
        self.row = row
        self.at = at
        self.running = max(running, 1)
        self.custom_id = custom_id

    @property
    def topic(self) -> str:
        return f"batch.{self.public_id}.live"

    @property
    def text_topic(self) -> str:
        """Of this text; a row that is begun anew has another."""
        return f"batch.{self.public_id}.row.{self.row.line}.{self.row.number}" if self.row else ""

    @property
    def number(self) -> str:
        return numbers.count(self.row.line) if self.row else ""

    @property
    def url(self) -> str:
        return reverse("batches:row", args=[self.public_id, self.row.line]) if self.row else ""

    @property
    def more(self) -> str:
        """Of a very long answer the beginning is shown."""
        full = self.row is not None and len(self.row.text) >= TEXT_UNITS - 1
        return gettext("The rest is in its answer") if full else ""

    @property
    def speed(self) -> str:
        row = self.row
        if row is None:
            return ""
        tokens = ngettext("%(tokens)s token", "%(tokens)s tokens", row.tokens) % {"tokens": numbers.count(row.tokens)}
        if row.seconds < EARLY_SECONDS or not row.tokens:
            return tokens
        return gettext("%(tokens)s, %(rate)s") % {"tokens": tokens, "rate": numbers.rate(row.tokens / row.seconds)}

    @property
    def showing(self) -> str:
        rows = ngettext(
            "Showing 1 of %(count)s row in progress", "Showing 1 of %(count)s rows in progress", self.running
        )
        return rows % {"count": numbers.count(self.running)}

    def fields(self) -> dict[str, Any]:
        """What a `set` message carries. What is said of the row names it: a reader may have kept an earlier one."""
        if self.row is None:
            return {}
        number = self.row.number
        return {f"speed.{number}": self.speed, f"more.{number}": self.more, "showing": self.showing}


def writes(batch: Batch) -> bool:
    """Are its answers texts that come piece by piece?"""
    return ENDPOINTS[batch.endpoint].kind in WRITES


def part(page: LivePage) -> str:
    return render_to_string("batches/_live.html", {"live": page})
