from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.accounts.serializers import StrictSerializer
from apps.webhooks.models import URL_LENGTH, Delivery, Endpoint


class WebhookSerializer(serializers.ModelSerializer[Endpoint]):
    id = serializers.CharField(source="public_id", read_only=True)
    object = serializers.CharField(default="webhook", read_only=True)
    event_types = serializers.ListField(
        child=serializers.CharField(), help_text="Empty: all, also those that come later"
    )
    disabled_reason = serializers.CharField(help_text="Why it is off; empty while it is on")

    class Meta:
        model = Endpoint
        fields = (
            "id",
            "object",
            "url",
            "description",
            "event_types",
            "enabled",
            "disabled_reason",
            "consecutive_failures",
            "previous_secret_expires_at",
            "created_at",
        )
        read_only_fields = fields


class WebhookWithSecretSerializer(WebhookSerializer):
    secret = serializers.CharField(help_text="whsec_…; shown in this answer and never again")

    class Meta(WebhookSerializer.Meta):
        fields = (*WebhookSerializer.Meta.fields, "secret")  # type: ignore[assignment]
        read_only_fields = fields  # type: ignore[assignment]


class WebhookListSerializer(serializers.Serializer[Any]):
    object = serializers.CharField(default="list")
    data = WebhookSerializer(many=True)  # type: ignore[assignment]


class WebhookRequestSerializer(StrictSerializer):
    url = serializers.CharField(max_length=URL_LENGTH, help_text="https, a public host, the standard port")
    description = serializers.CharField(max_length=120, required=False, allow_blank=True)
    event_types = serializers.ListField(
        child=serializers.CharField(max_length=40), required=False, max_length=50, help_text="Empty or absent: all"
    )


class WebhookChangeSerializer(StrictSerializer):
    url = serializers.CharField(max_length=URL_LENGTH, required=False)
    description = serializers.CharField(max_length=120, required=False, allow_blank=True)
    event_types = serializers.ListField(child=serializers.CharField(max_length=40), required=False, max_length=50)
    enabled = serializers.BooleanField(required=False, help_text="False turns it off; what waits ends as failed")


class DeliverySerializer(serializers.ModelSerializer[Delivery]):
    id = serializers.CharField(source="public_id", read_only=True)
    object = serializers.CharField(default="webhook.delivery", read_only=True)
    message_id = serializers.CharField(source="message.public_id", help_text="The header webhook-id")
    type = serializers.CharField(source="message.type")
    request_headers = serializers.DictField(child=serializers.CharField())

    class Meta:
        model = Delivery
        fields = (
            "id",
            "object",
            "message_id",
            "type",
            "state",
            "replay",
            "attempts",
            "next_try_at",
            "request_headers",
            "request_body",
            "response_status",
            "response_excerpt",
            "last_error",
            "took_seconds",
            "created_at",
            "tried_at",
            "finished_at",
        )
        read_only_fields = fields


class DeliveryPageSerializer(serializers.Serializer[Any]):
    object = serializers.CharField(default="list")
    data = DeliverySerializer(many=True)  # type: ignore[assignment]
    has_more = serializers.BooleanField()


class PageRequestSerializer(serializers.Serializer[Any]):
    after = serializers.CharField(required=False, help_text="The id of the last delivery you have")
    limit = serializers.IntegerField(required=False, default=20, min_value=1, max_value=100)
