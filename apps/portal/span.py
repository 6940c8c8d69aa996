"""The days an overview looks at, as its address says: today, 7 or 30 days of UTC, the running one included."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils.translation import gettext, gettext_lazy

from apps.accounts.models import Organization
from apps.jobs.pages.day import DayPage, DaysPage
from apps.jobs.pages.usage_form import UsageForm, midnight

DAYS = {"today": 1, "7d": 7, "30d": 30}  # by the names of the usage page's ranges
LABELS = {"today": gettext_lazy("Today"), "7d": gettext_lazy("7 days"), "30d": gettext_lazy("30 days")}


@dataclass(frozen=True, slots=True)
class Span:
    name: str

    @classmethod
    def of(cls, name: str) -> Span:
        """Today, where there is none of that name."""
        return cls(name if name in DAYS else "today")

    @property
    def days(self) -> int:
        return DAYS[self.name]

    @property
    def is_today(self) -> bool:
        return self.days == 1

    @property
    def topic(self) -> str:
        """What feeds its figures."""
        return "overview" if self.is_today else f"overview.{self.name}"

    @property
    def choices(self) -> list[tuple[str, str, bool]]:
        """What may be asked for, what it is called, and whether it is this."""
        return [
            ("" if name == "today" else f"?range={name}", str(label), name == self.name)
            for name, label in LABELS.items()
        ]

    @property
    def words(self) -> str:
        """Beside what is of these days."""
        return gettext("today") if self.is_today else self._said(gettext("last %(days)s days"))

    @property
    def spend(self) -> str:
        return gettext("Spend today") if self.is_today else self._said(gettext("Spend in %(days)s days"))

    @property
    def requests(self) -> str:
        return gettext("Requests today") if self.is_today else self._said(gettext("Requests in %(days)s days"))

    def _said(self, text: str) -> str:
        return text % {"days": self.days}

    def start(self, now: datetime) -> datetime:
        """Its first moment."""
        return midnight(now.astimezone(UTC).date() - timedelta(days=self.days - 1))

    def page(self, organization: Organization, now: datetime, **asked: Any) -> DaysPage:
        """A measure of these days: the usage page's own sums."""
        kind = DayPage if self.is_today else DaysPage
        return kind(organization, UsageForm({"range": self.name, **asked}, now.date()), now)
