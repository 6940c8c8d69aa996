"""How far a job is: what was counted, how fast, how long still."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from django.utils import timezone
from django.utils.translation import gettext, ngettext

from apps.accounts.times import written
from apps.core import numbers
from apps.jobs import reasons
from apps.jobs.models import Job
from apps.jobs.pages import timeline
from apps.jobs.pages.written import Written

EARLY_SECONDS = 10  # the time left is shown after so long,
EARLY_SHARE = 0.05  # or once this share is done
LEFT_STEP = 5  # the time left is said in steps of so many seconds, below a minute


class Progress:
    """`live` is what the attempt in force has written so far, for a job that runs.

    `said` is the end that the reader was told before: the time left does not grow, unless it says so.
    """

    def __init__(
        self, job: Job, live: Written | None = None, now: datetime | None = None, said: datetime | None = None
    ) -> None:
        self.job = job
        self.live = live or Written()
        self.now = now or timezone.now()
        self.said = said

    @property
    def prompt_tokens(self) -> int:
        return max(self.job.prompt_tokens, self.live.usage.prompt_tokens)

    @property
    def cached_prompt_tokens(self) -> int:
        return min(max(self.job.cached_prompt_tokens, self.live.usage.cached_prompt_tokens), self.prompt_tokens)

    @property
    def completion_tokens(self) -> int:
        return max(self.job.completion_tokens, self.live.usage.completion_tokens)

    @property
    def pages(self) -> int:
        return max(self.job.pages if self.job.is_final else 0, self.live.usage.pages, self.live.done or 0)

    @property
    def total_pages(self) -> int:
        return self.live.total or self.job.total_pages

    @property
    def done(self) -> int:
        """What the large figure counts: pages read, tokens written, or, of embeddings, tokens read."""
        if self.job.kind == "ocr":
            return self.pages
        return self.completion_tokens if self.job.writes else self.prompt_tokens

    @property
    def at_most(self) -> int:
        """What `done` can reach; 0 where nobody knows."""
        if self.job.kind == "ocr":
            return self.total_pages
        return self.job.max_completion_tokens if self.job.writes else 0

    @property
    def unit(self) -> str:
        if self.job.kind == "ocr":
            if not self.at_most:
                return gettext("pages")
            return ngettext("of %(count)s page", "of %(count)s pages", self.at_most) % {
                "count": numbers.count(self.at_most)
            }
        if not self.job.writes:
            return gettext("tokens read")
        if self.job.is_final:
            return gettext("tokens written")
        return gettext("of at most %(count)s tokens") % {"count": numbers.count(self.at_most)}

    @property
    def first_token_at(self) -> datetime | None:
        if self.job.first_token_at:
            return self.job.first_token_at
        return (
            datetime.fromtimestamp(self.live.first_at, tz=timezone.get_default_timezone())
            if self.live.first_at
            else None
        )

    @property
    def first_token_seconds(self) -> float | None:
        """From admission, as the customer waits for it."""
        seconds = (self.first_token_at - self.job.created_at).total_seconds() if self.first_token_at else None
        return seconds if seconds is None or seconds > 0 else None

    @property
    def running_seconds(self) -> float | None:
        """How long it has run, or did."""
        if not self.job.started_at:
            return None
        return max(0.0, ((self.job.finished_at or self.now) - self.job.started_at).total_seconds())

    @property
    def elapsed(self) -> str:
        """From admission, as the time to the first token. Until the end in whole seconds, as the browser counts on."""
        if self.job.finished_at:
            return numbers.duration(max(0.0, (self.job.finished_at - self.job.created_at).total_seconds()))
        seconds = max(0, int(self.now.timestamp()) - int(self.job.created_at.timestamp()))
        return f"{seconds}{numbers.SPACE}s" if seconds < 60 else numbers.duration(seconds)

    @property
    def per_second(self) -> float | None:
        begun = self.first_token_at if self.job.writes else self.job.started_at
        if not begun or not self.done:
            return None
        seconds = ((self.job.finished_at or self.now) - begun).total_seconds()
        return self.done / seconds if seconds > 0.2 else None

    @property
    def rate(self) -> str:
        if self.per_second is None:
            return numbers.NONE
        if self.job.kind == "ocr":
            return f"{self.per_second:.1f}{numbers.SPACE}{gettext('pages/s')}"
        return numbers.rate(self.per_second)

    @property
    def eta(self) -> str:
        """When it is over, as far as one can know; nothing is invented."""
        if self.job.state == "queued":
            deadline = timezone.localtime(self.job.deadline_at)
            today = deadline.date() == timezone.localtime(self.now).date()
            by = written(deadline, "H:i" if today else "j M H:i")
            return gettext("Starts by %(by)s or expires, free of charge") % {"by": by}
        ends = self.ends_at
        if ends is None:
            return ""
        left = left_in_words((ends - self.now).total_seconds())
        if self.said and ends > self.said:
            return gettext("Takes longer than expected, %(left)s left") % {"left": left}
        return (
            gettext("%(left)s left") % {"left": left}
            if self.job.kind == "ocr"
            else gettext("Ends by itself, in %(left)s at the latest") % {"left": left}
        )

    @property
    def time_left(self) -> str:
        """In a column."""
        if self.ends_at is None:
            return numbers.NONE
        left = left_in_words((self.ends_at - self.now).total_seconds())
        return left if self.job.kind == "ocr" else gettext("at most %(left)s") % {"left": left}

    @property
    def ends_at(self) -> datetime | None:
        """When it is done at the rate so far; what was said before holds until it has passed. None: nobody knows."""
        if self.job.state != "running" or not self.per_second or not self.at_most:
            return None
        if (self.running_seconds or 0) < EARLY_SECONDS and self.done < self.at_most * EARLY_SHARE:
            return None
        ends = self.now + timedelta(seconds=max(1, (self.at_most - self.done) / self.per_second))
        return min(ends, self.said) if self.said and self.said > self.now else ends

    @property
    def bar(self) -> int:
        """Of a job that ended, the bar is full where it did all it could; otherwise it stands where it stopped."""
        return self.bar_most if self.job.state == "succeeded" else self.done

    @property
    def bar_most(self) -> int:
        return max(self.at_most, self.done, 1)

    @property
    def bar_label(self) -> str:
        if self.job.kind == "ocr":
            return gettext("Pages read")
        return gettext("Tokens written, of the maximum asked for") if self.job.writes else gettext("Tokens read")

    @property
    def row_reason(self) -> str:
        """In a list: why it is not simply done."""
        if self.job.state == "failed":
            return reasons.said(self.job.error_message) or gettext("nothing charged")
        if self.job.state in ("queued", "expired"):
            return reasons.said(self.job.reason)
        if self.job.state == "cancelled" and timeline.by_operator(self.job):
            return reasons.said(self.job.reason)
        return gettext("stopping") if self.job.cancel_requested_at and not self.job.is_final else ""


def left_in_words(seconds: float) -> str:
    """Rounded up, coarsely, so that it does not waver: steps of 5 s below a minute, then minutes."""
    if seconds <= 60 - LEFT_STEP:
        return f"{max(1, math.ceil(seconds / LEFT_STEP)) * LEFT_STEP}{numbers.SPACE}s"
    return numbers.duration(math.ceil(seconds / 60) * 60)
