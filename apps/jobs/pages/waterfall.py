"""Where the time of a job went, stage by stage, from its admission to its end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext

from apps.core import numbers
from apps.jobs.models import Job

WHOLE = 100.0


@dataclass(frozen=True, slots=True)
class Stage:
    """`x` and `width` in hundredths of the whole, as SVG takes them."""

    title: str
    took: str
    x: str
    width: str


def stages(job: Job, first_token_at: datetime | None) -> list[Stage]:
    """Of a job that has ended and took some time. A stage it never reached is left out.

    Times come from two clocks, the portal's and the node's: none begins before the one above it or ends after the job.
    """
    if job.finished_at is None or (whole := (job.finished_at - job.created_at).total_seconds()) <= 0:
        return []
    reached: list[tuple[str, datetime | None]] = [
        (gettext("Queue and earlier attempts") if job.attempt > 1 else gettext("Queue"), job.created_at),
        (gettext("Route to the site"), job.dispatched_at),
        (gettext("First token") if job.writes and first_token_at else gettext("Work"), job.started_at),
        (gettext("Rest of the answer"), first_token_at if job.writes else None),
    ]
    begun = [(title, at) for title, at in reached if at is not None]
    found, since = [], 0.0
    for number, (title, _) in enumerate(begun):
        ends = begun[number + 1][1] if number + 1 < len(begun) else job.finished_at
        until = min(max((ends - job.created_at).total_seconds(), since), whole)
        x, width = since / whole * WHOLE, (until - since) / whole * WHOLE
        found.append(Stage(title, numbers.latency(until - since), f"{x:.2f}", f"{width:.2f}"))
        since = until
    return found
