"""Webhooks as staff see them: where to, in which state, what was sent. No secret, sealed or not."""

from django.contrib import admin

from apps.accounts.readonly import HistoryAdmin, ReadOnlyAdmin
from apps.webhooks.models import Delivery, Endpoint, Message


@admin.register(Endpoint)
class EndpointAdmin(ReadOnlyAdmin[Endpoint]):
    list_display = ["url", "organization", "enabled", "consecutive_failures", "failing_since", "created_at"]
    list_select_related = ["organization"]
    list_filter = ["enabled"]
    search_fields = ["url", "organization__name"]
    search_help_text = "URL, organization, wh_… or org_…"
    public_ids = {"wh": "pk", "org": "organization"}
    fields = [
        "url",
        "description",
        "organization",
        "event_types",
        "enabled",
        "disabled_reason",
        "disabled_at",
        "consecutive_failures",
        "failing_since",
        "previous_secret_expires_at",
        "created_by",
        "created_at",
    ]


@admin.register(Message)
class MessageAdmin(HistoryAdmin[Message]):
    list_display = ["public_id", "type", "organization", "key", "created_at"]
    list_select_related = ["organization"]
    search_fields = ["=key"]
    search_help_text = "Exact key, msg_… or org_…"
    public_ids = {"msg": "pk", "org": "organization"}


@admin.register(Delivery)
class DeliveryAdmin(HistoryAdmin[Delivery]):
    list_display = [
        "public_id",
        "message",
        "endpoint",
        "state",
        "attempts",
        "response_status",
        "last_error",
        "created_at",
    ]
    list_select_related = ["message", "endpoint"]
    list_filter = ["state", "replay"]
    search_help_text = "dlv_…, msg_… or wh_…"
    search_fields = ["=message__key"]
    public_ids = {"dlv": "pk", "msg": "message", "wh": "endpoint"}
