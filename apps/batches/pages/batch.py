"""What the pages of batches show: read here, so that a view and a socket render the same parts."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any
from uuid import UUID

from django.db.models import Count
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext, gettext_lazy, ngettext, pgettext, pgettext_lazy

from apps.accounts import tickets
from apps.accounts.times import written
from apps.batches.models import ENDED, Batch, Row
from apps.catalog.models import Tier
from apps.catalog.prices import Price
from apps.core import numbers
from apps.files.models import File
from apps.jobs import reasons
from apps.jobs.models import Job
from apps.jobs.pages.progress import left_in_words

EARLY_SECONDS, EARLY_SHARE = 10, 0.05  # the time left is shown after either
MOST_ERRORS = 50  # lines of a bad file that its page names; all are in the API's answer
OK = 200
SAMPLE = 200  # rows whose charges say how far apart those to come may be

SHOWN = {
    "validating": "checking",
    "in_progress": "running",
    "finalizing": "settling",
    "cancelling": "stopping",
    "completed": "succeeded",
}


@dataclass(frozen=True, slots=True)
class Step:
    """`step` is done, now, next or failed. `at` is when it began."""

    step: str
    icon: str
    title: str
    at: datetime | None
    note: str
    why: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A file of the batch. `file` is None where it is gone."""

    name: str
    title: str
    says: str
    file: File | None


class BatchPage:
    def __init__(self, batch: Batch, now: datetime | None = None) -> None:
        self.batch = batch
        self.now = now or timezone.now()

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

    @cached_property
    def files(self) -> dict[UUID, File]:
        ids = [id for id in (self.batch.input_file_id, *self.written) if id]
        return {file.pk: file for file in File.objects.filter(pk__in=ids, status=File.Status.PROCESSED)}

    @property
    def written(self) -> tuple[UUID | None, UUID | None]:
        """Output and error file, once the batch has ended."""
        return (self.batch.output_file_id, self.batch.error_file_id) if self.batch.is_final else (None, None)

    @property
    def stored(self) -> list[Stored]:
        found = []
        if self.written[0]:
            says = gettext("%(rows)s with an answer") % {"rows": self.rows(self.batch.completed)}
            found.append(("output", gettext("Output"), says, self.written[0]))
        if self.written[1]:
            left = self.batch.total - self.batch.completed
            says = gettext("%(rows)s without one, and why") % {"rows": self.rows(left)}
            found.append(("errors", gettext("Errors"), says, self.written[1]))
        found.append(("input", gettext("Input"), gettext("as it was sent"), self.batch.input_file_id))
        return [Stored(name, title, says, self.files.get(file_id)) for name, title, says, file_id in found]

    @cached_property
    def title(self) -> str:
        """What its owner calls it, the file's name, or what it is."""
        named = (self.batch.metadata or {}).get("name") or ""
        file = self.files.get(self.batch.input_file_id)
        return (
            named.strip()
            or (file.name if file else "")
            or gettext("Batch for %(endpoint)s") % {"endpoint": self.batch.endpoint}
        )

    @staticmethod
    def rows(count: int) -> str:
        return ngettext("%(count)s row", "%(count)s rows", count) % {"count": numbers.count(count)}

    @property
    def zone(self) -> str:
        return timezone.get_current_timezone_name()

    @property
    def model_url(self) -> str:
        if self.batch.model is None:
            return ""
        publisher, _, name = self.batch.model.name.partition("/")
        return reverse("portal:model", args=[publisher, name])

    # Progress

    @property
    def done(self) -> int:
        return self.batch.completed + self.batch.failed

    @property
    def left(self) -> int:
        return self.batch.total - self.done

    @property
    def percent(self) -> str:
        return numbers.percent(self.done / self.batch.total) if self.batch.total else numbers.NONE

    @property
    def running_seconds(self) -> float:
        if self.batch.in_progress_at is None:
            return 0.0
        ended = self.batch.finalizing_at or self.batch.cancelling_at or self.batch.ended_at or self.now
        return max((ended - self.batch.in_progress_at).total_seconds(), 0.0)

    @property
    def per_second(self) -> float | None:
        return self.done / self.running_seconds if self.done and self.running_seconds > 0.2 else None

    @property
    def rate(self) -> str:
        if self.per_second is None:
            return numbers.NONE
        places = 1 if self.per_second < 100 else 0
        return f"{self.per_second:,.{places}f}{numbers.SPACE}" + gettext("rows/s")

    @property
    def elapsed(self) -> str:
        return numbers.duration(((self.batch.ended_at or self.now) - self.batch.created_at).total_seconds())

    @property
    def seconds_left(self) -> float | None:
        """At the rate so far; None while nobody knows."""
        early = self.running_seconds < EARLY_SECONDS and self.done < self.batch.total * EARLY_SHARE
        if self.batch.state != "in_progress" or not self.per_second or early:
            return None
        return max(self.left / self.per_second, 1)

    @property
    def time_left(self) -> str:
        """In a column."""
        if self.batch.state in ("finalizing", "cancelling"):
            return gettext("a few seconds")
        return numbers.NONE if self.seconds_left is None else left_in_words(self.seconds_left)

    @property
    def eta(self) -> str:
        """When it is over, as far as one can know; nothing is invented."""
        batch = self.batch
        if batch.state == "validating":
            return gettext("The file is checked line by line; nothing is held before all of it is good")
        if batch.state == "finalizing":
            return gettext("The files are being written")
        if batch.state == "cancelling":
            return gettext("What runs stops within seconds")
        if batch.state != "in_progress":
            return gettext("%(elapsed)s in all") % {"elapsed": self.elapsed}
        seconds = self.seconds_left
        if seconds is None:
            ends = timezone.localtime(batch.expires_at)
            return gettext("Ends by %(at)s at the latest") % {"at": written(ends, "j M, H:i")}
        ready = timezone.localtime(self.now + timedelta(seconds=math.ceil(seconds / 60) * 60))
        return gettext("About %(left)s left, ready near %(at)s") % {
            "left": left_in_words(seconds),
            "at": f"{ready:%H:%M}",
        }

    @property
    def reason(self) -> str:
        """In a list: why it is not simply done."""
        batch = self.batch
        if batch.state == "failed":
            return reasons.said(str(batch.errors[0]["message"])) if batch.errors else gettext("nothing charged")
        if batch.state == "completed" and batch.failed:
            return gettext("%(rows)s failed, free of charge") % {"rows": self.rows(batch.failed)}
        if batch.state in ("expired", "cancelled") and self.left:
            return gettext("%(rows)s not run, free of charge") % {"rows": self.rows(self.left)}
        if batch.state == "in_progress" and not self.done and not self.sites:
            return self._waiting()
        return ""

    # Stages

    @property
    def steps(self) -> list[Step]:
        return [self._accepted(), self._checked(), self._run(), self._settled()]

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
        where = gettext("At %(places)s") % {"places": self.places} if self.sites else self._waiting()
        if batch.state == "in_progress":
            return Step("now", "", gettext("Running"), batch.in_progress_at, "", where)
        took = gettext("for %(time)s") % {"time": numbers.duration(self.running_seconds)}
        return Step("done", "check", pgettext("it has", "Run"), batch.in_progress_at, took, where if self.sites else "")

    def _waiting(self) -> str:
        most = self.batch.max_power_usd_per_mwh
        if most is not None:
            return gettext("Waits until a MWh costs less than %(price)s at a site") % {"price": f"${most:,.2f}"}
        return gettext("Waiting for a free GPU")

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

    # Cost, energy, place

    @property
    def returned_microusd(self) -> int:
        return self.batch.hold_microusd - self.batch.charge_microusd

    @cached_property
    def expected(self) -> str:
        """What all of it costs in the end, as a range: the rows to come are like those that came. Empty while nobody knows.

        The range is two standard deviations of a sum of so many, and that of the mean they are taken for. It never leaves
        what was charged already and what is held.
        """
        if self.seconds_left is None or not self.left:
            return ""
        last = Row.objects.filter(batch=self.batch).order_by("-line").values_list("charge_microusd", flat=True)[:SAMPLE]
        charges = list(last)
        if len(charges) < 2:
            return ""
        spread = 2 * statistics.stdev(charges) * math.sqrt(self.left * (1 + self.left / self.done))
        middle = self.batch.charge_microusd * self.batch.total / self.done
        low = max(round(middle - spread), self.batch.charge_microusd)
        high = min(max(round(middle + spread), low), self.batch.hold_microusd)
        return between(numbers.money_column(min(low, high)), numbers.money_column(high))

    @property
    def terms(self) -> list[tuple[str, str]]:
        """Its price: what a million tokens cost, the batch's share of that, and the discount."""
        if self.batch.price is None:
            return []
        price = Price.of(self.batch.price)
        share = numbers.basis_points(price.tier_basis_points(Tier.BATCH.value))
        found = [(gettext("Batch price"), gettext("%(share)s of each price") % {"share": share})]
        if self.batch.discount_basis_points:
            off = numbers.basis_points(self.batch.discount_basis_points)
            found.append((gettext("Discount"), gettext("%(share)s off each price") % {"share": off}))
        return found

    @property
    def input_price(self) -> str:
        return numbers.price(self.batch.price.input_microusd_per_mtok) if self.batch.price else numbers.NONE

    @property
    def output_price(self) -> str:
        return numbers.price(self.batch.price.output_microusd_per_mtok) if self.batch.price else numbers.NONE

    @property
    def energy_each_wh(self) -> float | None:
        if self.batch.energy_wh is None or not self.done:
            return None
        return self.batch.energy_wh / self.done * 1000

    @cached_property
    def energy_note(self) -> str:
        """How the energy was come by, as the shard of its last line says; empty while that runs."""
        last = Row.objects.filter(batch=self.batch).order_by("-line").values_list("job__energy_quality", flat=True)
        quality = last.first()
        return str(Job(energy_quality=quality).get_energy_quality_display()) if quality else ""

    @property
    def energy_per_ktok_wh(self) -> float | None:
        """For 1,000 tokens written."""
        if self.batch.energy_wh is None or not self.batch.completion_tokens:
            return None
        return self.batch.energy_wh / self.batch.completion_tokens * 1000

    @cached_property
    def sites(self) -> list[tuple[str, int]]:
        """Where its rows were done and how many at each, most first; then where shards are now that have none yet."""
        site = "job__pool__node__site__name"
        counted = Row.objects.filter(batch=self.batch, job__pool__isnull=False).values_list(site)
        found = dict(counted.annotate(count=Count("line")).order_by("-count"))
        open_shards = Job.objects.open().filter(organization_id=self.batch.organization_id)  # by their index
        now = open_shards.filter(batch_id=self.batch.pk, pool__isnull=False)
        for name in now.values_list("pool__node__site__name", flat=True).distinct().order_by("pool__node__site__name"):
            found.setdefault(name, 0)
        return list(found.items())

    @property
    def places(self) -> str:
        names = [name for name, _ in self.sites]
        return (
            names[0]
            if len(names) == 1
            else gettext("%(names)s and %(last)s") % {"names": ", ".join(names[:-1]), "last": names[-1]}
        )

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


def between(low: str, high: str) -> str:
    """A range; one figure where both are the same."""
    return low if low == high else gettext("%(low)s to %(high)s") % {"low": low, "high": high}


RELATED = ("model", "price", "api_key", "user")


def load(batch_id: UUID) -> BatchPage:
    """Raises Batch.DoesNotExist."""
    return BatchPage(Batch.objects.select_related(*RELATED).get(pk=batch_id))


def parts(page: BatchPage) -> str:
    """Every part of a page that a new phase renders anew, each known by its id."""
    return render_to_string("batches/_parts.html", {"page": page, "batch": page.batch})


@dataclass(frozen=True, slots=True)
class Listing:
    """`older` is the id to go on from; empty at the end."""

    pages: list[BatchPage]
    older: str


SIZE = 50
SHOWS = {"": gettext_lazy("All"), "open": gettext_lazy("Running"), "ended": pgettext_lazy("state", "Ended")}


def listing(organization: Any, *, show: str, before: UUID | None) -> Listing:
    """Newest first, cut by key and never by count."""
    batches = Batch.objects.of(organization).select_related(*RELATED).order_by("-pk")
    if show == "open":
        batches = batches.exclude(state__in=ENDED)
    elif show == "ended":
        batches = batches.filter(state__in=ENDED)
    if before is not None:
        batches = batches.filter(pk__lt=before)
    found = list(batches[: SIZE + 1])
    shown = [BatchPage(batch) for batch in found[:SIZE]]
    read_titles(shown)
    read_places(organization.pk, [page for page in shown if not page.batch.is_final])
    return Listing(shown, shown[-1].batch.public_id if len(found) > SIZE else "")


def read_titles(shown: list[BatchPage]) -> None:
    """One reading for all titles."""
    ids = [page.batch.input_file_id for page in shown]
    named = File.objects.filter(pk__in=ids, status=File.Status.PROCESSED).in_bulk()
    for page in shown:
        page.files = {file_id: file for file_id, file in named.items() if file_id == page.batch.input_file_id}


def running(organization_id: UUID, *, limit: int) -> list[BatchPage]:
    """The newest that have not ended, each with the sites where its shards are now."""
    batches = Batch.objects.filter(organization_id=organization_id).exclude(state__in=ENDED)
    shown = [BatchPage(batch) for batch in batches.select_related(*RELATED).order_by("-pk")[:limit]]
    read_titles(shown)
    read_places(organization_id, shown)
    return shown


def states(organization_id: UUID, *, limit: int) -> list[str]:
    """Of those that have not ended, as they are shown."""
    found = Batch.objects.filter(organization_id=organization_id).exclude(state__in=ENDED)
    return [SHOWN[state] for state in found.values_list("state", flat=True)[:limit]]


def read_places(organization_id: UUID, shown: list[BatchPage]) -> None:
    """One reading for the sites where the shards of those are that have not ended."""
    shards = Job.objects.open().filter(organization_id=organization_id, batch_id__in=[page.batch.pk for page in shown])
    rows = shards.filter(pool__isnull=False).values_list("batch_id", "pool__node__site__name")
    places = set(rows) if shown else set()
    for page in shown:
        page.sites = [(place, 0) for batch_id, place in sorted(places) if batch_id == page.batch.pk]
