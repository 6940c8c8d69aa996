"""The usage page: one measure, in groups, over time; all of it in the address."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any, cast

from django import forms
from django.forms import BoundField
from django.utils import timezone
from django.utils.translation import gettext, gettext_lazy, gettext_noop, pgettext, pgettext_lazy

from apps.accounts.models import Organization
from apps.accounts.times import written
from apps.core import numbers
from apps.jobs import rollup, usage
from apps.jobs.usage import Group, Used
from cango_portal import database

MOST_SERIES = 4  # and "Other" (design guide, §9)
PLOT = 100.0
GAP = 0.2  # of a bar's room
MICRO = Decimal("0.000001")  # of a Wh or a gram: no smaller one is written
HOURS_UP_TO = timedelta(days=2)
HOURS_AT_MOST = timedelta(days=8)
BARS = {
    "": gettext_lazy("Bars: automatic"),
    "hour": gettext_lazy("Bars by hour"),
    "day": gettext_lazy("Bars by day"),
}


@dataclass(frozen=True, slots=True)
class Measure:
    """`name` and `counts` are in English. `least` is the smallest step of an axis, in what `of` gives."""

    name: str
    counts: str
    of: Callable[[Used], float]
    text: Callable[[Any], str]
    least: Decimal = Decimal(1)

    @property
    def title(self) -> str:
        return gettext(self.name)

    @property
    def unit(self) -> str:
        return gettext(self.counts)

    def axis(self, most: float) -> Axis:
        if not most:  # a part without bars, zoomed into
            return Axis(EMPTY, ["", "0"])
        marks = numbers.ticks(most, least=self.least)
        if self is MEASURES["spend"]:  # in words a mark below a cent would be "< $0.01"
            return Axis(float(marks[0]), numbers.money_ticks(marks))
        return Axis(float(marks[0]), [self.text(mark) if mark else "0" for mark in marks])


EMPTY = 2.0**-20  # the upper end of an axis that nothing stands at; steps of 1, 2 or 5 never end there


@dataclass(frozen=True, slots=True)
class Axis:
    """Its upper end, and what its marks say, from there down to 0, equally far apart."""

    top: float
    marks: list[str]

    @property
    def lines(self) -> list[str]:
        """Where the lines of the marks above 0 are, in hundredths of the plot."""
        steps = len(self.marks) - 1
        return [f"{PLOT * step / steps:.2f}" for step in range(steps)]


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
        gettext_noop("Energy"),
        gettext_noop("with host and cooling"),
        lambda row: row.energy_wh or 0.0,
        numbers.energy,
        least=MICRO,
    ),
    "carbon": Measure(
        gettext_noop("Carbon"),
        gettext_noop("CO₂ equivalent"),
        lambda row: row.carbon_gco2e or 0.0,
        numbers.carbon,
        least=MICRO,
    ),
}
GROUPS = {
    "model": gettext_lazy("Model"),
    "key": gettext_lazy("API key"),
    "member": gettext_lazy("Member"),
    "site": gettext_lazy("Site"),
    "day": gettext_lazy("Day"),
}
CUSTOM = "custom"
HOURS = "hours"  # chosen in the chart
RANGES = {
    "today": gettext_lazy("Today"),
    "7d": gettext_lazy("Last 7 days"),
    "30d": gettext_lazy("Last 30 days"),
    "month": gettext_lazy("This month"),
    "last-month": gettext_lazy("Last month"),
    CUSTOM: gettext_lazy("From and to"),
}
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

    first_hour = HourField(label=gettext_lazy("From hour"), required=False)
    last_hour = HourField(label=gettext_lazy("To hour"), required=False)

    def __init__(self, data: Any, today: date) -> None:
        self.today = today
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
        elif cleaned.get("bars") == "hour" and not self.errors:
            first, last = self.dates(self.today)
            if last - first >= HOURS_AT_MOST:
                self.add_error(
                    "bars", gettext("At most %(days)s days can be shown by hour.") % {"days": HOURS_AT_MOST.days}
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
        hours = asked == "hour" if asked else self.form.hours is not None or self.end - self.start <= HOURS_UP_TO
        return "hour" if hours else "day"

    @property
    def bucket_name(self) -> str:
        return pgettext("of a bar", "hour") if self.bucket == "hour" else pgettext("of a bar", "day")

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
        """The span, for people: days, or hours in the reader's time zone."""
        if self.form.hours is not None:
            since, until = timezone.localtime(self.start), timezone.localtime(self.end)
            return gettext("%(first)s to %(last)s") % {
                "first": written(since, "j M Y, H:i"),
                "last": written(until, "H:i" if since.date() == until.date() else "j M Y, H:i"),
            }
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
        if not self.highest[1]:
            return []
        top = self.axis.top
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

    @cached_property
    def axis(self) -> Axis:
        return self.measure.axis(self.highest[1])

    @property
    def times(self) -> list[str]:
        """The first, the middle and the last of the time axis."""
        moments = self.moments
        shown = [moments[0], moments[len(moments) // 2], moments[-1]] if len(moments) > 2 else moments
        return [self.moment_words(moment) for moment in shown]

    def moment_words(self, moment: str) -> str:
        """A day of UTC, or an hour in the reader's time zone, with its day where there are several."""
        if self.bucket == "day":
            return day_words(moment)
        return written(hour_at(moment), "H:i" if self.within_a_day else "j M H:i")

    @cached_property
    def within_a_day(self) -> bool:
        return hour_at(self.moments[0]).date() == hour_at(self.moments[-1]).date()

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
    def zooms(self) -> bool:
        return bool(self.bars) and len(self.moments) > 1

    @property
    def plot(self) -> dict[str, Any]:
        """What the browser zooms into: the table has the words, this the lengths, and the axis of each bar that may be the
        highest, for the browser writes no figures."""
        numbers_of = [number for number, _ in self.columns] or [1]
        bars = list(self.stacked.values())
        axes = [self.measure.axis(sum(bar.values())) for bar in bars]
        tops = sorted({axis.top for axis in axes})  # few: a page of a year would say the same marks hundreds of times
        marks = {axis.top: axis.marks for axis in axes}
        return {
            "ends": ENDS[HOURS if self.bucket == "hour" else CUSTOM],
            "hours_at_most": HOURS_AT_MOST.days,
            "at": self.moments,
            "series": [{"number": n, "values": [bar.get(n, 0.0) for bar in bars]} for n in numbers_of],
            "axes": [{"top": top, "marks": marks[top]} for top in tops],
            "axis": [tops.index(axis.top) for axis in axes],
        }

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


def hour_at(moment: str) -> datetime:
    return timezone.localtime(datetime.strptime(moment, HOUR_FORM).replace(tzinfo=UTC))


def day_words(text: str) -> str:
    return written(date.fromisoformat(text), "j M")
