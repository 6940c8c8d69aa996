"""One job as its page shows it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any
from uuid import UUID

from django.template.loader import render_to_string
from django.utils.translation import gettext

from apps.core import numbers
from apps.jobs import statements
from apps.jobs.models import Event, Job
from apps.jobs.pages import timeline, waterfall, written
from apps.jobs.pages.exchange import Exchange
from apps.jobs.pages.receipt import Receipt
from apps.jobs.pages.timeline import Attempt, Step
from apps.jobs.pages.written import Written
from cango_portal import database

VERSION_SHIFT = 2**32  # a job's version on the socket: its own, then what was counted within it


class JobPage(Exchange, Receipt):
    @property
    def topic(self) -> str:
        return f"job.{self.job.public_id}"

    @property
    def at(self) -> int:
        """The version of this state on the socket."""
        return version(self.job.version, self.live)

    @property
    def views(self) -> list[tuple[str, str]]:
        """(name, label) of the page's tabs."""
        attempts = gettext("Attempts")
        attempts = f"{attempts} ({len(self.attempts)})" if len(self.attempts) > 1 else attempts
        return [
            ("output", gettext("Output")),
            ("request", gettext("Request")),
            ("attempts", attempts),
            ("events", gettext("Events")),
            ("code", gettext("Code")),
        ]

    @cached_property
    def events(self) -> list[Event]:
        return list(Event.objects.filter(job=self.job).order_by("number"))

    @cached_property
    def attempts(self) -> list[Attempt]:
        return timeline.attempts(self.events)

    @property
    def steps(self) -> list[Step]:
        site = self.site
        running = ""
        if self.job.pool and site:
            running = gettext("On %(node)s, %(region)s") % {"node": self.job.pool.node.code, "region": site.region}
        return timeline.steps(
            self.job,
            self.events,
            position=self.position,
            running=running,
            decimals=self.decimals,
            waits=self.why_waits if self.start else "",
        )

    @property
    def stages(self) -> list[waterfall.Stage]:
        return waterfall.stages(self.job, self.first_token_at)

    @property
    def site(self) -> Any:
        return self.job.pool.node.site if self.job.pool else None

    @property
    def others(self) -> list[tuple[str, str]]:
        return timeline.others(self.job.placement)

    def fields(self) -> dict[str, Any]:
        """What a `set` message carries while it runs: texts ready to show, and the value of the progress bar."""
        shown: dict[str, Any] = {
            "done": numbers.count(self.done),
            "value": self.done,
            "rate": self.rate,
            "eta": self.eta,
            "time_left": self.time_left,
            "read": numbers.count(self.prompt_tokens),
            "first": numbers.latency(self.first_token_seconds) if self.first_token_seconds else numbers.NONE,
            "cost": numbers.money_column(self.cost_microusd),
            "prompt": numbers.count(self.prompt_tokens),
            "completion": numbers.count(self.completion_tokens),
        }
        for line in self.lines:
            shown[line.field] = numbers.money_column(line.microusd)
            shown[f"{line.field}_sub"] = line.sub
        return shown


def version(own: int, live: Written) -> int:
    return own * VERSION_SHIFT + min(live.count, VERSION_SHIFT - 1)


def load(job_id: UUID) -> JobPage:
    """Raises Job.DoesNotExist. Two readings: the row with what belongs to it, and a running attempt's stream."""
    related = ("model", "price", "file", "content", "api_key", "user", "pool__node__site")
    job = Job.objects.select_related(*related).get(pk=job_id)
    live = written.read(job.pool.code, job_id, job.attempt) if job.state == "running" and job.pool else None
    return JobPage(job, live)


def listed(jobs: Iterable[Job]) -> list[JobPage]:
    """Pages of many jobs, their places in line read together."""
    pages = [JobPage(job) for job in jobs]
    waiting = [page for page in pages if page.job.state == Job.State.QUEUED]
    found = database.run(statements.positions(page.job.pk for page in waiting)) if waiting else {}
    for page in waiting:
        page.position = found.get(page.job.pk)
    return pages


def parts(page: JobPage, *, output: bool) -> str:
    """Every part of a page that a new phase renders anew, each known by its id."""
    return render_to_string("jobs/_parts.html", {"page": page, "job": page.job, "output": output})
