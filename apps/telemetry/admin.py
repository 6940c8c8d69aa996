"""The node's page with what its GPUs say now, and minutes for staff to read. Here since telemetry stands above sites."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join

from apps.accounts.readonly import HistoryAdmin
from apps.accounts.reasoned import Given, ReasonForm, reasoned
from apps.sites.admin.contact import ago
from apps.sites.admin.nodes import NodeAdmin
from apps.sites.admin.sites import SiteAdmin
from apps.sites.models import Feed, Node, Site
from apps.telemetry import meters, newest
from apps.telemetry.models import MeterAlarm, Minute, SiteMeterReading

COLUMNS = ("GPU", "W", "W over a second", "Use", "Memory (MiB)", "°C", "Held back by", "Counter (kWh)")
MJ_PER_KWH = 3_600_000_000


@admin.register(Node)
class ReadNodeAdmin(NodeAdmin):
    """Its page asks for itself every two seconds: `admin-live.js` replaces the fields that tell of now."""

    class Media:
        js = ("portal/admin-live.js",)

    def get_fields(self, request: HttpRequest, obj: Node | None = None) -> Any:
        fields = super().get_fields(request, obj)
        return [*fields[:-1], "readings", fields[-1]] if obj else fields

    def get_readonly_fields(self, request: HttpRequest, obj: Node | None = None) -> list[str]:
        return [*super().get_readonly_fields(request, obj), *(["readings"] if obj else [])]

    @admin.display(description="Readings")
    def readings(self, row: Node) -> str:
        look = newest.of(row.pk)
        if look is None:
            return "none in the last ten minutes"
        head = format_html_join("", "<th>{}</th>", ((name,) for name in COLUMNS))
        body = format_html_join("", "<tr>{}</tr>", ((cells(gpu),) for gpu in look["gpus"]))
        when = ago(timedelta(seconds=time.time() - look["at"]))
        return format_html("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>{}", head, body, when)


def cells(gpu: dict[str, Any]) -> str:
    reasons, counter = gpu["clocks_event_reasons"], gpu["energy_mj"]
    values = [
        gpu["uuid"],
        said(gpu["power_w"]),
        said(gpu["power_average_w"]),
        said(gpu["utilization"], ".0%"),
        f"{said(gpu['memory_used_mib'], 'd')} of {said(gpu['memory_total_mib'], 'd')}",
        said(gpu["temperature_c"]),
        "–" if reasons is None else ", ".join(reasons) or "nothing",
        said(None if counter is None else counter / MJ_PER_KWH, ".3f"),
    ]
    return format_html_join("", "<td>{}</td>", ((value,) for value in values))


def said(value: float | None, shape: str = ".1f") -> str:
    """`–` where there is no reading."""
    return "–" if value is None else format(value, shape)


class MeterForm(ReasonForm):
    unit = forms.ChoiceField(choices=[(unit.value, unit.label) for unit in Feed.UNITS[Feed.Kind.METER]])
    readings = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 8, "cols": 60}),
        help_text="CSV with the header at,value, such as 2026-11-29T12:00:00Z,81234.5. The meter's own figure, cumulative.",
    )


@admin.register(Site)
class MeteredSiteAdmin(SiteAdmin):
    actions = ["enter_readings"]

    @reasoned(
        description="Enter meter readings",
        consequence="They are compared with what the site's GPUs drew. A reading of the same moment takes the place of the one before.",
        form=MeterForm,
    )
    def enter_readings(self, row: Site, given: Given) -> None:
        meters.enter(
            site=row,
            content=given.fields["readings"],
            unit=given.fields["unit"],
            reason=given.reason,
            actor=given.user,
        )


@admin.register(SiteMeterReading)
class SiteMeterReadingAdmin(HistoryAdmin[SiteMeterReading]):
    list_display = ["at", "site", "energy_wh"]
    list_filter = ["site"]
    list_select_related = ["site"]
    ordering = ["-at", "site"]


@admin.register(MeterAlarm)
class MeterAlarmAdmin(HistoryAdmin[MeterAlarm]):
    """It ends by itself when meter and GPUs agree for a quarter of an hour."""

    list_display = ["site", "began_at", "difference", "meter_wh", "counted_wh", "starts_at", "ends_at", "ended_at"]
    list_filter = ["open", "site"]
    list_select_related = ["site"]
    ordering = ["-id"]

    @admin.display(description="Counted against meter")
    def difference(self, row: MeterAlarm) -> str:
        return f"{(row.counted_wh - row.meter_wh) / row.meter_wh:+.1%}" if row.meter_wh else "the meter stood still"


@admin.register(Minute)
class MinuteAdmin(HistoryAdmin[Minute]):
    list_display = [
        "at", "node", "uuid", "energy_wh", "counted_seconds", "quality", "mean_w", "power_max_w", "temperature_max_c", "reasons",
    ]  # fmt: skip
    list_filter = ["quality", "node__site"]
    list_select_related = ["node"]
    search_fields = ["=uuid", "=node__code"]
    ordering = ["-at", "uuid"]

    @admin.display(description="Energy (Wh)", ordering="energy_mj")
    def energy_wh(self, row: Minute) -> str:
        return said(None if row.energy_mj is None else row.energy_mj / 3_600_000, ".3f")

    @admin.display(description="Mean (W)")
    def mean_w(self, row: Minute) -> str:
        return said(row.power_mean_w)
