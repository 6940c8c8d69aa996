"""What search engines ask for: which pages are for everybody, and where they are."""

from collections.abc import Iterator

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from apps.catalog import offers
from apps.portal.docs import pages, reference
from cango_portal import database

HOUR_SECONDS = 3600
SECTIONS = tuple(f"portal:{name}" for name in ("models", "pricing", "docs", "status", "terms", "privacy", "data"))
DOORS = ("account_signup", "account_login")


@require_safe
@cache_control(max_age=HOUR_SECONDS, public=True)
def robots(request: HttpRequest) -> HttpResponse:
    """RFC 9309: the longest rule that fits decides, `$` ends an address. Names what is public, so that it tells nothing of the rest
    and a page that comes later is nobody's until it stands here. Asks no database.
    """
    allowed = ["/$", *(reverse(name) for name in (*SECTIONS, *DOORS)), settings.STATIC_URL]
    rules = ["User-agent: *", *(f"Allow: {path}" for path in allowed), "Disallow: /"]
    return HttpResponse(
        "\n".join([*rules, "", f"Sitemap: {settings.BASE_URL}{reverse('portal:sitemap')}", ""]),
        content_type="text/plain; charset=utf-8",
    )


@require_safe
@cache_control(max_age=HOUR_SECONDS, public=True)
def sitemap(request: HttpRequest) -> HttpResponse:
    """sitemaps.org, protocol 0.9."""
    addresses = [f"{settings.BASE_URL}{path}" for path in public_pages()]
    return render(
        request, "portal/sitemap.xml", {"addresses": addresses}, content_type="application/xml; charset=utf-8"
    )


def public_pages() -> Iterator[str]:
    yield from (reverse(name) for name in ("portal:front", *SECTIONS, *DOORS))
    yield from (reverse("portal:model", args=offer.name.split("/")) for offer in database.run(offers.offers()))
    yield from (page.url for page in pages.every())
    yield from (reverse("portal:docs-reference", args=[slug]) for slug in reference.chapters())
