"""What a page knows of the person: which organization they work in, part of the session, their language and time zone."""

from collections.abc import Callable
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.middleware.locale import LocaleMiddleware
from django.utils import timezone, translation
from django.utils.deprecation import MiddlewareMixin
from django.utils.translation import gettext_lazy
from django_htmx.http import HttpResponseClientRedirect

from apps.accounts import activity, languages
from apps.accounts.models import Membership
from apps.accounts.zones import zone

SESSION_KEY = "organization"
OF_STAFF = ("/admin/", "/operations/")  # who works there is not in an organization
UNATTENDED = "X-Unattended"  # a page that was left open fetches a part of itself: nobody need be there


class OrganizationMiddleware(MiddlewareMixin):
    """Sets `request.memberships`, `request.membership` and `request.organization`, the last two None for visitors and for people without one.

    Raises PermissionDenied where something would begin in an organization that is to be deleted.
    The session names the organization; without a name, or where the person left it, it is the first they joined.
    """

    def process_request(self, request: HttpRequest) -> None:
        membership, memberships = None, []
        if request.user.is_authenticated:
            memberships = list(
                Membership.objects.filter(user=request.user).select_related("organization").order_by("pk")
            )
            chosen = request.session.get(SESSION_KEY)
            membership = next((row for row in memberships if str(row.organization_id) == chosen), None) or next(
                iter(memberships), None
            )
        request.memberships = memberships  # type: ignore[attr-defined]
        request.membership = membership  # type: ignore[attr-defined]
        request.organization = membership.organization if membership else None  # type: ignore[attr-defined]
        if membership and UNATTENDED not in request.headers and not request.path.startswith(OF_STAFF):
            activity.seen(membership)
        if begins_while_closing(request):
            raise PermissionDenied(CLOSING)


# Where work, keys and payments begin. An organization that is to be deleted begins nothing; what ends something is open to it.
BEGINS = ("/playground/", "/jobs/", "/batches/", "/keys/", "/api/v1/", "/billing/add/", "/billing/automatic/", "/settings/webhooks/", "/settings/members/")  # fmt: skip
ENDS = ("/cancel/", "/revoke/", "/remove/", "/withdraw/", "/delete/", "/disable/")
CLOSING = gettext_lazy(
    "This organization is to be deleted, so nothing new begins in it. An owner can undo that on the organization's page."
)


def begins_while_closing(request: HttpRequest) -> bool:
    organization = request.organization  # type: ignore[attr-defined]
    return (
        organization is not None
        and organization.closing_at is not None
        and request.method not in ("GET", "HEAD", "OPTIONS")
        and request.path.startswith(BEGINS)
        and not request.path.endswith(ENDS)
    )


class SignedOutMiddleware:
    """Whoever was signed out goes to sign in and back to the page, where a part of it was asked for: in its place the sign-in would be shown, or nothing."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        htmx = request.htmx  # type: ignore[attr-defined]
        if not htmx or response.status_code != 302 or urlsplit(response["Location"]).path != settings.LOGIN_URL:
            return response
        page = htmx.current_url_abs_path  # None of another host
        away = HttpResponseClientRedirect(redirect_to_login(page).url if page else response["Location"])
        away["Cache-Control"] = response.get("Cache-Control", "no-store")
        return away


UTC_ONLY = (*OF_STAFF, "/api/")  # staff in several zones talk of one time; programs have no zone


class LanguageMiddleware(LocaleMiddleware):
    """Pages are in the reader's language; what staff and programs read is in English."""

    def process_request(self, request: HttpRequest) -> None:
        if request.path.startswith(UTC_ONLY):
            translation.activate("en")
        else:
            super().process_request(request)  # before the person is read: the page of a failure needs a language too
            accepts = request.headers.get("Accept-Language", "")
            translation.activate(languages.of(request.user, request.COOKIES, accepts))
        request.LANGUAGE_CODE = translation.get_language()


class TimeZoneMiddleware:
    """Times on pages are those of the reader's zone."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path.startswith(UTC_ONLY) or not request.user.is_authenticated:
            return self.get_response(request)
        with timezone.override(zone(request.user.time_zone)):
            return self.get_response(request)
