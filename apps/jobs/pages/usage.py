"""The usage page: one measure, in groups, over time; all of it in the address."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext, gettext_lazy, gettext_noop, pgettext_lazy

from apps.accounts.models import Organization
from apps.accounts.times import written
from apps.core import numbers
from apps.jobs import rollup, usage
from apps.jobs.pages.measures import MEASURES, PLOT, Axis
from apps.jobs.pages.usage_form import (
    CUSTOM,
    DAYS_AT_MOST,
    ENDS,
    GROUPS,
    HOUR_FORM,
    HOURS,
    HOURS_AT_MOST,
    UsageForm,
    midnight,
)
from apps.jobs.usage import Group, Used
from cango_portal import database

MOST_SERIES = 4  # and "Other" (design guide, §9)
ROOM, BAR, GAP = 10, 8, 2  # of a bar, in the chart's own units across
HOURS_UP_TO = timedelta(days=2)  # bars are of hours where nobody chose
MOST_PARTED = 96  # bars; more are drawn whole
LISTED_BY_DAY = 31  # days; of more there is a line for each week
MOST_LINES = 20
WEEK = 7  # days
BUCKETS = {
    "hour": pgettext_lazy("of a bar", "hour"),
    "day": pgettext_lazy("of a bar", "day"),
    "week": pgettext_lazy("of a bar", "week"),
}
STEPS: dict[Group, tuple[timedelta, timedelta]] = {  # what an address counts in, and what a bar holds
    "hour": (rollup.HOUR, rollup.HOUR),
    "day": (timedelta(days=1), timedelta(days=1)),
    "week": (timedelta(days=1), timedelta(weeks=1)),
}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Bar:
    """The parts of one series, in hundredths of the plot."""

    path: str
    series: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table and of the legend."""

    name: str
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
    def last_day(self) -> date:
        return (self.end - timedelta(microseconds=1)).date()

    @property
    def bucket(self) -> Group:
        """What a bar stands for."""
        asked: Group | None = self.form.cleaned_data.get("bars") or None
        if asked is not None:
            return asked
        if self.form.hours is not None or self.end - self.start <= HOURS_UP_TO:
            return "hour"
        return "day" if self.end - self.start <= DAYS_AT_MOST else "week"

    @property
    def bucket_name(self) -> str:
        return str(BUCKETS[self.bucket])

    @cached_property
    def by(self) -> Group:
        """What a line of the table stands for."""
        if self.group != "day":
            return self.group
        listed_by_day = self.bucket != "week" and len(usage.days(self.start, self.end)) <= LISTED_BY_DAY
        return "day" if listed_by_day else "week"

    @property
    def in_time(self) -> bool:
        return self.by in ("day", "week")

    @cached_property
    def parted(self) -> bool:
        """Whether a bar shows what each group has of it."""
        return self.group != "day" and len(self.moments) <= MOST_PARTED

    @cached_property
    def rows(self) -> list[Used]:
        return self.read((self.by,))

    @property
    def sheet(self) -> list[list[Any]]:
        """What the page shows, exactly: the group by what a bar stands for. A week has its days that are in the span."""
        groups: tuple[Group, ...] = (self.bucket,) if self.group == "day" else (self.bucket, self.group)
        head, lines = usage.columns(groups), [usage.record(row, groups) for row in self.read(groups)]
        if self.bucket != "week":
            return [head, *lines]
        return [
            [*head[:1], "first_day", "last_day", *head[1:]],
            *([week, *self.days_of(week), *others] for week, *others in lines),
        ]

    def read(self, groups: tuple[Group, ...], leading: list[str | None] | None = None) -> list[Used]:
        asked = usage.used(self.organization.pk, start=self.start, end=self.end, groups=groups, leading=leading)
        return database.run(asked)

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
        titles = {**GROUPS, "day": gettext_lazy("Day"), "week": gettext_lazy("Week")}
        return str(titles[self.by])

    @property
    def group_word(self) -> str:
        """Within a sentence, where an abbreviation stays as it is."""
        title = self.group_title
        return title if title[:2].isupper() else title.lower()

    @property
    def words(self) -> str:
        """The span, for people: days, or hours in the reader's time zone."""
        if self.form.hours is not None:
            since, until = timezone.localtime(self.start), timezone.localtime(self.end)
            return gettext("%(first)s to %(last)s") % {
                "first": written(since, "j M Y, H:i"),
                "last": written(until, "H:i" if since.date() == until.date() else "j M Y, H:i"),
            }
        first, last = self.start.date(), self.last_day
        if first >= last:
            return written(first, "j M Y")
        return gettext("%(first)s to %(last)s") % {
            "first": written(first, "j M Y"),
            "last": written(last, "j M Y"),
        }

    @cached_property
    def ordered(self) -> list[Used]:
        """Largest first; days and weeks as they came."""
        if self.group == "day":
            return self.rows
        return sorted(self.rows, key=self.measure.of, reverse=True)

    @cached_property
    def series(self) -> dict[str | None, int]:
        """Which color each of the largest groups has; the rest are "Other", 0."""
        if not self.parted:
            return {}
        leading = [row for row in self.ordered[:MOST_SERIES] if self.measure.of(row)]
        return {row.groups[self.group][0]: number for number, row in enumerate(leading, start=1)}

    @cached_property
    def lines(self) -> list[Line]:
        whole = self.measure.of(self.total)
        largest = max((self.measure.of(row) for row in self.rows), default=0.0)

        def line(name: str, row: Used, series: int) -> Line:
            value = self.measure.of(row)
            return Line(
                name=name,
                used=row,
                value=self.text(value),
                share=numbers.percent(value / whole) if whole else numbers.NONE,
                width=f"{PLOT * value / largest:.2f}" if largest else "0",
                series=str(series) if series else "",
            )

        if self.by == "day":
            return [line(self.day_words(row.groups["day"][1]), row, 1) for row in self.ordered]
        if self.by == "week":
            return [line(self.week_words(row.groups["week"][1]), row, 1) for row in self.ordered]
        named = [(*row.groups[self.by], row) for row in self.listed]
        made = [line(name, row, self.series.get(key, 0)) for key, name, row in named]
        return [*made, line(self.rest_words, usage.total(self.rest), 0)] if self.rest else made

    @property
    def listed(self) -> list[Used]:
        """The rows that have a line of their own; one more is no reason to put two into one."""
        return self.ordered if len(self.ordered) <= MOST_LINES + 1 else self.ordered[:MOST_LINES]

    @property
    def rest(self) -> list[Used]:
        return self.ordered[len(self.listed) :]

    @property
    def rest_words(self) -> str:
        return gettext("%(count)s others, each in the CSV") % {"count": numbers.count(len(self.rest))}

    @cached_property
    def moments(self) -> list[str]:
        """The ids of the bars' buckets, none left out: no bar is a zero."""
        if self.bucket == "week":
            return [monday.isoformat() for monday in usage.weeks(self.start, self.end)]
        if self.bucket == "day":
            return [day.isoformat() for day in usage.days(self.start, self.end)]
        hours = int((self.end - self.start - timedelta(microseconds=1)).total_seconds() // 3600) + 1
        return [f"{self.start + timedelta(hours=n):%Y-%m-%dT%H:00}" for n in range(hours)]

    @cached_property
    def stacked(self) -> dict[str, dict[int, float]]:
        """bucket → series → value."""
        groups: tuple[Group, ...] = (self.bucket, self.group) if self.parted else (self.bucket,)
        found: dict[str, dict[int, float]] = {moment: {} for moment in self.moments}
        for row in self.read(groups, leading=list(self.series) if self.parted else None):
            number = self.series.get(row.groups[self.group][0], 0) if self.parted else 1
            bar = found.setdefault(str(row.groups[self.bucket][0]), {})
            bar[number] = bar.get(number, 0.0) + self.measure.of(row)
        return found

    @cached_property
    def highest(self) -> tuple[str, float]:
        return max(((moment, sum(bar.values())) for moment, bar in self.stacked.items()), key=lambda pair: pair[1])

    @cached_property
    def bars(self) -> list[Bar]:
        """One path for each series, bars from zero up, the largest group at the bottom. Each part stands on the axis, before
        those above it: a third of the letters that parts with two ends take."""
        if not self.highest[1]:
            return []
        top = self.axis.top
        floors = dict.fromkeys(self.stacked, 0.0)
        drawn: list[Bar] = []
        for number in sorted({n for bar in self.stacked.values() for n in bar if bar[n]}, key=from_below):
            path = [f"M{GAP // 2} {PLOT:g}"]
            for moment, bar in self.stacked.items():
                part = bar.get(number, 0.0)
                floors[moment] += part
                y = hundredths(PLOT - floors[moment] / top * PLOT)
                path.append(f"V{y}h{BAR}V{PLOT:g}h{GAP}" if part else f"h{ROOM}")
            drawn.append(Bar("".join(path), f"s{number}"))
        return drawn[::-1]

    @property
    def width(self) -> int:
        """Of the plot, in the units of its bars; it is as high as `PLOT`."""
        return ROOM * len(self.stacked)

    @cached_property
    def axis(self) -> Axis:
        return self.measure.axis(self.highest[1])

    @property
    def times(self) -> list[str]:
        """The first, the middle and the last of the time axis; of weeks their days."""
        moments = self.moments
        shown = [moments[0], moments[len(moments) // 2], moments[-1]] if len(moments) > 2 else moments
        if self.bucket == "week" and len(shown) > 1:
            ends = [self.days_of(monday) for monday in shown]
            return [self.day_words(day) for day in (*(first for first, _ in ends[:-1]), ends[-1][1])]
        return [self.moment_words(moment) for moment in shown]

    def days_of(self, monday: str) -> tuple[str, str]:
        """The first and the last day of its week that are in the span."""
        first = date.fromisoformat(monday)
        return (
            max(first, self.start.date()).isoformat(),
            min(first + timedelta(days=WEEK - 1), self.last_day).isoformat(),
        )

    def day_words(self, text: str) -> str:
        """With its year where that is not the last day's: a span of a year has a day of the same name twice."""
        day = date.fromisoformat(text)
        return written(day, "j M" if day.year == self.last_day.year else "j M Y")

    def week_words(self, monday: str) -> str:
        """Its days, and how many of the seven where the span has only a part of it."""
        first, last = self.days_of(monday)
        begun, ended = date.fromisoformat(first), date.fromisoformat(last)
        count = (ended - begun).days + 1
        within = begun.year == ended.year and count > 1  # one year is enough
        given = {
            "first": written(begun, "j M") if within else self.day_words(first),
            "last": self.day_words(last),
            "count": count,
        }
        if count == WEEK:
            return gettext("%(first)s to %(last)s") % given
        if count == 1:
            return gettext("%(first)s (1 of 7 days)") % given
        return gettext("%(first)s to %(last)s (%(count)s of 7 days)") % given

    def moment_words(self, moment: str) -> str:
        """A week or a day of UTC, or an hour in the reader's time zone, with its day where there are several."""
        if self.bucket == "week":
            return self.week_words(moment)
        if self.bucket == "day":
            return self.day_words(moment)
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
            "group": self.group_word,
            "moment": self.moment_words(moment),
            "value": self.text(value),
            "total": self.total_text,
        }
        in_parts = {
            "hour": gettext_noop(
                "%(title)s by hour and %(group)s. Highest hour %(moment)s with %(value)s. Total %(total)s."
            ),
            "day": gettext_noop(
                "%(title)s by day and %(group)s. Highest day %(moment)s with %(value)s. Total %(total)s."
            ),
            "week": gettext_noop(
                "%(title)s by week and %(group)s. Highest week %(moment)s with %(value)s. Total %(total)s."
            ),
        }
        whole = {
            "hour": gettext_noop("%(title)s by hour. Highest hour %(moment)s with %(value)s. Total %(total)s."),
            "day": gettext_noop("%(title)s by day. Highest day %(moment)s with %(value)s. Total %(total)s."),
            "week": gettext_noop("%(title)s by week. Highest week %(moment)s with %(value)s. Total %(total)s."),
        }
        said = gettext((in_parts if self.parted else whole)[self.bucket])
        return said % given

    @cached_property
    def columns(self) -> list[tuple[int, str]]:
        """Number and name of each series, as the bars are stacked; nothing where there is one."""
        named = {number: line.name for line in self.lines if line.series for number in (int(line.series),)}
        if any(0 in bar for bar in self.stacked.values()):
            named[0] = gettext("Other")
        return sorted(named.items(), key=lambda each: from_below(each[0])) if len(named) > 1 else []

    @property
    def zooms(self) -> bool:
        return bool(self.bars) and len(self.moments) > 1

    @property
    def plot(self) -> dict[str, Any]:
        """What the browser zooms into: the table has the words, this the lengths, and the axis of each bar that may be the
        highest, for the browser writes no figures. Times are the milliseconds of `Date`: the span from the first unit of an
        address to the last, and the bars from where the first begins; `days` are the words of the first and the last of each
        week. Bars may be many, so nothing is said of each that can be told from its number."""
        numbers_of = [number for number, _ in self.columns] or [1]
        bars = list(self.stacked.values())
        axes = [self.measure.axis(sum(bar.values())) for bar in bars]
        tops = sorted({axis.top for axis in axes})  # few: a page of a year would say the same marks hundreds of times
        marks = {axis.top: axis.marks for axis in axes}
        unit, step = STEPS[self.bucket]
        begun = datetime.fromisoformat(self.moments[0]).replace(tzinfo=UTC)
        first = max(midnight(self.start.date()), begun)  # of the first week there may be a part
        return {
            "ends": ENDS[HOURS if self.bucket == "hour" else CUSTOM],
            "hours_at_most": HOURS_AT_MOST.days,
            "unit": milliseconds(unit),
            "step": milliseconds(step),
            "at": milliseconds(begun - EPOCH),
            "first": milliseconds(first - EPOCH),
            "last": milliseconds(first + (self.end - timedelta(microseconds=1) - first) // unit * unit - EPOCH),
            **(
                {"days": [[self.day_words(day) for day in self.days_of(week)] for week in self.moments]}
                if self.bucket == "week"
                else {}
            ),
            "series": [{"number": n, "values": [length(bar.get(n, 0.0)) for bar in bars]} for n in numbers_of],
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


def from_below(number: int) -> int:
    """Where a series stands in a bar: the largest at the bottom, "Other" on top."""
    return number or MOST_SERIES + 1


def hundredths(value: float) -> str:
    """As short as it is exact to two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def length(value: float) -> float:
    """What a bar is drawn by: whole where it is, else of six digits."""
    return int(value) if value == int(value) else float(f"{value:.6g}")


def milliseconds(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)
