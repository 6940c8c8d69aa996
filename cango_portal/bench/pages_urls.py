"""The portal's addresses, and one of a view that answers with nothing: what a page costs before it does anything."""

from django.http import HttpRequest, HttpResponse
from django.urls import path

from apps.accounts.permissions import organization_required
from cango_portal.urls import *  # noqa: F403 - handlers of errors too
from cango_portal.urls import urlpatterns as portal


@organization_required
def empty(request: HttpRequest) -> HttpResponse:
    return HttpResponse("")


urlpatterns = [path("bench/empty/", empty), *portal]
