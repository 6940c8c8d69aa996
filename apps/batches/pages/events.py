"""What happened to a batch: what its row says of itself, and where its shards went."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from django.db.models import Q, QuerySet
from django.template.loader import render_to_string
from django.utils.translation import gettext

from apps.batches.pages.batch import BatchPage
from apps.core import numbers
from apps.jobs import reasons
from apps.jobs.models import Event
from apps.jobs.pages.timeline import STOPPING

MOST = 12  # on the page; all are in its CSV
COLUMNS = ["at", "event", "reason"]
SHARD = "job__shard__"


@dataclass(frozen=True, slots=True)
class Happened:
    at: datetime
    what: str
    why: str = ""


class EventsPage:
    """Newest first. A shard's start says nothing that its way to a site has not said."""

    def __init__(self, page: BatchPage, *, most: int | None = MOST) -> None:
        self.page = page
        self.most = most

    @cached_property
    def shown(self) -> list[Happened]:
        found = sorted([*self._own(), *self._shards()], key=lambda each: each.at, reverse=True)
        return found[: self.most]

    def _own(self) -> Iterator[Happened]:
        batch, accepted, checked = self.page.batch, *self.page.steps[:2]
        yield Happened(batch.created_at, gettext("Batch accepted"), accepted.why)
        if batch.in_progress_at:
            yield Happened(batch.in_progress_at, gettext("File checked"), checked.why)
        if batch.finalizing_at:
            yield Happened(batch.finalizing_at, gettext("Rows ended, the files are written"))
        if batch.cancelling_at:
            yield Happened(batch.cancelling_at, gettext("Cancel asked for"))
        if batch.is_final and batch.ended_at:
            yield Happened(batch.ended_at, self.page.steps[-1].title, self.page.reason or self.page.steps[-1].why)

    def _shards(self) -> Iterator[Happened]:
        for event in self._events():
            lines = {"lines": self._lines(event[f"{SHARD}first_line"], event[f"{SHARD}lines"])}
            reason = reasons.said(event["reason"])
            if event["state"] == "dispatched":
                what = gettext("%(lines)s routed to %(site)s") % {**lines, "site": event["data"].get("site", "")}
            elif event["state"] == "queued":
                what = gettext("%(lines)s back in the queue") % lines
            elif event["state"] == "succeeded":
                what = gettext("%(lines)s finished") % lines
                charged = numbers.money_small(event["data"].get("charge_microusd", 0))
                reason = gettext("%(charged)s charged") % {"charged": charged}
            else:
                what = gettext("%(lines)s stopped") % lines
            yield Happened(event["at"], what, reason)

    @staticmethod
    def _lines(first: int, count: int) -> str:
        if count == 1:
            return gettext("Line %(number)s") % {"number": numbers.count(first)}
        return gettext("Lines %(first)s to %(last)s") % {
            "first": numbers.count(first),
            "last": numbers.count(first + count - 1),
        }

    def _events(self) -> QuerySet[Event, dict[str, Any]]:
        said = Event.objects.filter(job__shard__batch=self.page.batch)
        said = said.exclude(Q(state="running") | Q(state="queued", attempt=0) | Q(reason__startswith=STOPPING))
        fields = ("at", "state", "reason", "data", f"{SHARD}first_line", f"{SHARD}lines")
        found: QuerySet[Event, dict[str, Any]] = said.order_by("-at", "-number").values(*fields)[: self.most]
        return found

    @property
    def rows(self) -> list[list[str]]:
        """For a spreadsheet, oldest first, times in UTC."""
        return [COLUMNS, *([f"{each.at:%Y-%m-%dT%H:%M:%S.%fZ}", each.what, each.why] for each in reversed(self.shown))]


def part(page: BatchPage) -> str:
    return render_to_string("batches/_events.html", {"events": EventsPage(page), "batch": page.batch})
