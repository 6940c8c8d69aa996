"""What runs now: an organization's batches and jobs that have not ended, as the overview lists them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.template.loader import render_to_string
from django.utils.translation import gettext

from apps.batches.pages import listing as batches
from apps.batches.pages.batch import BatchPage
from apps.core import numbers
from apps.jobs.models import Job
from apps.jobs.pages.job import JobPage, listed
from apps.jobs.pages.start import Kept, Start
from apps.jobs.templatetags.job_states import STATES
from apps.portal import selectors
from cango_portal import database

BATCHES, JOBS = 5, 10  # listed
COUNTED = 1_000  # jobs, at most


@dataclass(frozen=True, slots=True)
class Running:
    """Batches come first: they stay, and jobs come and go. Of those the newest that run, then who waits, the next in line first.

    `at` is the version on the socket.
    """

    at: int
    batches: list[BatchPage]
    jobs: list[JobPage]
    states: list[str]  # of all that have not ended, COUNTED + 1 jobs and batches each at most

    @property
    def counts(self) -> str:
        """How many are in each state, in words."""
        if len(self.states) > COUNTED:
            return gettext("more than %(count)s") % {"count": numbers.count(COUNTED)}
        found = Counter(self.states)
        words = [
            gettext("%(count)s %(state)s") % {"count": found[state], "state": str(word).lower()}
            for state, (word, *_) in STATES.items()
            if found[state]
        ]
        return gettext(", ").join(words)

    @property
    def standing(self) -> list[Any]:
        """What is shown but for the figures, which come by a topic of each row."""
        return [self.counts, *self._rows()]

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        for batch in self.batches:
            yield batch.topic, batch.batch.state, tuple(batch.sites), batch.starts, batch.waiting if batch.start else ""
        for job in self.jobs:
            yield job.topic, job.job.version, job.starts, job.queue if job.start else job.position

    @property
    def pages(self) -> list[BatchPage | JobPage]:
        return [*self.batches, *self.jobs]

    @property
    def waits(self) -> bool:
        """Does anything listed move without a word of its own?"""
        return any(page.start for page in self.pages)

    def keep(self, said: dict[str, Start]) -> dict[str, Start]:
        """Hold what the reader was told by topic, and return what they are told now."""
        told = {}
        for page in self.pages:
            before = said.get(page.topic)
            if page.start:
                page.start = page.start.after(before)
                if kept := page.start if page.start.at else before:
                    told[page.topic] = kept
        return told


def load(organization_id: UUID, starts: Kept | None = None) -> Running:
    """`starts` are those that were read already."""
    starts = starts or Kept()
    at = database.run(selectors.clock())
    jobs = Job.objects.filter(organization_id=organization_id, batch_id__isnull=True).open()
    found = list(jobs.values_list("pk", "state")[: COUNTED + 1])
    running = [pk for pk, state in found if state != Job.State.QUEUED]
    waiting = sorted(pk for pk, state in found if state == Job.State.QUEUED)
    if len(found) > COUNTED:
        running = list(jobs.exclude(state=Job.State.QUEUED).values_list("pk", flat=True)[:COUNTED])
        waiting = list(jobs.filter(state=Job.State.QUEUED).order_by("pk").values_list("pk", flat=True)[:JOBS])
    chosen = [*sorted(running, reverse=True), *waiting][:JOBS]
    shown = jobs.select_related("model", "price", "pool__node__site").in_bulk(chosen)
    pages = listed(shown[pk] for pk in chosen if pk in shown)  # what ended in between is left out
    queued = [page for page in pages if page.job.state == Job.State.QUEUED]
    found_starts = starts.expected({page.job.pk: page.job.version for page in queued})
    for page in queued:
        page.start = found_starts.get(page.job.pk)
    listing = batches.running(organization_id, limit=BATCHES, starts=starts)
    return Running(
        at, listing, pages, [*batches.states(organization_id, limit=COUNTED + 1), *(state for _, state in found)]
    )


def part(running: Running) -> str:
    return render_to_string("portal/_running.html", {"running": running})
