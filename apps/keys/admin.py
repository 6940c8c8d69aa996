"""API keys as staff see them: whose, since when, in force or not. Neither secret nor hash."""

from django.contrib import admin

from apps.accounts.models import Organization
from apps.accounts.readonly import ReadOnlyAdmin
from apps.accounts.reasoned import Given, ReasonedActions, ReasonedAdmin, reasoned
from apps.core.errors import NotAllowed
from apps.keys import services
from apps.keys.models import APIKey, RateLimit


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


@admin.register(RateLimit)
class RateLimitAdmin(ReasonedAdmin[RateLimit]):
    """What an organization, a key, a model or a tier may use in a minute and at the same time; in force at once.

    Nothing is deleted: a limit without figures is none.
    """

    list_display = [
        "__str__",
        "requests_per_minute",
        "input_tokens_per_minute",
        "output_tokens_per_minute",
        "concurrent_requests",
    ]
    list_select_related = ["organization", "api_key", "model"]
    search_fields = ["organization__name", "api_key__prefix__startswith", "model__name"]
    search_help_text = "Organization, prefix of a key, model"
    raw_id_fields = ["organization", "api_key"]
    ordering = ["-pk"]

    def organization_of(self, row: RateLimit) -> Organization | None:
        return row.organization
