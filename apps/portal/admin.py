"""Exports of organizations: staff see whether they are made, and never what is in them."""

from django.contrib import admin

from apps.accounts.readonly import HistoryAdmin
from apps.portal.models import Export


@admin.register(Export)
class ExportAdmin(HistoryAdmin[Export]):
    list_display = ["created_at", "organization", "user", "state", "take", "part", "done", "total", "size_bytes"]
    list_filter = ["state"]
    list_select_related = ["organization", "user"]
    search_fields = ["organization__name"]
    search_help_text = "Organization, org_… or exp_…"
    public_ids = {"org": "organization", "exp": "pk"}
    ordering = ["-pk"]
    exclude = ["path"]
