"""What the platform found out about itself, to read."""

from __future__ import annotations

from django import forms
from django.contrib import admin
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from apps.accounts.readonly import HistoryAdmin, ReadOnlyInline
from apps.accounts.reasoned import Given, ReasonedActions, ReasonedAdmin, ReasonForm, reasoned
from apps.operations import incidents
from apps.operations.models import Availability, Incident, IncidentUpdate, Reconciliation

COLUMNS = ("part", "check", "subject", "organization", "expected", "found", "says")
KINDS = (("items", "Differences"), ("pending_items", "In flight"), ("overrun_items", "Overruns, charged to the house"))


@admin.register(Reconciliation)
class ReconciliationAdmin(HistoryAdmin[Reconciliation]):
    list_display = ["started_at", "ended_at", "since", "differences", "pending"]
    fields = ["started_at", "ended_at", "since", "differences", "pending", "checked", "found"]
    readonly_fields = ["checked", "found"]

    @admin.display(description="Compared")
    def checked(self, row: Reconciliation) -> SafeString:
        figures = {**row.report.get("checked", {}), **row.report.get("totals_microusd", {})}
        return format_html_join("", "{}: {}<br>", ((name, f"{value:,}") for name, value in figures.items()))

    @admin.display(description="Found")
    def found(self, row: Reconciliation) -> str:
        """Amounts in micro-USD, as the journal has them."""
        parts = [section(title, row.report[kind]) for kind, title in KINDS if row.report.get(kind)]
        return format_html_join("", "{}", ((part,) for part in parts)) if parts else "Nothing"


def section(title: str, items: list[dict[str, str]]) -> SafeString:
    head = format_html_join("", "<th>{}</th>", ((name.capitalize(),) for name in COLUMNS))
    rows = ((format_html_join("", "<td>{}</td>", ((item[name],) for name in COLUMNS)),) for item in items)
    return format_html(
        "<h3>{}</h3><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>",
        title,
        head,
        format_html_join("", "<tr>{}</tr>", rows),
    )


class UpdateForm(ReasonForm):
    state = forms.ChoiceField(choices=IncidentUpdate.State.choices)
    text = forms.CharField(
        max_length=1000,
        widget=forms.Textarea(attrs={"rows": 4, "cols": 60}),
        help_text="What is known, and when there will be more. Customers read it.",
    )


class UpdateInline(ReadOnlyInline):
    model = IncidentUpdate
    fields = ["at", "state", "text", "actor"]


@admin.register(Incident)
class IncidentAdmin(ReasonedActions[Incident], ReasonedAdmin[Incident]):
    list_display = ["title", "severity", "public", "began_at", "ended_at", "owner"]
    list_filter = ["public", "severity"]
    list_select_related = ["owner"]
    search_fields = ["title"]
    autocomplete_fields = ["owner"]
    filter_horizontal = ["affected"]
    readonly_fields = ["ended_at"]
    inlines = [UpdateInline]
    actions = ["tell"]

    @reasoned(
        description="Tell how it stands",
        consequence="It is on the status page and in its feed at once, where the incident is. “Resolved” ends the incident.",
        form=UpdateForm,
    )
    def tell(self, row: Incident, given: Given) -> None:
        incidents.tell(incident=row, actor=given.user, reason=given.reason, **given.fields)


@admin.register(Availability)
class AvailabilityAdmin(HistoryAdmin[Availability]):
    list_display = ["day", "model", "country", "region", "looks", "up", "looked_at"]
    list_filter = ["model", "country"]
    list_select_related = ["model"]
    ordering = ["-day", "model", "country", "region"]
