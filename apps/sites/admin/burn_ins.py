"""Golden prompts, and what burn-ins found."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest

from apps.accounts.readonly import HistoryAdmin, ReadOnlyInline
from apps.accounts.reasoned import ReasonedAdmin
from apps.sites.models import BurnIn, GoldenPrompt, PowerCurve, SpeedCurve


@admin.register(GoldenPrompt)
class GoldenPromptAdmin(ReasonedAdmin[GoldenPrompt]):
    """The first of a model is what an idle pool is asked every half minute: keep it short."""

    list_display = ["model", "expects", "max_completion_tokens"]
    list_select_related = ["model"]
    search_fields = ["model__name"]
    autocomplete_fields = ["model"]
    ordering = ["model__name", "id"]

    def get_readonly_fields(self, request: HttpRequest, obj: GoldenPrompt | None = None) -> list[str]:
        return ["model"] if obj else []


class SpeedInline(ReadOnlyInline):
    model = SpeedCurve
    fields = ["concurrency", "tokens_per_second", "first_token_seconds"]
    ordering = ["concurrency"]


class PowerInline(ReadOnlyInline):
    model = PowerCurve
    fields = ["concurrency", "power_w", "quality"]
    ordering = ["concurrency"]


@admin.register(BurnIn)
class BurnInAdmin(HistoryAdmin[BurnIn]):
    list_display = ["pool", "passed", "gpu", "driver", "seconds", "at"]
    list_filter = ["passed", "pool__node__site"]
    list_select_related = ["pool"]
    search_fields = ["pool__code", "pool__node__code"]
    ordering = ["-id"]
    inlines = [SpeedInline, PowerInline]


@admin.register(SpeedCurve)
class SpeedCurveAdmin(HistoryAdmin[SpeedCurve]):
    list_display = ["model", "gpu", "driver", "concurrency", "tokens_per_second", "first_token_seconds", "at"]
    list_filter = ["gpu"]
    list_select_related = ["model"]
    search_fields = ["model__name", "burn_in__pool__code"]
    ordering = ["-burn_in_id", "concurrency"]


@admin.register(PowerCurve)
class PowerCurveAdmin(HistoryAdmin[PowerCurve]):
    list_display = ["model", "gpu", "driver", "concurrency", "power_w", "quality", "at"]
    list_filter = ["gpu", "quality"]
    list_select_related = ["model"]
    search_fields = ["model__name", "burn_in__pool__code"]
    ordering = ["-burn_in_id", "concurrency"]
