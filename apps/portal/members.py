"""Members of the organization and who is invited: members read, owners change. Anybody may leave, but for the last owner."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.translation import gettext, gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apps.accounts import invitations
from apps.accounts.models import Membership
from apps.accounts.permissions import Guarded, MemberRequest, organization_required
from apps.accounts.roles import BY_VALUE
from apps.core.errors import PortalError
from apps.core.ids import parse
from apps.keys import members
from apps.portal.forms import InviteForm, RoleForm

OWNERS_ONLY = gettext_lazy("Members are managed by the owners of your organization. Ask one of them.")


def owner_required(view: Callable[..., HttpResponseBase]) -> Guarded[...]:
    """Signed in, in an organization, as its owner; else 403 and who may."""

    @wraps(view)
    def guarded(request: MemberRequest, /, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not is_owner(request):
            raise PermissionDenied(OWNERS_ONLY)
        return view(request, *args, **kwargs)

    return never_cache(organization_required(guarded))


def is_owner(request: MemberRequest) -> bool:
    return request.membership.role == Membership.Role.OWNER


@require_safe
@never_cache
@organization_required
def index(request: MemberRequest) -> HttpResponse:
    rows = Membership.objects.filter(organization=request.organization).select_related("user").order_by("pk")
    context = {
        "members": [(each, BY_VALUE[each.role]) for each in rows],
        "invitations": request.organization.invitations.pending().select_related("invited_by").order_by("-sent_at"),
        "owner": is_owner(request),
    }
    return render(request, "portal/members.html", context)


@owner_required
@require_http_methods(["GET", "HEAD", "POST"])
def invite(request: MemberRequest) -> HttpResponse:
    form = InviteForm(request.POST if request.method == "POST" else None, initial={"role": "developer"})
    if request.method == "POST" and form.is_valid():
        try:
            made = invitations.invite(organization=request.organization, user=request.user, **form.cleaned_data)
        except PortalError as error:
            form.add_error(error.param, error.message)
        else:
            messages.success(request, gettext("%(email)s was sent an invitation.") % {"email": made.email})
            return redirect("portal:members")
    return render(request, "portal/invite.html", {"form": form}, status=422 if form.errors else 200)


@owner_required
@require_POST
def send_again(request: MemberRequest, public_id: str) -> HttpResponse:
    return told(request, public_id, invitations.send_again, gettext("{} was sent the invitation again."))


@owner_required
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


@owner_required
@require_http_methods(["GET", "HEAD", "POST"])
def member(request: MemberRequest, number: int) -> HttpResponse:
    """Another role for a member."""
    found = member_of(request, number)
    form = RoleForm(request.POST if request.method == "POST" else None, initial={"role": found.role})
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
    """Owners remove members; anybody leaves."""
    found = member_of(request, number)
    own = found.user_id == request.user.pk
    if not own and not is_owner(request):
        raise PermissionDenied(OWNERS_ONLY)
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


def member_of(request: MemberRequest, number: int) -> Membership:
    rows = Membership.objects.filter(organization=request.organization).select_related("user", "organization")
    found = rows.filter(pk=number).first() if number < 2**63 else None
    if found is None:
        raise Http404
    return found
