"""One batch as its page shows it: read here, so that a view and a socket render the same parts."""

from __future__ import annotations

from functools import cached_property
from typing import Any
from uuid import UUID

from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from apps.accounts import tickets
from apps.batches.models import Batch
from apps.batches.pages import power
from apps.batches.pages.power import Power
from apps.batches.pages.stages import Stages
from apps.core import numbers

MOST_ERRORS = 50  # lines of a bad file that its page names; all are in the API's answer
OK = 200

SHOWN = {
    "validating": "checking",
    "in_progress": "running",
    "finalizing": "settling",
    "cancelling": "stopping",
    "completed": "succeeded",
}


class BatchPage(Stages):
    @property
    def topic(self) -> str:
        return f"batch.{self.batch.public_id}"

    @property
    def at(self) -> int:
        """The version of this state on the socket."""
        return self.batch.version

    @property
    def shown(self) -> str:
        """Its state in the words of a job. One whose every row failed is never "Done"."""
        batch = self.batch
        if batch.state == "completed" and batch.failed:
            return "partial" if batch.completed else "failed"
        return SHOWN.get(batch.state, batch.state)

    @property
    def zone(self) -> str:
        return timezone.get_current_timezone_name()

    @property
    def model_url(self) -> str:
        if self.batch.model is None:
            return ""
        publisher, _, name = self.batch.model.name.partition("/")
        return reverse("portal:model", args=[publisher, name])

    @cached_property
    def power(self) -> Power | None:
        """Of one that runs."""
        return power.read(self.batch) if self.batch.state == "in_progress" else None

    # What is wrong, and what may be done

    @property
    def errors(self) -> list[dict[str, Any]]:
        return list(self.batch.errors[:MOST_ERRORS])

    @property
    def errors_left(self) -> int:
        return len(self.batch.errors) - len(self.errors)

    @property
    def stoppable(self) -> bool:
        return self.batch.state in ("validating", "in_progress")

    @property
    def repeatable(self) -> bool:
        """Has it ended, and is its file there and good?"""
        there = self.batch.is_final and self.batch.total and self.batch.input_file_id in self.files
        return bool(there and self.batch.in_progress_at is not None)

    @property
    def again(self) -> int:
        """How many rows may be run again: those without an answer."""
        return self.batch.total - self.batch.completed if self.repeatable else 0

    @property
    def whole(self) -> int:
        """How many rows all of it once more would be; 0 where that is what `again` is."""
        return self.batch.total if self.repeatable and self.batch.completed else 0

    @cached_property
    def ticket(self) -> str:
        return tickets.new("batch")

    def fields(self) -> dict[str, Any]:
        """What a `set` message carries: texts ready to show, and the value of the progress bar."""
        batch = self.batch
        return {
            "done": numbers.count(self.done),
            "value": self.done,
            "percent": self.percent,
            "left": numbers.count(self.left),
            "failed": numbers.count(batch.failed),
            "rate": self.rate,
            "eta": self.eta,
            "time_left": self.time_left,
            "reason": self.reason,
            "expected": self.expected or numbers.NONE,
            "cost": numbers.money_column(batch.charge_microusd),
            "charge": batch.charge_microusd,
            "input": numbers.count(batch.prompt_tokens),
            "output": numbers.count(batch.completion_tokens),
            "energy": numbers.energy(batch.energy_wh),
            "each": numbers.energy(self.energy_each_wh),
            "per_ktok": numbers.energy(self.energy_per_ktok_wh),
            "carbon": numbers.carbon(batch.carbon_gco2e),
            "market": numbers.carbon(batch.carbon_market_gco2e),
        }


RELATED = ("model", "price", "api_key", "user")


def load(batch_id: UUID) -> BatchPage:
    """Raises Batch.DoesNotExist."""
    return BatchPage(Batch.objects.select_related(*RELATED).get(pk=batch_id))


def parts(page: BatchPage) -> str:
    """Every part of a page that a new phase renders anew, each known by its id."""
    return render_to_string("batches/_parts.html", {"page": page, "batch": page.batch})
