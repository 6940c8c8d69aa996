"""Batches to read, with the act that cancels one. What customers sent and got is not shown."""

from __future__ import annotations

from django.contrib import admin

from apps.accounts.readonly import HistoryAdmin, ReadOnlyInline
from apps.accounts.reasoned import Given, ReasonedActions, reasoned
from apps.batches import services
from apps.batches.models import Batch, Shard
from apps.core import numbers
from apps.core.errors import NotAllowed


class ShardInline(ReadOnlyInline):
    model = Shard
    fields = ["number", "first_line", "lines", "job"]
    ordering = ["number"]


@admin.register(Batch)
class BatchAdmin(ReasonedActions[Batch], HistoryAdmin[Batch]):
    list_display = [
        "public_id",
        "organization",
        "model",
        "state",
        "total",
        "completed",
        "failed",
        "charge",
        "created_at",
    ]
    list_select_related = ["organization", "model"]
    list_filter = ["state", "endpoint"]
    search_fields = ["pk"]
    search_help_text = "batch_… or org_…"
    public_ids = {"batch": "pk", "org": "organization"}
    ordering = ["-pk"]
    inlines = [ShardInline]
    actions = ["cancel"]
    fields = [
        "public_id",
        "organization",
        "user",
        "api_key",
        "endpoint",
        "model",
        "price",
        "discount_basis_points",
        "max_power_usd_per_mwh",
        "state",
        "ending",
        "version",
        "working_until",
        "created_at",
        "expires_at",
        "in_progress_at",
        "finalizing_at",
        "completed_at",
        "failed_at",
        "expired_at",
        "cancelling_at",
        "cancelled_at",
        "total",
        "completed",
        "failed",
        "prompt_tokens",
        "cached_prompt_tokens",
        "completion_tokens",
        "input_tokens_ceiling",
        "hold_microusd",
        "charge_microusd",
        "gpu_energy_mj",
        "energy_wh",
        "carbon_gco2e",
        "carbon_market_gco2e",
    ]

    @admin.display(description="Charge")
    def charge(self, row: Batch) -> str:
        return numbers.money_small(row.charge_microusd)

    @reasoned(
        description="Cancel",
        consequence="What runs is stopped within seconds. What was finished is kept and charged, the rest is not run.",
        when=lambda batch: batch.state in ("validating", "in_progress"),
    )
    def cancel(self, row: Batch, given: Given) -> None:
        if row.is_final:
            raise NotAllowed("It has ended before.")
        services.cancel(batch=row, actor=given.user, reason=given.reason)
