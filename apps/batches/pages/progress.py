"""How far a batch is: rows done, how fast, how long still, and where."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from functools import cached_property

from django.db.models import Count
from django.utils import timezone
from django.utils.translation import gettext, ngettext

from apps.accounts.times import written
from apps.batches.models import Batch, Row
from apps.core import numbers
from apps.jobs import reasons
from apps.jobs.models import Job, JobQuerySet
from apps.jobs.pages import start
from apps.jobs.pages.progress import left_in_words
from apps.jobs.pages.start import Start
from apps.scheduling import placement

EARLY_SECONDS, EARLY_SHARE = 10, 0.05  # the time left is shown after either


class Progress:
    def __init__(self, batch: Batch, now: datetime | None = None) -> None:
        self.batch = batch
        self.now = now or timezone.now()

    @staticmethod
    def rows(count: int) -> str:
        return ngettext("%(count)s row", "%(count)s rows", count) % {"count": numbers.count(count)}

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
        if self.has_not_begun:
            return self.waiting
        return ""

    @property
    def waiting(self) -> str:
        most = self.batch.max_power_usd_per_mwh
        if most is not None:
            return gettext("Waits until a MWh costs less than %(price)s at a site") % {"price": f"${most:,.2f}"}
        return reasons.said(self.start.reason if self.start else placement.FULL)

    @property
    def has_not_begun(self) -> bool:
        return self.batch.state == "in_progress" and not self.done and not self.sites

    @cached_property
    def start(self) -> Start | None:
        """Of one that has not begun, when its first shard in line is expected to."""
        if not self.has_not_begun:
            return None
        first = self.open_shards.filter(state="queued").order_by("deadline_at", "pk").values_list("pk", flat=True)[:1]
        return next(iter(start.expected(first, self.now).values()), None)

    @property
    def starts(self) -> str:
        """When it is expected to; empty where nobody knows, or where it began."""
        return self.start.words if self.start else ""

    @property
    def open_shards(self) -> JobQuerySet:
        """By the index of the organization's open jobs."""
        return Job.objects.open().filter(organization_id=self.batch.organization_id, batch_id=self.batch.pk)

    @cached_property
    def sites(self) -> list[tuple[str, int]]:
        """Where its rows were done and how many at each, most first; then where shards are now that have none yet."""
        site = "job__pool__node__site__name"
        counted = Row.objects.filter(batch=self.batch, job__pool__isnull=False).values_list(site)
        found = dict(counted.annotate(count=Count("line")).order_by("-count"))
        now = self.open_shards.filter(pool__isnull=False)
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
