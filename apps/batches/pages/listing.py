"""Batches in a list: newest first, and those that run now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.utils.translation import gettext, gettext_lazy, pgettext_lazy

from apps.batches.models import ENDED, Batch
from apps.batches.pages.batch import RELATED, SHOWN, BatchPage
from apps.core.sql import Plan, Statement
from apps.files.models import File
from apps.jobs.models import Job
from apps.jobs.pages.start import Kept


@dataclass(frozen=True, slots=True)
class Listing:
    """`older` is the id to go on from; empty at the end."""

    pages: list[BatchPage]
    older: str


SIZE = 30
COUNTED = 99  # beside the navigation, at most
# The states stand in it as in the condition of its index.
OPEN = f"""
SELECT count(*)::int AS count, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS at
FROM (SELECT FROM batches_batch WHERE organization_id = %(organization)s AND NOT state IN ({", ".join(f"'{state}'" for state in ENDED)})
    LIMIT {COUNTED + 1}) running
"""  # noqa: S608 - constants go in
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
    read_places(organization.pk, [page for page in shown if not page.batch.is_final], Kept())
    return Listing(shown, shown[-1].batch.public_id if len(found) > SIZE else "")


def read_titles(shown: list[BatchPage]) -> None:
    """One reading for all titles."""
    ids = [page.batch.input_file_id for page in shown]
    named = File.objects.filter(pk__in=ids, status=File.Status.PROCESSED).in_bulk()
    for page in shown:
        page.files = {file_id: file for file_id, file in named.items() if file_id == page.batch.input_file_id}


def running(organization_id: UUID, *, limit: int, starts: Kept) -> list[BatchPage]:
    """The newest that have not ended, each with the sites where its shards are now. `starts` are those that were read already."""
    batches = Batch.objects.filter(organization_id=organization_id).exclude(state__in=ENDED)
    shown = [BatchPage(batch) for batch in batches.select_related(*RELATED).order_by("-pk")[:limit]]
    read_titles(shown)
    read_places(organization_id, shown, starts)
    return shown


@dataclass(frozen=True, slots=True)
class Open:
    """How many have not ended, beside the navigation. `at` is the version on the socket."""

    at: int
    count: int

    @property
    def figure(self) -> str:
        return f"{COUNTED}+" if self.count > COUNTED else str(self.count or "")

    @property
    def words(self) -> str:
        """For who hears it: a bare figure says nothing."""
        return gettext("%(count)s running") % {"count": self.figure} if self.count else ""


def opened(organization_id: UUID) -> Plan[Open]:
    [row] = yield Statement(OPEN, {"organization": organization_id}, alone=True)
    return Open(row["at"], row["count"])


def states(organization_id: UUID, *, limit: int) -> list[str]:
    """Of those that have not ended, as they are shown."""
    found = Batch.objects.filter(organization_id=organization_id).exclude(state__in=ENDED)
    return [SHOWN[state] for state in found.values_list("state", flat=True)[:limit]]


def read_places(organization_id: UUID, shown: list[BatchPage], starts: Kept) -> None:
    """One reading for the sites where the shards of those are that have not ended; one more for when those start that wait."""
    shards = Job.objects.open().filter(organization_id=organization_id, batch_id__in=[page.batch.pk for page in shown])
    rows = shards.filter(pool__isnull=False).values_list("batch_id", "pool__node__site__name")
    places = set(rows) if shown else set()
    for page in shown:
        page.sites = [(place, 0) for batch_id, place in sorted(places) if batch_id == page.batch.pk]
    waiting = [page for page in shown if page.has_not_begun]
    queued = shards.filter(state=Job.State.QUEUED, batch_id__in=[page.batch.pk for page in waiting])
    first = (
        queued.order_by("batch_id", "deadline_at", "pk").distinct("batch_id").values_list("batch_id", "pk", "version")
    )
    of_batch = {batch_id: (pk, version) for batch_id, pk, version in first} if waiting else {}
    found = starts.expected(dict(of_batch.values()))
    for page in waiting:
        page.start = found.get(of_batch[page.batch.pk][0]) if page.batch.pk in of_batch else None
