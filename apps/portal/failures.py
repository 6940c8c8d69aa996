"""The pages of failed requests, in plain words. The 500 page works without database, Redis and session."""

import logging
import secrets

from django.http import HttpRequest, HttpResponse, HttpResponseServerError
from django.shortcuts import render
from django.template import loader
from django.urls import reverse

from apps.core.logging import request_id

log = logging.getLogger(__name__)

ADMINISTRATION = "Administration is for the staff who operate this portal. Nothing was changed."
ADMINISTRATION_STAFF = "Your staff account has no permission for this part of the administration. Nothing was changed."


def reference(event: str, *, level: int, path: str) -> str:
    """What to quote: the request's id, or a new number where it has none. One line of the log has it too.

    Django's own line of a failure has the request in the place of its id.
    """
    number = request_id.get() or f"req_{secrets.token_hex(16)}"
    log.log(level, event, exc_info=level >= logging.ERROR, extra={"request": number, "path": path})
    return number


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return render(request, "400.html", status=400)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """`PermissionDenied("…")` may say why; what Django itself raises is not for readers."""
    why = str(exception)
    if not why and request.path.startswith(reverse("admin:index")):
        why = ADMINISTRATION_STAFF if request.user.is_staff else ADMINISTRATION
    return render(request, "403.html", {"why": why}, status=403)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return render(
        request,
        "404.html",
        {"reference": reference("page not found", level=logging.INFO, path=request.path)},
        status=404,
    )


def too_many(request: HttpRequest) -> HttpResponse:
    return render(request, "429.html", status=429)


def server_error(request: HttpRequest) -> HttpResponse:
    """Without the request: a context processor may be what failed."""
    return HttpResponseServerError(
        loader.get_template("500.html").render(
            {"reference": reference("page failed", level=logging.ERROR, path=request.path)}
        )
    )
