from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.accounts.serializers import StrictSerializer
from apps.ledger import movements
from apps.ledger.models import Transfer

OWN = [(name.value, name.value) for name in movements.OWN]


class BalanceSerializer(serializers.Serializer[Any]):
    """Whole micro-USD: 1,000,000 are one dollar."""

    object = serializers.CharField(default="balance", read_only=True)
    credit_microusd = serializers.IntegerField(help_text="Paid credit that is free to spend")
    promotional_microusd = serializers.IntegerField(
        help_text="Given credit that is free to spend and has not expired; used first"
    )
    held_microusd = serializers.IntegerField(help_text="Set aside for work that has not ended")
    receivable_microusd = serializers.IntegerField(
        help_text="Owed for a payment that was taken back after it was spent; above 0 nothing new runs"
    )
    available_microusd = serializers.IntegerField(help_text="credit + promotional")


class TransferSerializer(serializers.ModelSerializer[Transfer]):
    """One step of the journal: the amount leaves `debit` and arrives at `credit`."""

    id = serializers.SerializerMethodField()
    object = serializers.CharField(default="transfer", read_only=True)
    created_at = serializers.DateTimeField(source="at", read_only=True)
    debit = serializers.CharField(read_only=True)
    credit = serializers.CharField(read_only=True)
    description = serializers.SerializerMethodField()
    job = serializers.SerializerMethodField()
    batch = serializers.SerializerMethodField()

    class Meta:
        model = Transfer
        fields = ("id", "object", "created_at", "debit", "credit", "amount_microusd", "description", "job", "batch")
        read_only_fields = fields

    def get_id(self, transfer: Transfer) -> str:
        return movements.public_id(transfer)

    def get_description(self, transfer: Transfer) -> str:
        """What moved, in words."""
        return movements.words(transfer)

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_job(self, transfer: Transfer) -> str | None:
        """The job it is about."""
        return movements.job_of(transfer) or None

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_batch(self, transfer: Transfer) -> str | None:
        """The batch it is about."""
        return movements.batch_of(transfer) or None


class TransferPageSerializer(serializers.Serializer[Any]):
    object = serializers.CharField(default="list")
    data = TransferSerializer(many=True)  # type: ignore[assignment]  # Serializer has a property of this name
    has_more = serializers.BooleanField(help_text="Ask again with `after` set to the last id")


class TransferFilterSerializer(StrictSerializer):
    account = serializers.ChoiceField(choices=OWN, required=False, help_text="One of your accounts, on either side")
    since = serializers.DateTimeField(required=False, help_text="Made at this time or later")
    until = serializers.DateTimeField(required=False, help_text="Made before this time")
    after = serializers.CharField(max_length=40, required=False, help_text="An id: transfers older than that one")
    limit = serializers.IntegerField(min_value=1, max_value=100, default=20)

    def validate(self, attrs: Any) -> Any:
        if attrs.get("since") and attrs.get("until") and attrs["until"] <= attrs["since"]:
            raise serializers.ValidationError({"until": "'until' must be later than 'since'."})
        return attrs
