"""How a job waits: why, its place in line, and when it is expected to start."""

from __future__ import annotations

from functools import cached_property

from django.db.models import Q

from apps.catalog.models import Tier
from apps.jobs import reasons
from apps.jobs.models import Job
from apps.jobs.pages import start, timeline
from apps.jobs.pages.progress import Progress
from apps.jobs.pages.start import Start
from apps.scheduling import placement


class Waiting(Progress):
    @cached_property
    def position(self) -> int | None:
        if self.job.state != "queued":
            return None
        before = Tier.values[: Tier.values.index(self.job.tier)]  # they are named in their order
        sooner = Q(tier__in=before) | Q(tier=self.job.tier, deadline_at__lte=self.job.deadline_at)
        return max(
            1, Job.objects.filter(sooner, state="queued", model_id=self.job.model_id, batch_id__isnull=True).count()
        )

    @cached_property
    def start(self) -> Start | None:
        """Whoever lists many reads them together."""
        return start.expected([self.job.pk], self.now).get(self.job.pk) if self.job.state == "queued" else None

    @property
    def why_waits(self) -> str:
        """What was stored when it came into line holds as long as the pools are as they were then."""
        stored = self.job.reason or placement.FULL
        return self.start.reason if self.start and stored.startswith("Waiting for a ") else stored

    @property
    def queue(self) -> str:
        """Why it waits, and its place in line."""
        reason = reasons.said(self.why_waits).rstrip(".")
        reason = reason[:1].lower() + reason[1:]
        return f"{reason}, {timeline.place(self.position)}" if self.position else reason

    @property
    def starts(self) -> str:
        """When it is expected to; empty where nobody knows."""
        return self.start.words if self.start else ""
