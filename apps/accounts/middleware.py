"""Which organization the person works in: part of the session."""

from django.http import HttpRequest
from django.utils.deprecation import MiddlewareMixin

from apps.accounts.models import Membership

SESSION_KEY = "organization"


class OrganizationMiddleware(MiddlewareMixin):
    """Sets `request.membership` and `request.organization`, both None for visitors and for people without one.

    The session names the organization; without a name, or where the person left it, it is the first they joined.
    """

    def process_request(self, request: HttpRequest) -> None:
        membership = None
        if request.user.is_authenticated:
            memberships = Membership.objects.filter(user=request.user).select_related("organization").order_by("pk")
            chosen = request.session.get(SESSION_KEY)
            membership = next((row for row in memberships if str(row.organization_id) == chosen), None) or next(
                iter(memberships), None
            )
        request.membership = membership  # type: ignore[attr-defined]
        request.organization = membership.organization if membership else None  # type: ignore[attr-defined]
