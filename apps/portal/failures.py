"""The pages of failed requests, in plain words. The 500 page works without database, Redis and session."""

import logging
import secrets
from urllib.parse import quote

from django.http import HttpRequest, HttpResponse, HttpResponseServerError
from django.shortcuts import render
from django.template import loader
from django.urls import Resolver404, reverse
from django.utils.translation import gettext

from apps.accounts.models import Membership
from apps.accounts.permissions import Denied
from apps.accounts.rights import Right, givers
from apps.core.logging import request_id

log = logging.getLogger(__name__)

MOST_PEOPLE = 3  # who are named, and organizations that are offered
ADMINISTRATION = "Administration is for the staff who operate this portal. Nothing was changed."
ADMINISTRATION_STAFF = "Your staff account has no permission for this part of the administration. Nothing was changed."


def reference(event: str, *, level: int, path: str, **data: str) -> str:
    """What to quote: the request's id, or a new number where it has none. One line of the log has it too.

    Django's own line of a failure has the request in the place of its id.
    """
    number = request_id.get() or f"req_{secrets.token_hex(16)}"
    log.log(level, event, exc_info=level >= logging.ERROR, extra={"request": number, "path": path, **data})
    return number


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return render(request, "400.html", status=400)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """`PermissionDenied("…")` may say why; what Django itself raises is not for readers."""
    why = str(exception)
    if not why and request.path.startswith(reverse("admin:index")):
        why = ADMINISTRATION_STAFF if request.user.is_staff else ADMINISTRATION
    people = who_can_give(exception.right, request) if isinstance(exception, Denied) else []
    context = {
        "why": why,
        "people": people,
        "ask": letter(people, request) if people else "",
        "reference": reference("page refused", level=logging.INFO, path=request.path),
    }
    return render(request, "403.html", context, status=403)


def who_can_give(right: Right, request: HttpRequest) -> list[Membership]:
    """Those of the organization who can give the reader a role with that right, longest there first."""
    members = Membership.objects.filter(
        organization=getattr(request, "organization", None), role__in=givers(right), user__is_active=True
    )
    return list(members.exclude(user=request.user.pk).select_related("user").order_by("pk")[:MOST_PEOPLE])


def letter(people: list[Membership], request: HttpRequest) -> str:
    """A mail to them for the reader to send: it goes by the reader's own mail program, so that an answer comes back there."""
    values = {
        "organization": people[0].organization.name,
        "url": request.build_absolute_uri(request.path),
    }
    subject = gettext("Access in %(organization)s at Cango Portal") % values
    body = gettext("I need this page for my work, and my role does not open it: %(url)s") % values
    addresses = ",".join(quote(each.user.email, safe="@") for each in people)
    return f"mailto:{addresses}?subject={quote(subject)}&body={quote(body)}"


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return render(
        request,
        "404.html",
        {
            "reference": reference("page not found", level=logging.INFO, path=request.path),
            "others": others(request) if not isinstance(exception, Resolver404) else [],
        },
        status=404,
    )


def others(request: HttpRequest) -> list[Membership]:
    """The reader's other organizations: a link out of a mail may be of one that is not in use."""
    mine = getattr(request, "memberships", [])
    return [each for each in mine if each != getattr(request, "membership", None)][:MOST_PEOPLE]


def too_many(request: HttpRequest) -> HttpResponse:
    return render(request, "429.html", status=429)


def server_error(request: HttpRequest) -> HttpResponse:
    """Without the request: a context processor may be what failed."""
    return HttpResponseServerError(
        loader.get_template("500.html").render(
            {"reference": reference("page failed", level=logging.ERROR, path=request.path)}
        )
    )
