"""Who may use the management API at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.views import APIView

from apps.accounts.models import Membership, Organization, User
from apps.accounts.permissions import may_pay
from apps.accounts.rights import WHY, Right
from apps.accounts.scopes import Needed, Scope
from apps.core.errors import NotAllowed

# What a member's role must allow where a key needs the scope. A view for keys that manage asks for its right itself.
OF_SCOPE = {Scope.INFERENCE.value: Right.WORK, Scope.BATCHES.value: Right.WORK, Scope.WEBHOOKS.value: Right.WEBHOOKS}


def needed_by(view: APIView, method: str | None) -> Needed:
    """A view names it in `scope`, once or by method; one that is silent is for keys that manage."""
    if not hasattr(view, (method or "").lower()):
        return None  # answered with 405
    scope: Needed | Mapping[str, Needed] = getattr(view, "scope", Scope.MANAGE.value)
    if isinstance(scope, Mapping):
        return scope.get("GET" if method in ("HEAD", "OPTIONS") else method or "GET", Scope.MANAGE.value)
    return scope


class KeyInForce(Protocol):
    """What `request.auth` is when a key calls; with a session it is None."""

    def require(self, needed: Needed) -> None:
        """Raises InsufficientScope."""

    def may_use(self, model: str) -> bool: ...

    def maker_may(self, right: Right) -> bool: ...


class InOrganization(IsAuthenticated):
    """A key with the view's `scope`, or a signed-in member whose role does the same on pages. Somebody without an organization has nothing to manage."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not super().has_permission(request, view):
            return False
        if getattr(request, "organization", None) is None:
            raise NotAllowed("You are not a member of an organization yet. Create one on the welcome page.")
        needed = needed_by(view, request.method)
        if request.auth is not None:
            cast(KeyInForce, request.auth).require(needed)
        elif isinstance(needed, str) and needed in OF_SCOPE:
            right = OF_SCOPE[needed]
            membership = getattr(request, "membership", None)
            if not isinstance(membership, Membership) or not membership.may(right):
                raise NotAllowed(str(WHY[right]))
        return True


class ReadsPayments(InOrganization):
    """A member who may see the organization's payments, or a key with the view's `scope` whose maker may."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not super().has_permission(request, view):
            return False
        if isinstance(request.user, User) and not may_pay(getattr(request, "membership", None)):
            raise NotAllowed(str(WHY[Right.PAY]))
        if request.auth is not None and not cast(KeyInForce, request.auth).maker_may(Right.PAY):
            raise NotAllowed(
                "Payments are read by keys of those who may see them: owners, and members with the billing role. Whoever made "
                "this key may not, so it reads the balance, usage and jobs. One of them can make a key, or replace this one."
            )
        return True


def may_use(request: Request, model: str) -> bool:
    """May this caller send work to the model? A member may use all of them."""
    return request.auth is None or cast(KeyInForce, request.auth).may_use(model)


def organization_of(request: Request) -> Organization:
    """Whose data this is: set by the key, or by the session."""
    return cast(Organization, request.organization)  # type: ignore[attr-defined]
