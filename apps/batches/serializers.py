"""The batch as the management API shows it. Money in micro-USD, energy in Wh, carbon in gCO₂e, times in UTC."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.batches.models import Batch
from apps.core.ids import public

OPEN = "open"


class BatchErrorSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    message = serializers.CharField()
    param = serializers.CharField(allow_null=True)
    line = serializers.IntegerField(allow_null=True)


class BatchRowsSerializer(serializers.Serializer[Any]):
    total = serializers.IntegerField()
    completed = serializers.IntegerField()
    failed = serializers.IntegerField()
    left = serializers.IntegerField()


class BatchFilterSerializer(serializers.Serializer[Any]):
    state = serializers.ChoiceField([OPEN, *Batch.State.values], required=False, help_text="open: not ended")
    limit = serializers.IntegerField(min_value=1, max_value=100, default=20)
    after = serializers.CharField(required=False, help_text="The last id of the page before")


class BatchSerializer(serializers.ModelSerializer[Batch]):
    id = serializers.CharField(source="public_id", read_only=True)
    object = serializers.CharField(default="batch", read_only=True)
    model = serializers.CharField(source="model.name", default=None, read_only=True, allow_null=True)
    rows = serializers.SerializerMethodField()
    input_file_id = serializers.SerializerMethodField()
    output_file_id = serializers.SerializerMethodField()
    error_file_id = serializers.SerializerMethodField()
    errors = BatchErrorSerializer(many=True, read_only=True)  # type: ignore[assignment]
    metadata = serializers.DictField(child=serializers.CharField(), allow_null=True, read_only=True)

    class Meta:
        model = Batch
        fields = (
            "id",
            "object",
            "endpoint",
            "model",
            "state",
            "rows",
            "errors",
            "input_file_id",
            "output_file_id",
            "error_file_id",
            "max_power_usd_per_mwh",
            "created_at",
            "in_progress_at",
            "finalizing_at",
            "ended_at",
            "expires_at",
            "prompt_tokens",
            "cached_prompt_tokens",
            "completion_tokens",
            "hold_microusd",
            "charge_microusd",
            "discount_basis_points",
            "energy_wh",
            "carbon_gco2e",
            "carbon_market_gco2e",
            "metadata",
        )
        read_only_fields = fields

    @extend_schema_field(BatchRowsSerializer)
    def get_rows(self, batch: Batch) -> dict[str, int]:
        return {
            "total": batch.total,
            "completed": batch.completed,
            "failed": batch.failed,
            "left": batch.total - batch.completed - batch.failed,
        }

    def get_input_file_id(self, batch: Batch) -> str:
        return public("file", batch.input_file_id)

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_output_file_id(self, batch: Batch) -> str | None:
        return ended_file(batch, batch.output_file_id)

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_error_file_id(self, batch: Batch) -> str | None:
        return ended_file(batch, batch.error_file_id)


def ended_file(batch: Batch, file_id: UUID | None) -> str | None:
    """Until the batch has ended its files are being written."""
    return public("file", file_id) if batch.is_final and file_id else None


class BatchPageSerializer(serializers.Serializer[Any]):
    object = serializers.CharField()
    data = BatchSerializer(many=True)  # type: ignore[assignment]
    has_more = serializers.BooleanField()
