"""What is asked of the usage page: measure, group, span and bars, all of it in the address."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any, cast

from django import forms
from django.forms import BoundField
from django.utils.translation import gettext, gettext_lazy, pgettext_lazy

from apps.jobs import rollup, usage
from apps.jobs.pages.measures import MEASURES

# The most days that may be chosen: a first load of the page is weighed (tests/browser/test_weight.py).
HOURS_AT_MOST = timedelta(days=8)
DAYS_AT_MOST = timedelta(days=92)  # a quarter
BARS = {
    "": gettext_lazy("Bars: automatic"),
    "hour": gettext_lazy("Bars by hour"),
    "day": gettext_lazy("Bars by day"),
    "week": gettext_lazy("Bars by week"),
}
GROUPS = {
    "model": gettext_lazy("Model"),
    "key": gettext_lazy("API key"),
    "member": gettext_lazy("Member"),
    "site": gettext_lazy("Site"),
    "day": gettext_lazy("Day or week"),
}
CUSTOM = "custom"
HOURS = "hours"  # chosen in the chart
RANGES = {
    "today": gettext_lazy("Today"),
    "7d": gettext_lazy("Last 7 days"),
    "30d": gettext_lazy("Last 30 days"),
    "month": gettext_lazy("This month"),
    "last-month": gettext_lazy("Last month"),
    "90d": gettext_lazy("Last 90 days"),
    "365d": gettext_lazy("Last 365 days"),
    CUSTOM: gettext_lazy("From and to"),
}
LAST_DAYS = {"today": 1, "7d": 7, "30d": 30, "90d": 90, "365d": 365}
ENDS = {CUSTOM: ("start", "end"), HOURS: ("first_hour", "last_hour")}  # of a range, by the fields that say it
HOUR_FORM = "%Y-%m-%dT%H:00"  # UTC, as in the CSV


class HourField(forms.Field):
    """An hour of UTC of this century, which no reader types."""

    widget = forms.HiddenInput

    def to_python(self, value: Any) -> datetime | None:
        if not value:
            return None
        try:
            hour = datetime.strptime(value, HOUR_FORM).replace(tzinfo=UTC)
        except ValueError:
            raise forms.ValidationError(gettext("This is not an hour.")) from None
        if hour.year < 2000:
            raise forms.ValidationError(gettext("This is not an hour."))
        return hour


class UsageForm(forms.Form):
    """An unknown value in a shared address shows the default and says so. `days_at_most` may be shown by day."""

    measure = forms.ChoiceField(
        label=gettext_lazy("Measure"), required=False, choices=[(k, gettext_lazy(m.name)) for k, m in MEASURES.items()]
    )
    group = forms.ChoiceField(label=gettext_lazy("Group by"), required=False, choices=list(GROUPS.items()))
    range = forms.ChoiceField(label=gettext_lazy("Time"), required=False, choices=list(RANGES.items()))
    bars = forms.ChoiceField(label=gettext_lazy("Bars"), required=False, choices=list(BARS.items()))
    start = forms.DateField(
        label=pgettext_lazy("day", "From"), required=False, widget=forms.DateInput(attrs={"type": "date"})
    )
    end = forms.DateField(
        label=pgettext_lazy("day", "To"), required=False, widget=forms.DateInput(attrs={"type": "date"})
    )

    first_hour = HourField(label=gettext_lazy("From hour"), required=False)
    last_hour = HourField(label=gettext_lazy("To hour"), required=False)

    def __init__(self, data: Any, today: date, *, days_at_most: timedelta = DAYS_AT_MOST) -> None:
        self.today = today
        self.days_at_most = days_at_most
        super().__init__({name: data.get(name) or value for name, value in defaults(data, today).items()})
        for name in ("measure", "group", "range", "bars"):
            self.fields[name].widget.attrs["class"] = "select"
        for name in ("start", "end"):
            self.fields[name].widget.attrs["class"] = "input"
        if self.data["range"] == HOURS:
            cast(forms.ChoiceField, self.fields["range"]).choices = [*RANGES.items(), (HOURS, gettext("Chosen hours"))]

    @property
    def shown(self) -> list[BoundField]:
        """The two days, or the two hours, only where they count."""
        left_out = [name for span, ends in ENDS.items() if span != self.data["range"] for name in ends]
        return [field for field in self if field.name not in left_out]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        start, end = cleaned.get("start"), cleaned.get("end")
        if cleaned.get("range") == CUSTOM and not ({"start", "end"} & set(self.errors)):
            if start is None or end is None:
                self.add_error("start" if start is None else "end", gettext("Choose both days, or another time."))
            elif end < start:
                self.add_error("end", gettext("The last day is before the first."))
            elif end - start >= usage.LONGEST_SPAN:
                self.add_error(
                    "end", gettext("At most %(days)s days can be shown at once.") % {"days": usage.LONGEST_SPAN.days}
                )
        if cleaned.get("range") == HOURS and not ({"first_hour", "last_hour"} & set(self.errors)):
            first_hour, last_hour = cleaned.get("first_hour"), cleaned.get("last_hour")
            if first_hour is None or last_hour is None:
                missing = "first_hour" if first_hour is None else "last_hour"
                self.add_error(missing, gettext("Choose both hours, or another time."))
            elif last_hour < first_hour:
                self.add_error("last_hour", gettext("The last hour is before the first."))
            elif last_hour - first_hour >= HOURS_AT_MOST:
                self.add_error(
                    "last_hour", gettext("At most %(days)s days can be shown by hour.") % {"days": HOURS_AT_MOST.days}
                )
            elif cleaned.get("bars") == "week":
                self.add_error("bars", gettext("Chosen hours have no bars by week; choose by hour or by day."))
        elif not self.errors:
            first, last = self.dates(self.today)
            if cleaned.get("bars") == "hour" and last - first >= HOURS_AT_MOST:
                self.add_error(
                    "bars", gettext("At most %(days)s days can be shown by hour.") % {"days": HOURS_AT_MOST.days}
                )
            if cleaned.get("bars") == "day" and last - first >= self.days_at_most:
                self.add_error(
                    "bars",
                    gettext("At most %(days)s days can be shown by day. The CSV has every day.")
                    % {"days": self.days_at_most.days},
                )
        return cleaned

    def span(self, now: datetime) -> tuple[datetime, datetime]:
        """From the first moment to before the last, UTC; it never ends after now."""
        if self.hours is not None:
            this = rollup.hour_of(now)
            first_hour, last_hour = (min(hour, this) for hour in self.hours)
            return first_hour, min(last_hour + rollup.HOUR, now)
        today = now.astimezone(UTC).date()
        first, last = self.dates(today)
        return midnight(first), min(midnight(last + timedelta(days=1)), now)

    @property
    def hours(self) -> tuple[datetime, datetime] | None:
        """The first and the last, where hours are chosen."""
        first_hour, last_hour = self.cleaned_data.get("first_hour"), self.cleaned_data.get("last_hour")
        if self.cleaned_data.get("range") != HOURS or first_hour is None or last_hour is None:
            return None
        return first_hour, last_hour

    def dates(self, today: date) -> tuple[date, date]:
        asked, first_of_month = self.cleaned_data.get("range"), today.replace(day=1)
        match asked:
            case "month":
                return first_of_month, today
            case "last-month":
                last = first_of_month - timedelta(days=1)
                return last.replace(day=1), last
            case "custom" if self.cleaned_data.get("start") and self.cleaned_data.get("end"):
                return min(self.cleaned_data["start"], today), min(self.cleaned_data["end"], today)
        return today - timedelta(days=LAST_DAYS.get(asked or "", LAST_DAYS["30d"]) - 1), today


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def defaults(data: Any, today: date) -> dict[str, str]:
    """Days without a range mean those days, hours those hours; "from and to" without days begins with the last 30."""
    given = [span for span, ends in ENDS.items() if any(data.get(name) for name in ends)]
    days = ("", "") if CUSTOM in given or data.get("range") != CUSTOM else (f"{today - timedelta(days=29)}", f"{today}")
    return {
        "measure": "spend",
        "group": "model",
        "range": given[-1] if given else "30d",
        "bars": "",
        "start": days[0],
        "end": days[1],
        "first_hour": "",
        "last_hour": "",
    }
