"""API keys as staff see them: whose, since when, in force or not. Neither secret nor hash."""

from django.contrib import admin

from apps.accounts.readonly import ReadOnlyAdmin
from apps.accounts.reasoned import Given, ReasonedActions, reasoned
from apps.core.errors import NotAllowed
from apps.keys import services
from apps.keys.models import APIKey


@admin.register(APIKey)
class APIKeyAdmin(ReasonedActions[APIKey], ReadOnlyAdmin[APIKey]):
    list_display = ["name", "prefix", "organization", "created_by", "created_at", "last_used_at", "revoked_at"]
    list_select_related = ["organization", "created_by"]
    list_filter = [("revoked_at", admin.EmptyFieldListFilter)]
    search_fields = ["prefix__startswith", "name", "organization__name"]
    search_help_text = "Prefix, name, organization or org_…; never paste a whole key"
    public_ids = {"org": "organization"}
    ordering = ["-pk"]
    fields = ["name", "prefix", "organization", "created_by", "created_at", "last_used_at", "revoked_at"]
    actions = ["revoke"]

    @reasoned(
        description="Revoke",
        consequence="Requests with this key are refused from now on. Work already accepted goes on.",
        when=lambda key: key.revoked_at is None,
    )
    def revoke(self, row: APIKey, given: Given) -> None:
        if row.revoked_at is not None:
            raise NotAllowed("It was revoked before.")
        services.revoke(key=row, user=given.user, reason=given.reason)
