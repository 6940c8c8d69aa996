"""The stages of a batch: accepted, checked, running, settled."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext, pgettext

from apps.batches.pages.files import Files
from apps.batches.pages.receipt import Receipt
from apps.core import numbers


@dataclass(frozen=True, slots=True)
class Step:
    """`step` is done, now, next or failed. `at` is when it began."""

    step: str
    icon: str
    title: str
    at: datetime | None
    note: str
    why: str


class Stages(Files, Receipt):
    @property
    def steps(self) -> list[Step]:
        return [self._accepted(), self._checked(), self._run(), self._settled()]

    @property
    def where(self) -> str:
        """Or why nowhere."""
        return gettext("At %(places)s") % {"places": self.places} if self.sites else self.waiting

    def _accepted(self) -> Step:
        file = self.files.get(self.batch.input_file_id)
        why = gettext("A file of %(size)s") % {"size": numbers.size(file.size_bytes)} if file else ""
        return Step("done", "check", gettext("Accepted"), self.batch.created_at, "", why)

    def _checked(self) -> Step:
        batch = self.batch
        if batch.state == "validating":
            return Step(
                "now",
                "",
                gettext("Checking the file"),
                batch.created_at,
                "",
                gettext("Every line that is wrong will be named"),
            )
        if batch.state == "failed" and batch.in_progress_at is None:
            wrong = gettext("Nothing was held or charged")
            return Step("failed", "x", gettext("Refused"), batch.failed_at, "", wrong)
        if batch.in_progress_at is None:
            return Step("next", "", gettext("Checked"), None, gettext("not done"), gettext("It was stopped before"))
        seconds = (batch.in_progress_at - batch.created_at).total_seconds()
        held = gettext("%(rows)s, %(hold)s held from your balance") % {
            "rows": self.rows(batch.total),
            "hold": numbers.money_small(batch.hold_microusd),
        }
        took = gettext("for %(time)s") % {"time": numbers.duration(seconds)}
        return Step("done", "check", gettext("Checked"), batch.in_progress_at, took, held)

    def _run(self) -> Step:
        batch = self.batch
        if batch.in_progress_at is None:
            return Step(
                "next", "", gettext("Running"), None, gettext("not run") if batch.is_final else gettext("not yet"), ""
            )
        if batch.state == "in_progress":
            return Step("now", "", gettext("Running"), batch.in_progress_at, "", self.where)
        took = gettext("for %(time)s") % {"time": numbers.duration(self.running_seconds)}
        return Step(
            "done", "check", pgettext("it has", "Run"), batch.in_progress_at, took, self.where if self.sites else ""
        )

    def _settled(self) -> Step:
        batch = self.batch
        if batch.state in ("finalizing", "cancelling"):
            at = batch.finalizing_at or batch.cancelling_at
            return Step(
                "now",
                "",
                gettext("Settling"),
                at,
                "",
                gettext("The files are written and the rest of the hold returned"),
            )
        if not batch.is_final:
            later = gettext("The files are written and the rest of the hold returned")
            return Step("next", "", gettext("Settled"), None, gettext("not yet"), later)
        if not batch.hold_microusd:
            return Step("next", "", gettext("Settled"), None, gettext("nothing was held"), "")
        charged = numbers.money_small(batch.charge_microusd)
        says = gettext("%(charged)s charged, %(returned)s returned") % {
            "charged": charged,
            "returned": numbers.money_small(self.returned_microusd),
        }
        failed = batch.state in ("expired", "cancelled")
        return Step(
            "failed" if failed else "done",
            "off" if failed else "check",
            {"expired": gettext("Expired"), "cancelled": gettext("Cancelled")}.get(batch.state, gettext("Settled")),
            batch.ended_at,
            "",
            says,
        )
