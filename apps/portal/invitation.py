"""The page that an invitation's mail leads to, for people with an account, without one, and with another; and the switch."""

from __future__ import annotations

from urllib.parse import urlencode

from allauth.account.adapter import get_adapter
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from apps.accounts import invitations
from apps.accounts.middleware import SESSION_KEY
from apps.accounts.models import Invitation, Membership, User
from apps.accounts.roles import BY_VALUE
from apps.core.errors import PortalError


def standing(invitation: Invitation, user: User | None) -> str:
    """What the page is about: a state, "over", or of one that is open "visitor", "member", "other" or "open"."""
    if invitation.state != Invitation.State.PENDING:
        return invitation.state
    if user is not None and Membership.objects.filter(organization=invitation.organization, user=user).exists():
        return "member"
    if invitation.is_over:
        return "over"
    if user is None:
        return "visitor"
    return "open" if invitations.is_for(invitation, user) else "other"


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """Accepting needs an account with the address that was invited; declining needs the mail alone."""
    found = invitations.found(token)
    if found is None:
        raise Http404
    user = request.user if request.user.is_authenticated else None
    refused = ""
    if request.method == "POST":
        try:
            if request.POST.get("answer") == "accept" and user is not None:
                membership = invitations.accept(invitation=found, user=user)
                request.session[SESSION_KEY] = str(membership.organization_id)
                messages.success(
                    request,
                    gettext("You are a member of %(organization)s.") % {"organization": membership.organization},
                )
                return redirect("portal:dashboard")
            if request.POST.get("answer") == "decline":
                invitations.decline(invitation=found, user=user)
                return redirect("portal:invitation", token)
        except PortalError as error:
            refused = error.message
        found.refresh_from_db()
    state = standing(found, user)
    if state == "visitor":  # whoever opened the mail needs no second one to confirm the address
        get_adapter().stash_verified_email(request, found.email)
    here = request.path
    context = {
        "invitation": found,
        "state": state,
        "role": BY_VALUE[found.role],
        "refused": refused,
        "sign_in": f"{reverse('account_login')}?{urlencode({'next': here})}",
        "sign_up": f"{reverse('account_signup')}?{urlencode({'next': here, 'email': found.email})}",
        "here": here,
    }
    return render(request, "portal/invitation.html", context, status=409 if refused else 200)


@require_POST
@login_required
def switch(request: HttpRequest) -> HttpResponse:
    """Work in another of one's organizations. What is not one's own changes nothing."""
    chosen = request.POST.get("organization", "")
    if chosen in {str(each.organization_id) for each in request.memberships}:  # type: ignore[attr-defined]
        request.session[SESSION_KEY] = chosen
    following = request.POST.get("next", "")
    if not url_has_allowed_host_and_scheme(following, {request.get_host()}, request.is_secure()):
        following = reverse("portal:dashboard")
    return redirect(following)
