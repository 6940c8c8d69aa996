"""Jobs with their events, to read. What customers sent and got is not shown to staff."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from apps.accounts.models import Organization
from apps.accounts.readonly import HistoryAdmin, ReadOnlyInline
from apps.core import numbers
from apps.jobs.models import Event, Job, Refusal
from apps.keys.models import APIKey

MOST_FOUND = 100


class EventInline(ReadOnlyInline):
    model = Event
    fields = ["number", "at", "state", "attempt", "reason", "data"]
    ordering = ["number"]


class JobAdmin(HistoryAdmin[Job]):
    """How a job reads. `apps.dispatch.admin` registers it, with the act that cancels."""

    list_display = ["public_id", "organization", "model", "state", "created_at", "pool", "charge", "energy", "reason"]
    list_select_related = ["organization", "model", "pool"]
    list_filter = ["state", "kind", "interactive"]
    search_fields = ["pk"]
    search_help_text = "job_…, org_…, organization's name, or how a key begins"
    public_ids = {"job": "pk", "org": "organization", "file": "file"}
    ordering = ["-pk"]
    inlines = [EventInline]
    fieldsets = [
        (
            None,
            {"fields": ["public_id", "organization", "user", "api_key", "model", "kind", "interactive", "streaming"]},
        ),
        (
            "State",
            {"fields": ["state", "reason", "version", "error_code", "error_message", "error_status", "finish_reason"]},
        ),
        ("Lease", {"fields": ["pool", "attempt", "claimant", "lease_expires_at", "cancel_requested_at", "placement"]}),
        (
            "Times",
            {"fields": ["created_at", "deadline_at", "dispatched_at", "started_at", "first_token_at", "finished_at"]},
        ),
        (
            "Usage",
            {
                "fields": [
                    "prompt_tokens",
                    "cached_prompt_tokens",
                    "completion_tokens",
                    "max_completion_tokens",
                    "pages",
                    "total_pages",
                    "file",
                ]
            },
        ),
        ("Money", {"fields": ["price", "tier", "discount_basis_points", "hold", "charge"]}),
        (
            "Energy",
            {
                "fields": [
                    "energy",
                    "energy_quality",
                    "carbon",
                    "gpu_energy_wh",
                    "energy_factor",
                    "grid_gco2e_per_kwh",
                    "market_gco2e_per_kwh",
                    "carbon_market_gco2e",
                ]
            },
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        return super().get_queryset(request).select_related("organization", "model", "pool")

    def search(self, queryset: QuerySet[Job], term: str) -> QuerySet[Job]:
        """Words are looked up among organizations and keys first: a join would read every job."""
        organizations = Organization.objects.filter(name__icontains=term).values_list("pk", flat=True)[:MOST_FOUND]
        keys = APIKey.objects.filter(prefix__startswith=term).values_list("pk", flat=True)[:MOST_FOUND]
        return queryset.filter(Q(organization__in=list(organizations)) | Q(api_key__in=list(keys)))

    @admin.display(description="Hold")
    def hold(self, row: Job) -> str:
        return numbers.money_small(row.hold_microusd)

    @admin.display(description="Charge")
    def charge(self, row: Job) -> str:
        return numbers.money_small(row.charge_microusd)

    @admin.display(description="Energy")
    def energy(self, row: Job) -> str:
        return numbers.energy(row.energy_wh)

    @admin.display(description="Carbon")
    def carbon(self, row: Job) -> str:
        return numbers.carbon(row.carbon_gco2e)


@admin.register(Refusal)
class RefusalAdmin(HistoryAdmin[Refusal]):
    list_display = ["at", "organization", "model_name", "code", "message"]
    list_select_related = ["organization"]
    search_fields = ["code__exact", "model_name__exact"]
    public_ids = {"org": "organization"}
    ordering = ["-pk"]
