"""What the page of exports shows: read here, so that its view and its socket render the same parts."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.translation import gettext, pgettext_lazy

from apps.accounts.models import Organization
from apps.core import numbers
from apps.jobs.pages.progress import EARLY_SECONDS, EARLY_SHARE, left_in_words
from apps.portal import exporting, selectors
from apps.portal.models import Export
from cango_portal import database

SHOWN = 5
# The parts of the file, as it is said what is being written.
TITLES = {
    "members": pgettext_lazy("in an export", "members"),
    "invitations": pgettext_lazy("in an export", "invitations"),
    "api_keys": pgettext_lazy("in an export", "API keys"),
    "webhooks": pgettext_lazy("in an export", "webhooks"),
    "limits": pgettext_lazy("in an export", "limits"),
    "company": pgettext_lazy("in an export", "the company"),
    "payments": pgettext_lazy("in an export", "payments"),
    "refunds": pgettext_lazy("in an export", "refunds"),
    "invoices": pgettext_lazy("in an export", "invoices"),
    "transfers": pgettext_lazy("in an export", "movements"),
    "batches": pgettext_lazy("in an export", "batches"),
    "files": pgettext_lazy("in an export", "the list of files"),
    "jobs": pgettext_lazy("in an export", "jobs"),
    "texts": pgettext_lazy("in an export", "texts of jobs"),
    "audit": pgettext_lazy("in an export", "the audit log"),
}


class ExportsPage:
    """The newest exports of an organization, as they are at `at`, the database's clock in µs.

    `said` is the end that the reader was told before: the time left does not grow, unless it says so.
    """

    def __init__(
        self,
        organization: Organization,
        exports: list[Export],
        *,
        at: int = 0,
        now: datetime | None = None,
        said: datetime | None = None,
    ) -> None:
        self.organization = organization
        self.exports = exports
        self.at = at
        self.now = now or timezone.now()
        self.said = said

    @property
    def topic(self) -> str:
        return exporting.topic(self.organization.pk)

    @property
    def kept_days(self) -> int:
        return exporting.KEPT.days

    @property
    def newest(self) -> Export | None:
        return self.exports[0] if self.exports else None

    @property
    def open(self) -> Export | None:
        """The one that is being made: there is one at a time."""
        return self.newest if self.newest and self.newest.is_open else None

    @property
    def failed(self) -> Export | None:
        """The newest, where it failed: what to do about it is said above the list."""
        return self.newest if self.newest and self.newest.state == Export.State.FAILED else None

    @property
    def phase(self) -> list[tuple[Any, ...]]:
        """What has another value has other parts; all else is figures."""
        return [(row.pk, row.state, row.take, row.total, row.path) for row in self.exports]

    # The one that is being made

    @property
    def done(self) -> int:
        """Rows that came after they were counted are written too."""
        return min(self.open.done, self.open.total) if self.open else 0

    @property
    def percent(self) -> str:
        return numbers.percent(self.done / self.open.total) if self.open and self.open.total else numbers.NONE

    @property
    def doing(self) -> str:
        """What is written now."""
        if self.open is None or not self.open.part:
            return ""
        if self.open.part == exporting.STORING:
            return gettext("Storing the file")
        return gettext("Writing %(part)s") % {"part": part_in_words(self.open.part)}

    @cached_property
    def ends_at(self) -> datetime | None:
        """At the rate so far; what was said before holds until it has passed. None: nobody knows."""
        export = self.open
        if export is None or export.begun_at is None or not self.done:
            return None
        seconds = (self.now - export.begun_at).total_seconds()
        if seconds <= 0 or (seconds < EARLY_SECONDS and self.done < export.total * EARLY_SHARE):
            return None
        left = (export.total - self.done) * seconds / self.done
        ends = self.now + timedelta(seconds=max(1, left))
        return min(ends, self.said) if self.said and self.said > self.now else ends

    @property
    def eta(self) -> str:
        if self.open is None or self.ends_at is None or self.open.part == exporting.STORING:
            return ""
        left = left_in_words((self.ends_at - self.now).total_seconds())
        if self.said and self.ends_at > self.said:
            return gettext("Takes longer than expected, %(left)s left") % {"left": left}
        return gettext("%(left)s left") % {"left": left}

    # The one that ended

    @property
    def why(self) -> str:
        """What is known of a failure: a try ends with its worker, and the row says where the last one stood."""
        if self.failed is None:
            return ""
        if self.failed.part == exporting.STORING:
            where = gettext("The last try ended while the file was being stored.")
        elif self.failed.part:
            part = part_in_words(self.failed.part)
            where = gettext("The last try ended while this was being written: %(part)s.") % {"part": part}
        else:
            where = gettext("The last try ended before anything was written.")
        tried = gettext("It was tried %(takes)s times.") % {"takes": exporting.TAKES}
        return f"{tried} {where}"

    @property
    def ending(self) -> str:
        """To those who cannot see that the newest has ended."""
        if self.failed:
            return gettext("The export failed.")
        if self.newest and self.newest.path:
            return gettext("The export is done. Its file can be downloaded.")
        return ""

    def fields(self) -> dict[str, Any]:
        """What a `set` message carries: texts ready to show, and the value of the progress bar."""
        return {
            "done": numbers.count(self.done),
            "value": self.done,
            "percent": self.percent,
            "eta": self.eta,
            "doing": self.doing,
        }


def part_in_words(name: str) -> str:
    return str(TITLES.get(name, name))


def load(organization: Organization, *, said: datetime | None = None) -> ExportsPage:
    at = database.run(selectors.clock())
    rows = Export.objects.filter(organization=organization).select_related("user").order_by("-pk")
    return ExportsPage(organization, list(rows[:SHOWN]), at=at, said=said)


def parts(page: ExportsPage) -> str:
    """Every part of the page that changes with an export, each known by its id."""
    return render_to_string("portal/_exports.html", {"page": page})
