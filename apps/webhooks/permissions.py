"""Who manages webhooks: owners and developers. A webhook shows what an organization does, which billing need not see."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec

from django.core.exceptions import PermissionDenied
from django.http.response import HttpResponseBase
from django.utils.translation import gettext_lazy

from apps.accounts.models import Membership
from apps.accounts.permissions import Guarded, MemberRequest, organization_required

P = ParamSpec("P")
ROLES = {Membership.Role.OWNER, Membership.Role.DEVELOPER}
WHY = gettext_lazy(
    "Webhooks are managed by the owners and developers of your organization. An owner can change your role."
)


def may_manage(membership: Membership) -> bool:
    return membership.role in ROLES


def manager_required(view: Callable[Concatenate[MemberRequest, P], HttpResponseBase]) -> Guarded[P]:
    """Signed in, in an organization, and in a role that manages its webhooks; else 403 and why."""

    @wraps(view)
    def guarded(request: MemberRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if not may_manage(request.membership):
            raise PermissionDenied(WHY)
        return view(request, *args, **kwargs)

    return organization_required(guarded)
