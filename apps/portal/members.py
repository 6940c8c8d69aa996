"""Members of the organization and who is invited: members read, owners and admins change, up to their own role. Anybody may leave, but
for the last owner."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apps.accounts import invitations
from apps.accounts.models import Membership
from apps.accounts.permissions import MemberRequest, organization_required, require, right_required
from apps.accounts.rights import Right, covers
from apps.accounts.roles import BY_VALUE
from apps.core.errors import PortalError
from apps.core.ids import parse
from apps.keys import members
from apps.portal.forms import InviteForm, RoleForm

SIZE = 40

manager_required = right_required(Right.MEMBERS)


@require_safe
@never_cache
@organization_required
def index(request: MemberRequest) -> HttpResponse:
    rows = Membership.objects.filter(organization=request.organization).select_related("user").order_by("pk")
    by_key = members.last_use(request.organization)
    invited = request.organization.invitations.pending().select_related("invited_by").order_by("-sent_at")
    page = Paginator(rows, SIZE).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "members": [
            (each, BY_VALUE[each.role], may_manage(request, each.role), by_key.get(each.user_id)) for each in page
        ],
        "invitations": [(each, may_manage(request, each.role)) for each in invited],
        "manager": request.membership.may(Right.MEMBERS),
    }
    return render(request, "portal/members.html", context)


@never_cache
@manager_required
@require_http_methods(["GET", "HEAD", "POST"])
def invite(request: MemberRequest) -> HttpResponse:
    form = InviteForm(
        request.POST if request.method == "POST" else None,
        initial={"role": "developer"},
        giver=request.membership.role,
    )
    if request.method == "POST" and form.is_valid():
        try:
            made = invitations.invite(organization=request.organization, user=request.user, **form.cleaned_data)
        except PortalError as error:
            form.add_error(error.param, error.message)
        else:
            messages.success(request, gettext("%(email)s was sent an invitation.") % {"email": made.email})
            return redirect("portal:members")
    return render(request, "portal/invite.html", {"form": form}, status=422 if form.errors else 200)


@never_cache
@manager_required
@require_POST
def send_again(request: MemberRequest, public_id: str) -> HttpResponse:
    return told(request, public_id, invitations.send_again, gettext("{} was sent the invitation again."))


@never_cache
@manager_required
@require_POST
def withdraw(request: MemberRequest, public_id: str) -> HttpResponse:
    return told(request, public_id, invitations.withdraw, gettext("The invitation of {} is withdrawn."))


def told(request: MemberRequest, public_id: str, verb: Callable[..., object], done: str) -> HttpResponse:
    pk = parse("inv", public_id)
    found = request.organization.invitations.filter(pk=pk).first() if pk else None
    if found is None:
        raise Http404
    try:
        verb(invitation=found, user=request.user)
    except PortalError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, done.format(found.email))
    return redirect("portal:members")


@never_cache
@manager_required
@require_http_methods(["GET", "HEAD", "POST"])
def member(request: MemberRequest, number: int) -> HttpResponse:
    """Another role for a member."""
    found = member_of(request, number)
    manageable(request, found)
    form = RoleForm(
        request.POST if request.method == "POST" else None,
        initial={"role": found.role},
        giver=request.membership.role,
    )
    if request.method == "POST" and form.is_valid():
        try:
            members.change_role(membership=found, role=form.cleaned_data["role"], user=request.user)
        except PortalError as error:
            form.add_error(None, error.message)
        else:
            messages.success(request, gettext("Saved. It is in force at once."))
            return redirect("portal:members")
    context = {"form": form, "member": found}
    return render(request, "portal/member.html", context, status=422 if form.errors else 200)


@never_cache
@organization_required
@require_http_methods(["GET", "HEAD", "POST"])
def remove(request: MemberRequest, number: int) -> HttpResponse:
    """Owners and admins remove members; anybody leaves."""
    found = member_of(request, number)
    own = found.user_id == request.user.pk
    if not own:
        manageable(request, found)
    refused = ""
    if request.method == "POST":
        try:
            members.remove(membership=found, user=request.user)
        except PortalError as error:
            refused = error.message
        else:
            what = (
                gettext("You left %(organization)s.") % {"organization": request.organization}
                if own
                else gettext("%(email)s was removed.") % {"email": found.user.email}
            )
            messages.success(request, what)
            return redirect("portal:dashboard" if own else "portal:members")
    context = {"member": found, "own": own, "refused": refused}
    return render(request, "portal/member_remove.html", context, status=422 if refused else 200)


def may_manage(request: MemberRequest, role: str) -> bool:
    return request.membership.may(Right.MEMBERS) and covers(request.membership.role, role)


def manageable(request: MemberRequest, found: Membership) -> None:
    """Raises PermissionDenied."""
    require(request, Right.MEMBERS)
    if not covers(request.membership.role, found.role):
        raise PermissionDenied(invitations.BeyondRole(found.role).message)


def member_of(request: MemberRequest, number: int) -> Membership:
    rows = Membership.objects.filter(organization=request.organization).select_related("user", "organization")
    found = rows.filter(pk=number).first() if number < 2**63 else None
    if found is None:
        raise Http404
    return found
