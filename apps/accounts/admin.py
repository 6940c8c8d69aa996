"""People, organizations and the audit trail. Staff sign in where everybody does, so the same limits and factors apply."""

from __future__ import annotations

from allauth.account.admin import EmailAddressAdmin
from allauth.account.decorators import secure_admin_login
from allauth.account.models import EmailAddress
from allauth.mfa.admin import AuthenticatorAdmin
from allauth.mfa.models import Authenticator
from allauth.usersessions.admin import UserSessionAdmin
from allauth.usersessions.models import UserSession
from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from apps.accounts import audit
from apps.accounts.models import AuditEvent, Invitation, Membership, Organization, User
from apps.accounts.readonly import HistoryAdmin, ReadOnlyInline
from apps.accounts.reasoned import Given, ReasonedActions, ReasonedAdmin, reasoned, staff
from apps.core.errors import NotAllowed

admin.site.site_header = "Cango Portal"
admin.site.site_title = "Cango Portal"
admin.site.index_title = "Administration"
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]


def own_password_page(request: HttpRequest, extra_context: dict[str, object] | None = None) -> HttpResponse:
    return HttpResponseRedirect(reverse("account_change_password"))


admin.site.password_change = own_password_page  # type: ignore[assignment, method-assign]

# allauth brings pages that would show a second factor's secret or verify an address without a reason.
assert AuthenticatorAdmin
assert EmailAddressAdmin
assert UserSessionAdmin
admin.site.unregister([Authenticator, EmailAddress, UserSession])


class MembershipInline(ReadOnlyInline):
    model = Membership
    fields = ["user", "role", "created_at"]
    show_change_link = True

    def get_queryset(self, request: HttpRequest):  # type: ignore[no-untyped-def]
        return super().get_queryset(request).select_related("user", "organization")


class OrganizationAdmin(ReasonedAdmin[Organization]):
    """How an organization reads. `apps.ledger.admin` registers it, with its balance and the act on it."""

    list_display = ["name", "public_id", "created_at", "closing_at"]
    search_fields = ["name", "memberships__user__email"]
    search_help_text = "Name, member's e-mail or org_…"
    public_ids = {"org": "pk"}
    ordering = ["-pk"]
    fields = ["name", "public_id", "created_at", "closing_at", "closed_at", "staff_reason"]
    readonly_fields = ["public_id", "created_at", "closing_at", "closed_at"]
    inlines = [MembershipInline]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # an organization begins with an owner and an account: the welcome page

    def organization_of(self, row: Organization) -> Organization:
        return row

    def target_of(self, row: Organization) -> str:
        return row.public_id


class MembershipAdmin(ReasonedActions[Membership], ReasonedAdmin[Membership]):
    """How a membership reads. `apps.keys.admin` registers it: with a role go scopes of keys."""

    list_display = ["user", "organization", "role", "created_at", "last_active_at"]
    list_filter = ["role"]
    list_select_related = ["user", "organization"]
    search_fields = ["user__email", "organization__name"]
    search_help_text = "E-mail, organization or org_…"
    public_ids = {"org": "organization"}
    ordering = ["-pk"]
    raw_id_fields = ["user", "organization"]

    def get_readonly_fields(self, request: HttpRequest, obj: Membership | None = None) -> list[str]:
        return ["user", "organization", "created_at", "last_active_at"] if obj else []

    def organization_of(self, row: Membership) -> Organization:
        return row.organization

    def target_of(self, row: Membership) -> str:
        return f"user:{row.user_id}"


@admin.register(User)
class UserAdmin(ReasonedActions[User], ReasonedAdmin[User]):
    """People sign up by themselves and set their own password; rights of staff are a superuser's to give."""

    list_display = ["email", "name", "is_active", "is_staff", "last_login", "date_joined"]
    list_filter = ["is_active", "is_staff"]
    search_fields = ["email", "name"]
    ordering = ["-pk"]
    fields = [
        "email",
        "name",
        "time_zone",
        "is_active",
        "is_staff",
        "is_superuser",
        "groups",
        "last_login",
        "date_joined",
        "staff_reason",
    ]
    filter_horizontal = ["groups"]
    inlines = [MembershipInline]
    actions = ["suspend", "reinstate"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        if obj is not None and obj.is_superuser and not staff(request).is_superuser:
            return False
        return super().has_change_permission(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str]:
        fixed = ["email", "is_active", "last_login", "date_joined"]
        return fixed if staff(request).is_superuser else [*fixed, "is_staff", "is_superuser", "groups"]

    def target_of(self, row: User) -> str:
        return f"user:{row.pk}"

    @reasoned(
        description="Suspend",
        consequence="The person is signed out with the next request and cannot sign in. Organizations and keys stay.",
        when=lambda user: user.is_active,
    )
    def suspend(self, row: User, given: Given) -> None:
        if row == given.user:
            raise NotAllowed("You cannot suspend yourself.")
        self.set_active(row, given, active=False)

    @reasoned(
        description="Reinstate", consequence="The person can sign in again.", when=lambda user: not user.is_active
    )
    def reinstate(self, row: User, given: Given) -> None:
        self.set_active(row, given, active=True)

    @transaction.atomic
    def set_active(self, row: User, given: Given, *, active: bool) -> None:
        if row.is_staff and not given.user.is_superuser:
            raise NotAllowed("Only a superuser may do this to staff.")
        if not User.objects.filter(pk=row.pk, is_active=not active).update(is_active=active):
            raise NotAllowed("Nothing to do: it is so already.")
        audit.record(
            organization=None,
            actor=given.user,
            action="user.reinstated" if active else "user.suspended",
            target=self.target_of(row),
            reason=given.reason,
        )


@admin.register(Invitation)
class InvitationAdmin(HistoryAdmin[Invitation]):
    list_display = ["email", "organization", "role", "state", "invited_by", "sent_at", "expires_at"]
    list_filter = ["state"]
    list_select_related = ["organization", "invited_by"]
    search_fields = ["email__exact"]
    search_help_text = "E-mail, org_… or inv_…, exactly"
    public_ids = {"org": "organization", "inv": "pk"}
    ordering = ["-pk"]


@admin.register(AuditEvent)
class AuditEventAdmin(HistoryAdmin[AuditEvent]):
    list_display = ["at", "action", "target", "organization", "actor", "address", "reason"]
    list_select_related = ["organization", "actor"]
    search_fields = ["action__exact", "target__exact"]
    search_help_text = "Action, target or org_…, exactly"
    public_ids = {"org": "organization"}
    ordering = ["-pk"]
