"""Pages that draw on several apps: front, catalog, welcome, overview; and the theme, and the demo's mail."""

from functools import cache
from typing import cast

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django.views.decorators.vary import vary_on_headers
from django_htmx.middleware import HtmxDetails

from apps.accounts import invitations, languages
from apps.accounts.middleware import SESSION_KEY
from apps.accounts.models import User
from apps.accounts.permissions import MemberRequest, organization_required
from apps.catalog import offers
from apps.catalog.models import Model
from apps.portal import legal, mailbox, output, parts, running, selectors, services, status
from apps.portal.catalog import Catalog
from apps.portal.context import THEMES
from apps.portal.forms import WelcomeForm
from apps.portal.pricing import Pricing
from apps.portal.span import Span
from cango_portal import database


class HtmxHttpRequest(HttpRequest):
    htmx: HtmxDetails


THEME_SECONDS = 365 * 24 * 3600


@require_safe
def front(request: HttpRequest) -> HttpResponse:
    return render(
        request,
        "portal/front.html",
        {"listings": selectors.catalog()[:3]},
    )


@require_safe
@vary_on_headers("HX-Request")
def models(request: HtmxHttpRequest) -> HttpResponse:
    """The catalog, as its address says; the list alone for a page that fetches it again."""
    shown = Catalog(selectors.catalog(), request.GET.dict())
    return render(
        request,
        "portal/_model_list.html" if request.htmx else "portal/models.html",
        {"catalog": shown, "listings": shown.listings, "widths": shown.widths},
    )


@require_safe
def model(request: HttpRequest, publisher: str, name: str) -> HttpResponse:
    listing = selectors.listing(f"{publisher}/{name}")
    if listing is None:
        raise Http404
    organization = getattr(request, "organization", None)
    discount = database.run(offers.discount(organization.pk, listing.offer.model_id)) if organization else 0
    context = {
        "listing": listing,
        "discount": discount,
        "regions": cache(lambda: selectors.regions(listing, now=timezone.now())),
        "most": selectors.RECENT_JOBS,
    }
    return render(request, "portal/model.html", context)


@require_safe
def pricing(request: HttpRequest) -> HttpResponse:
    """Every price, how a charge is made, and a calculator whose answer the address holds."""
    shown = Pricing(getattr(request, "organization", None), request.GET.dict())
    return render(
        request, "portal/pricing.html", {"pricing": shown, "form": shown.form}, status=422 if shown.wrong else 200
    )


@require_safe
@never_cache
@vary_on_headers("HX-Request")
def status_page(request: HtmxHttpRequest) -> HttpResponse:
    """Everything of it changes with the minute, so that the page fetches it again by itself."""
    return render(request, "portal/_status.html" if request.htmx else "portal/status.html", {"status": status.status()})


@require_safe
def terms(request: HttpRequest) -> HttpResponse:
    return render(request, "portal/terms.html", {"operator": legal.operator()})


@require_safe
def privacy(request: HttpRequest) -> HttpResponse:
    return render(request, "portal/privacy.html", {"operator": legal.operator()})


@require_safe
def data(request: HttpRequest) -> HttpResponse:
    """Where it is processed and how long it is kept."""
    return render(
        request, "portal/data.html", {"operator": legal.operator(), "kept": legal.kept(), "places": legal.places()}
    )


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def welcome(request: HttpRequest) -> HttpResponse:
    """The first step of a new customer. Whoever has an organization already is past it."""
    if getattr(request, "organization", None) is not None:
        return redirect("portal:dashboard")
    form = WelcomeForm(request.POST or None, accept_language=request.headers.get("accept-language", ""))
    invited = invitations.open_to(cast(User, request.user))
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        organization = services.welcome(
            user=cast(User, request.user),
            organization_name=given["name"],
            country=given["country"],
            tax_id=given["tax_id"],
        )
        request.session[SESSION_KEY] = str(organization.pk)
        return redirect("portal:dashboard")
    return render(
        request,
        "portal/welcome.html",
        {"form": form, "invited": invited},
        status=422 if form.errors else 200,
    )


@require_safe
@never_cache
@organization_required
def dashboard(request: MemberRequest) -> HttpResponse:
    """Each part is read where it is shown, so that one that cannot be read fails alone."""
    organization, now = request.organization, timezone.now()
    overview = cache(lambda: selectors.overview(organization))
    context = {
        "now": now,
        "at": database.run(selectors.clock()),
        "overview": overview,
        "running": cache(lambda: running.load(organization.pk)),
    }
    if parts.attempt(request, "latest", lambda: overview().began) is False:
        listings = selectors.catalog()
        first = next((each for each in listings if each.offer.kind == Model.Kind.CHAT), next(iter(listings), None))
        return render(request, "portal/first_visit.html", {**context, "first": first})
    span = Span.of(request.GET.get("range", ""))
    return render(
        request,
        "portal/dashboard.html",
        {
            **context,
            "span": span,
            "figures": cache(lambda: selectors.figures(organization, span=span, now=now)),
            "output": cache(lambda: output.read(organization.pk, now=now)),
            "spend": span.page(organization, now, measure="spend"),
            "where": span.page(organization, now, measure="tokens", group="site"),
            "latency": cache(lambda: selectors.latency(organization, now=now)),
        },
    )


def back(request: HttpRequest) -> HttpResponseRedirect:
    """To the page whose form this was."""
    following = request.POST.get("next", "")
    if not url_has_allowed_host_and_scheme(following, {request.get_host()}, request.is_secure()):
        following = "/"
    return HttpResponseRedirect(following)


@require_POST
def language(request: HttpRequest) -> HttpResponse:
    """Kept with the person, for mails and other browsers, and in this browser, for the pages before the sign-in."""
    response = back(request)
    chosen = request.POST.get("language", "")
    if languages.known(chosen):
        if isinstance(request.user, User):
            request.user.language, request.user.language_chosen = chosen, True
            request.user.save(update_fields=["language", "language_chosen"])
        response.set_cookie(
            languages.COOKIE,
            chosen,
            max_age=THEME_SECONDS,
            samesite="Lax",
            httponly=True,
            secure=settings.SESSION_COOKIE_SECURE,
        )
    return response


@require_POST
def theme(request: HttpRequest) -> HttpResponse:
    """Light, dark, or as the system says: a cookie, so that the first byte of the next page has it."""
    response = back(request)
    chosen = request.POST.get("theme", "")
    if chosen in THEMES:
        response.set_cookie(
            "theme", chosen, max_age=THEME_SECONDS, samesite="Lax", httponly=True, secure=settings.SESSION_COOKIE_SECURE
        )
    else:
        response.delete_cookie("theme", samesite="Lax")
    return response


@require_safe
@never_cache
def mail(request: HttpRequest) -> HttpResponse:
    """Only routed in the demo: whoever reads it can take over any account there."""
    if not settings.DEMO:
        raise Http404
    return render(request, "portal/mail.html", {"mails": mailbox.mails(settings.EMAIL_FILE_PATH)})
