from __future__ import annotations

from typing import Any

from rest_framework import serializers


class BalanceSerializer(serializers.Serializer[Any]):
    """Whole micro-USD: 1,000,000 are one dollar."""

    object = serializers.CharField(default="balance", read_only=True)
    credit_microusd = serializers.IntegerField(help_text="Paid credit that is free to spend")
    promotional_microusd = serializers.IntegerField(help_text="Given credit that is free to spend; used first")
    held_microusd = serializers.IntegerField(help_text="Set aside for work that has not ended")
    available_microusd = serializers.IntegerField(help_text="credit + promotional")
