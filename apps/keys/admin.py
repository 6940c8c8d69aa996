"""API keys as staff see them: whose, since when, in force or not. Neither secret nor hash. And members, with whose role
go scopes of their keys.
"""

from typing import Any, cast

from django import forms
from django.contrib import admin
from django.http import HttpRequest

from apps.accounts import admin as accounts
from apps.accounts.models import Membership, Organization
from apps.accounts.readonly import ReadOnlyAdmin
from apps.accounts.reasoned import Given, ReasonedActions, ReasonedAdmin, ReasonedModelForm, reasoned, staff
from apps.core.errors import NotAllowed
from apps.keys import members, services
from apps.keys.members import LastOwner
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


class MembershipForm(ReasonedModelForm):
    def clean_role(self) -> str:
        role: str = self.cleaned_data["role"]
        if self.instance.pk:
            locked = members.locked_member(cast(Membership, self.instance))
            try:
                members.keep_an_owner(locked, role)
            except LastOwner as refusal:
                raise forms.ValidationError(refusal.message) from refusal
        return role


@admin.register(Membership)
class MembershipAdmin(accounts.MembershipAdmin):
    """The page's own verbs: what a role takes from keys and invitations it takes here too."""

    form = MembershipForm  # type: ignore[assignment]
    actions = ["remove"]

    def save_model(self, request: HttpRequest, obj: Membership, form: Any, change: bool) -> None:
        if not change:
            return super().save_model(request, obj, form, change)
        members.change_role(
            membership=obj, role=obj.role, user=staff(request), reason=form.cleaned_data["staff_reason"]
        )
        return None

    @reasoned(
        description="Remove membership",
        consequence="The person loses access to the organization at once. Keys they made go on, but manage nothing any more.",
    )
    def remove(self, row: Membership, given: Given) -> None:
        members.remove(membership=row, user=given.user, reason=given.reason)
