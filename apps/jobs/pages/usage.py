"""The usage page: one measure, in groups, over time; all of it in the address."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from typing import Any

from django import forms
from django.forms import BoundField
from django.utils.translation import gettext, gettext_lazy, gettext_noop, pgettext_lazy

from apps.accounts.models import Organization
from apps.accounts.times import written
from apps.core import numbers
from apps.jobs import usage
from apps.jobs.usage import Group, Used
from cango_portal import database

MOST_SERIES = 4  # and "Other" (design guide, §9)
PLOT = 100.0
GAP = 0.2  # of a bar's room
HOURS_UP_TO = timedelta(days=2)
HOURS_AT_MOST = timedelta(days=8)
BARS = {
    "": gettext_lazy("Bars by themselves"),
    "hour": gettext_lazy("Bars by hour"),
    "day": gettext_lazy("Bars by day"),
}


@dataclass(frozen=True, slots=True)
class Measure:
    """`name` and `counts` are in English."""

    name: str
    counts: str
    of: Callable[[Used], float]
    text: Callable[[Any], str]

    @property
    def title(self) -> str:
        return gettext(self.name)

    @property
    def unit(self) -> str:
        return gettext(self.counts)


MEASURES = {
    "spend": Measure(
        gettext_noop("Spend"), "USD", lambda row: row.charge_microusd, lambda value: numbers.money(round(value))
    ),
    "tokens": Measure(
        gettext_noop("Tokens"),
        gettext_noop("input and output"),
        lambda row: row.tokens,
        lambda value: numbers.count(round(value)),
    ),
    "requests": Measure(
        gettext_noop("Requests"),
        gettext_noop("that ended"),
        lambda row: row.requests,
        lambda value: numbers.count(round(value)),
    ),
    "energy": Measure(
        gettext_noop("Energy"), gettext_noop("with host and cooling"), lambda row: row.energy_wh or 0.0, numbers.energy
    ),
    "carbon": Measure(
        gettext_noop("Carbon"), gettext_noop("CO₂ equivalent"), lambda row: row.carbon_gco2e or 0.0, numbers.carbon
    ),
}
GROUPS = {
    "model": gettext_lazy("Model"),
    "key": gettext_lazy("API key"),
    "member": gettext_lazy("Member"),
    "site": gettext_lazy("Site"),
    "day": gettext_lazy("Day"),
}
CENT = 10_000  # micro-USD
CUSTOM = "custom"
RANGES = {
    "today": gettext_lazy("Today"),
    "7d": gettext_lazy("Last 7 days"),
    "30d": gettext_lazy("Last 30 days"),
    "month": gettext_lazy("This month"),
    "last-month": gettext_lazy("Last month"),
    CUSTOM: gettext_lazy("From and to"),
}


class UsageForm(forms.Form):
    """An unknown value in a shared address shows the default and says so."""

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

    def __init__(self, data: Any, today: date) -> None:
        self.today = today
        super().__init__({name: data.get(name) or value for name, value in defaults(data, today).items()})
        for name in ("measure", "group", "range", "bars"):
            self.fields[name].widget.attrs["class"] = "select"
        for name in ("start", "end"):
            self.fields[name].widget.attrs["class"] = "input"

    @property
    def shown(self) -> list[BoundField]:
        """The two days only where they count."""
        return [field for field in self if field.name not in ("start", "end") or self.data["range"] == CUSTOM]

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
        if cleaned.get("bars") == "hour" and not self.errors:
            first, last = self.dates(self.today)
            if last - first >= HOURS_AT_MOST:
                self.add_error(
                    "bars", gettext("At most %(days)s days can be shown by hour.") % {"days": HOURS_AT_MOST.days}
                )
        return cleaned

    def span(self, now: datetime) -> tuple[datetime, datetime]:
        """From the first moment to before the last, UTC; it never ends after now."""
        today = now.astimezone(UTC).date()
        first, last = self.dates(today)
        return midnight(first), min(midnight(last + timedelta(days=1)), now)

    def dates(self, today: date) -> tuple[date, date]:
        first_of_month = today.replace(day=1)
        match self.cleaned_data.get("range"):
            case "today":
                return today, today
            case "7d":
                return today - timedelta(days=6), today
            case "month":
                return first_of_month, today
            case "last-month":
                last = first_of_month - timedelta(days=1)
                return last.replace(day=1), last
            case "custom" if self.cleaned_data.get("start") and self.cleaned_data.get("end"):
                return min(self.cleaned_data["start"], today), min(self.cleaned_data["end"], today)
        return today - timedelta(days=29), today


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def defaults(data: Any, today: date) -> dict[str, str]:
    """Days without a range mean those days; "from and to" without days begins with the last 30."""
    given = bool(data.get("start") or data.get("end"))
    days = ("", "") if given or data.get("range") != CUSTOM else (f"{today - timedelta(days=29)}", f"{today}")
    span = CUSTOM if given else "30d"
    return {"measure": "spend", "group": "model", "range": span, "bars": "", "start": days[0], "end": days[1]}


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of a bar, in hundredths of the plot."""

    path: str
    series: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table and of the legend."""

    name: str
    url: str
    used: Used
    value: str
    share: str
    width: str
    series: str


class UsagePage:
    """Everything is read when it is asked for. `now` is what it is complete until."""

    def __init__(self, organization: Organization, form: UsageForm, now: datetime) -> None:
        self.organization = organization
        self.form = form
        self.now = now
        form.is_valid()
        self.measure_name = form.cleaned_data.get("measure") or "spend"
        self.measure = MEASURES[self.measure_name]
        self.group: Group = form.cleaned_data.get("group") or "model"
        self.start, self.end = form.span(now)

    @property
    def bucket(self) -> Group:
        asked: str = self.form.cleaned_data.get("bars") or ""
        hours = asked == "hour" if asked else self.end - self.start <= HOURS_UP_TO
        return "hour" if hours else "day"

    @cached_property
    def rows(self) -> list[Used]:
        return self.read((self.group,))

    def read(self, groups: tuple[Group, ...]) -> list[Used]:
        return database.run(usage.used(self.organization.pk, start=self.start, end=self.end, groups=groups))

    @cached_property
    def total(self) -> Used:
        return usage.total(self.rows)

    @property
    def total_text(self) -> str:
        return self.text(self.measure.of(self.total))

    def text(self, value: float) -> str:
        return self.measure.text(value)

    @property
    def energy_words(self) -> str:
        if self.total.energy_wh is None:
            return gettext("not measured")
        return gettext("partly estimated") if self.total.estimated else gettext("measured at the GPU")

    @property
    def group_title(self) -> str:
        return str(GROUPS[self.group])

    @property
    def words(self) -> str:
        """The span, for people."""
        last = (self.end - timedelta(microseconds=1)).date()
        first = self.start.date()
        if first >= last:
            return written(first, "j M Y")
        return gettext("%(first)s to %(last)s") % {
            "first": written(first, "j M Y"),
            "last": written(last, "j M Y"),
        }

    @cached_property
    def ordered(self) -> list[Used]:
        """Largest first; days as they came."""
        if self.group == "day":
            return self.rows
        return sorted(self.rows, key=self.measure.of, reverse=True)

    @cached_property
    def series(self) -> dict[str | None, int]:
        """Which color each of the largest groups has; the rest are "Other", 0."""
        if self.group == "day":
            return {}
        leading = [row for row in self.ordered[:MOST_SERIES] if self.measure.of(row)]
        return {row.groups[self.group][0]: number for number, row in enumerate(leading, start=1)}

    @cached_property
    def lines(self) -> list[Line]:
        whole = self.measure.of(self.total)
        largest = max((self.measure.of(row) for row in self.rows), default=0.0)
        made = []
        for row in self.ordered:
            value = self.measure.of(row)
            key, name = row.groups[self.group]
            number = 1 if self.group == "day" else self.series.get(key, 0)
            made.append(
                Line(
                    name=day_words(name) if self.group == "day" else name,
                    url=key or "",
                    used=row,
                    value=self.text(value),
                    share=numbers.percent(value / whole) if whole else numbers.NONE,
                    width=f"{PLOT * value / largest:.2f}" if largest else "0",
                    series=str(number) if number else "",
                )
            )
        return made

    @cached_property
    def moments(self) -> list[str]:
        """The ids of the bars' buckets, none left out: no bar is a zero."""
        if self.bucket == "day":
            return [day.isoformat() for day in usage.days(self.start, self.end)]
        hours = int((self.end - self.start - timedelta(microseconds=1)).total_seconds() // 3600) + 1
        return [f"{self.start + timedelta(hours=n):%Y-%m-%dT%H:00}" for n in range(hours)]

    @cached_property
    def stacked(self) -> dict[str, dict[int, float]]:
        """bucket → series → value."""
        groups: tuple[Group, ...] = (self.bucket,) if self.group == "day" else (self.bucket, self.group)
        found: dict[str, dict[int, float]] = {moment: {} for moment in self.moments}
        for row in self.read(groups):
            number = 1 if self.group == "day" else self.series.get(row.groups[self.group][0], 0)
            bar = found.setdefault(str(row.groups[self.bucket][0]), {})
            bar[number] = bar.get(number, 0.0) + self.measure.of(row)
        return found

    @cached_property
    def highest(self) -> tuple[str, float]:
        return max(((moment, sum(bar.values())) for moment, bar in self.stacked.items()), key=lambda pair: pair[1])

    @cached_property
    def bars(self) -> list[Bar]:
        """One path for each series, bars from zero up, the largest group at the bottom."""
        top = self.highest[1]
        if not top:
            return []
        room = PLOT / len(self.stacked)
        paths: dict[int, list[str]] = {}
        for index, bar in enumerate(self.stacked.values()):
            y = PLOT
            for number in sorted(bar, key=lambda n: n or MOST_SERIES + 1):
                height = bar[number] / top * PLOT
                if height:
                    x, width = index * room + room * GAP / 2, room * (1 - GAP)
                    paths.setdefault(number, []).append(f"M{x:.2f} {y:.2f}h{width:.2f}v{-height:.2f}h{-width:.2f}z")
                    y -= height
        return [
            Bar("".join(paths[number]), f"s{number}") for number in sorted(paths, key=lambda n: n or MOST_SERIES + 1)
        ]

    @property
    def axis(self) -> list[str]:
        top = self.highest[1]
        if self.measure is MEASURES["spend"] and top < 2 * CENT:  # in words both marks would be "< $0.01"
            return [*(numbers.dollars(round(value), 6) for value in (top, top / 2)), "0"]
        return [self.text(top), self.text(top / 2), "0"]

    @property
    def times(self) -> list[str]:
        """The first, the middle and the last of the time axis."""
        moments = self.moments
        shown = [moments[0], moments[len(moments) // 2], moments[-1]] if len(moments) > 2 else moments
        return [self.moment_words(moment) for moment in shown]

    def moment_words(self, moment: str) -> str:
        return moment[11:] if self.bucket == "hour" else day_words(moment)

    @property
    def finding(self) -> str:
        """What the chart says, for those who do not see it."""
        moment, value = self.highest
        given = {
            "title": self.measure.title,
            "group": self.group_title.lower(),
            "moment": self.moment_words(moment),
            "value": self.text(value),
            "total": self.total_text,
        }
        if self.bucket == "hour":
            said = (
                gettext("%(title)s by hour. Highest hour %(moment)s with %(value)s. Total %(total)s.")
                if self.group == "day"
                else gettext(
                    "%(title)s by hour and %(group)s. Highest hour %(moment)s with %(value)s. Total %(total)s."
                )
            )
        else:
            said = (
                gettext("%(title)s by day. Highest day %(moment)s with %(value)s. Total %(total)s.")
                if self.group == "day"
                else gettext("%(title)s by day and %(group)s. Highest day %(moment)s with %(value)s. Total %(total)s.")
            )
        return said % given

    @cached_property
    def columns(self) -> list[tuple[int, str]]:
        """Number and name of each series, as the bars are stacked; nothing where there is one."""
        named = {number: line.name for line in self.lines if line.series for number in (int(line.series),)}
        if any(0 in bar for bar in self.stacked.values()):
            named[0] = gettext("Other")
        return sorted(named.items(), key=lambda each: each[0] or MOST_SERIES + 1) if len(named) > 1 else []

    @property
    def table(self) -> list[tuple[str, str, list[str]]]:
        """Moment, total, and what each series has of it."""
        return [
            (
                self.moment_words(moment),
                self.text(sum(bar.values())),
                [self.text(bar.get(number, 0.0)) for number, _ in self.columns],
            )
            for moment, bar in self.stacked.items()
        ]


def day_words(text: str) -> str:
    return written(date.fromisoformat(text), "j M")
