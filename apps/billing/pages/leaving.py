"""Out of the portal, to a page of Stripe's, and only there."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings
from django.http import Http404, HttpResponse, HttpResponseRedirect


def away(url: str) -> HttpResponse:
    """To a page that Stripe named. Where it named none there is nothing to show.

    The sandbox's pages are this portal's: by the host the reader came by, since forms may not lead to another one.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http"):
        raise Http404
    if settings.SANDBOX_MONEY and url.startswith(settings.BASE_URL):
        url = url.removeprefix(settings.BASE_URL)
    return HttpResponseRedirect(url)
