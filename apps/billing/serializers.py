"""Documents as the management API shows them. Amounts in whole cents of USD, as they were paid."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.accounts.serializers import StrictSerializer
from apps.billing.models import Invoice
from apps.billing.selectors import invoice_key


class InvoiceSerializer(serializers.ModelSerializer[Invoice]):
    id = serializers.SerializerMethodField()
    object = serializers.CharField(default="invoice", read_only=True)
    state = serializers.CharField(read_only=True, help_text="open, paid, uncollectible or void")

    class Meta:
        model = Invoice
        fields = (
            "id",
            "object",
            "number",
            "state",
            "description",
            "issued_at",
            "subtotal_cents",
            "tax_cents",
            "total_cents",
            "hosted_url",
            "pdf_url",
        )
        read_only_fields = fields

    def get_id(self, invoice: Invoice) -> str:
        return invoice_key(invoice)


class InvoicePageSerializer(serializers.Serializer[Any]):
    object = serializers.CharField(default="list")
    data = InvoiceSerializer(many=True)  # type: ignore[assignment]  # Serializer has a property of this name
    has_more = serializers.BooleanField(help_text="Ask again with `after` set to the last id")


class InvoiceFilterSerializer(StrictSerializer):
    since = serializers.DateTimeField(required=False, help_text="Issued at this time or later")
    until = serializers.DateTimeField(required=False, help_text="Issued before this time")
    after = serializers.CharField(max_length=40, required=False, help_text="An id: invoices older than that one")
    limit = serializers.IntegerField(min_value=1, max_value=100, default=20)

    def validate(self, attrs: Any) -> Any:
        if attrs.get("since") and attrs.get("until") and attrs["until"] <= attrs["since"]:
            raise serializers.ValidationError({"until": "'until' must be later than 'since'."})
        return attrs
