"""Who may open a page."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, cast

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django_htmx.middleware import HtmxDetails

from apps.accounts.models import Membership, Organization, User
from apps.accounts.rights import WHY, Right

P = ParamSpec("P")


class MemberRequest(HttpRequest):
    """A request behind `organization_required`. Only a name for the type checker: no request is made of it."""

    user: User
    organization: Organization
    membership: Membership
    htmx: HtmxDetails


class Denied(PermissionDenied):
    """The role lacks a right; says who has it."""

    def __init__(self, right: Right) -> None:
        super().__init__(WHY[right])
        self.right = right


View = Callable[Concatenate[MemberRequest, P], HttpResponseBase]
Guarded = Callable[Concatenate[HttpRequest, P], HttpResponseBase]


def organization_required(view: View[P]) -> Guarded[P]:
    """Signed in and a member of an organization; otherwise to the sign-in page, or to the one that makes one."""

    def guarded(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        member = cast(MemberRequest, request)
        if getattr(request, "organization", None) is None:
            return redirect("admin:index" if request.user.is_staff else "portal:welcome")
        return view(member, *args, **kwargs)

    return cast(Guarded[P], wraps(view)(login_required(guarded)))


def may_pay(membership: Membership | None) -> bool:
    """May this member see payments, and change what is paid and what may be spent?"""
    return membership is not None and membership.may(Right.PAY)


def right_required(right: Right) -> Callable[[View[P]], Guarded[P]]:
    """Signed in, in an organization, in a role that has the right; else 403 and who has it."""

    def decorated(view: View[P]) -> Guarded[P]:
        @wraps(view)
        def guarded(request: MemberRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            require(request, right)
            return view(request, *args, **kwargs)

        return organization_required(guarded)

    return decorated


def require(request: MemberRequest, right: Right) -> None:
    """Raises Denied."""
    if not request.membership.may(right):
        raise Denied(right)


def billing_required(view: View[P]) -> Guarded[P]:
    return right_required(Right.PAY)(view)


def work_required(view: View[P]) -> Guarded[P]:
    return right_required(Right.WORK)(view)
