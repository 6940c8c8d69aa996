"""What customers uploaded, as rows: never the content."""

from django.contrib import admin

from apps.accounts.readonly import HistoryAdmin
from apps.files.models import File


@admin.register(File)
class FileAdmin(HistoryAdmin[File]):
    list_display = [
        "public_id",
        "organization",
        "name",
        "purpose",
        "status",
        "content_type",
        "size_bytes",
        "pages",
        "created_at",
        "expires_at",
    ]
    list_select_related = ["organization"]
    search_fields = ["sha256__exact"]
    search_help_text = "file_…, org_… or the SHA-256"
    public_ids = {"file": "pk", "org": "organization"}
    ordering = ["-pk"]
    fields = [
        "public_id",
        "organization",
        "name",
        "purpose",
        "status",
        "content_type",
        "size_bytes",
        "sha256",
        "pages",
        "created_at",
        "expires_at",
        "read_by",
    ]

    @admin.display(description="Read by", empty_value="nothing")
    def read_by(self, file: File) -> str | None:
        """Work that keeps the file from being deleted."""
        return ", ".join(file.readings.values_list("reader", flat=True)) or None
