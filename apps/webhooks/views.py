"""Pages of webhooks. A signing secret is on one page once: the answer to the form that made it."""

from __future__ import annotations

import hashlib
import json

from django.contrib import messages
from django.db import IntegrityError
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apps.accounts.permissions import MemberRequest, right_required
from apps.accounts.rights import Right
from apps.core import ids
from apps.core.errors import PortalError
from apps.webhooks import events, outbound, selectors, sending, services
from apps.webhooks.forms import EndpointForm
from apps.webhooks.models import Delivery, Endpoint

PAGE_SIZE = 50


@require_safe
@never_cache
@right_required(Right.WEBHOOKS)
def index(request: MemberRequest) -> HttpResponse:
    return render(
        request,
        "webhooks/index.html",
        {"rows": selectors.with_last(request.organization), "most": services.MAX_ENDPOINTS},
    )


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@right_required(Right.WEBHOOKS)
def new(request: MemberRequest) -> HttpResponse:
    form = EndpointForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        endpoint_id = form.cleaned_data["ticket"]
        try:
            endpoint, secret = services.create(
                organization=request.organization, user=request.user, endpoint_id=endpoint_id, **form.values
            )
        except IntegrityError:  # the form was sent twice
            made = Endpoint.objects.of(request.organization).filter(pk=endpoint_id).first()
            if made is None:
                raise Http404 from None
            return render(request, "webhooks/made.html", {"endpoint": made})
        except PortalError as refused:
            form.add_error(None, refused.message)
        else:
            return render(request, "webhooks/secret.html", {"endpoint": endpoint, "secret": secret, "rotated": False})
    return render(request, "webhooks/form.html", {"form": form}, status=422 if form.errors else 200)


@require_safe
@never_cache
@right_required(Right.WEBHOOKS)
def detail(request: MemberRequest, public_id: str) -> HttpResponse:
    endpoint = endpoint_of(request, public_id)
    before = request.GET.get("before", "")
    page = selectors.page(endpoint, after=ids.parse("dlv", before), size=PAGE_SIZE)
    previous_until = endpoint.previous_secret_expires_at
    return render(
        request,
        "webhooks/detail.html",
        {
            "endpoint": endpoint,
            "page": page,
            "before": before,
            "attempts": sending.ATTEMPTS,
            "types": [event for event in events.CHOSEN if endpoint.wants(event.name)],
            "previous_until": previous_until if previous_until and previous_until > timezone.now() else None,
            "zone": timezone.get_current_timezone_name(),
        },
    )


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@right_required(Right.WEBHOOKS)
def edit(request: MemberRequest, public_id: str) -> HttpResponse:
    endpoint = endpoint_of(request, public_id)
    form = EndpointForm(request.POST or None, initial=services.shape(endpoint))
    if request.method == "POST" and form.is_valid():
        services.change(endpoint, user=request.user, **form.values)
        messages.success(request, gettext("Saved. New events go out by these settings."))
        return redirect("webhooks:detail", endpoint.public_id)
    return render(
        request, "webhooks/form.html", {"form": form, "endpoint": endpoint}, status=422 if form.errors else 200
    )


@require_POST
@right_required(Right.WEBHOOKS)
def test(request: MemberRequest, public_id: str) -> HttpResponse:
    endpoint = endpoint_of(request, public_id)
    try:
        services.send_test(endpoint)
    except PortalError as refused:
        messages.error(request, refused.message)
    else:
        messages.success(request, gettext("A test event is on its way. Reload in a few seconds to see the answer."))
    return redirect("webhooks:detail", endpoint.public_id)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@right_required(Right.WEBHOOKS)
def rotate(request: MemberRequest, public_id: str) -> HttpResponse:
    """`current` names the secret the form was made for, so that the form sent twice rotates once."""
    endpoint = endpoint_of(request, public_id)
    if request.method == "POST":
        if request.POST.get("current") != name_of(endpoint.secret):
            return render(request, "webhooks/made.html", {"endpoint": endpoint, "rotated": True})
        secret = services.rotate(endpoint, user=request.user)
        return render(request, "webhooks/secret.html", {"endpoint": endpoint, "secret": secret, "rotated": True})
    return render(request, "webhooks/rotate.html", {"endpoint": endpoint, "current": name_of(endpoint.secret)})


def name_of(sealed: str) -> str:
    return hashlib.sha256(sealed.encode()).hexdigest()[:16]


@require_POST
@right_required(Right.WEBHOOKS)
def disable(request: MemberRequest, public_id: str) -> HttpResponse:
    endpoint = endpoint_of(request, public_id)
    services.disable(endpoint, user=request.user)
    return redirect("webhooks:detail", endpoint.public_id)


@require_POST
@right_required(Right.WEBHOOKS)
def enable(request: MemberRequest, public_id: str) -> HttpResponse:
    endpoint = endpoint_of(request, public_id)
    services.enable(endpoint, user=request.user)
    return redirect("webhooks:detail", endpoint.public_id)


@require_http_methods(["GET", "HEAD", "POST"])
@right_required(Right.WEBHOOKS)
def delete(request: MemberRequest, public_id: str) -> HttpResponse:
    endpoint = endpoint_of(request, public_id)
    if request.method == "POST":
        services.delete(endpoint, user=request.user)
        messages.success(request, gettext("The webhook to %(url)s was deleted.") % {"url": endpoint.url})
        return redirect("webhooks:index")
    return render(request, "webhooks/delete.html", {"endpoint": endpoint})


@require_safe
@never_cache
@right_required(Right.WEBHOOKS)
def delivery(request: MemberRequest, public_id: str, delivery_id: str) -> HttpResponse:
    endpoint = endpoint_of(request, public_id)
    shown = delivery_in(endpoint, delivery_id)
    return render(
        request,
        "webhooks/delivery.html",
        {
            "endpoint": endpoint,
            "delivery": shown,
            "body": pretty(shown.request_body),
            "error": outbound.translated(shown.last_error, shown.response_status),
            "attempts": sending.ATTEMPTS,
            "zone": timezone.get_current_timezone_name(),
        },
    )


def pretty(body: str) -> str:
    return json.dumps(json.loads(body), indent=2, ensure_ascii=False) if body else ""


@require_POST
@right_required(Right.WEBHOOKS)
def replay(request: MemberRequest, public_id: str, delivery_id: str) -> HttpResponse:
    endpoint = endpoint_of(request, public_id)
    try:
        services.replay(delivery_in(endpoint, delivery_id))
    except PortalError as refused:
        messages.error(request, refused.message)
    else:
        messages.success(request, gettext("The event is on its way again, under the same webhook-id."))
    return redirect("webhooks:detail", endpoint.public_id)


def endpoint_of(request: MemberRequest, public_id: str) -> Endpoint:
    found = selectors.endpoint_of(request.organization, public_id)
    if found is None:
        raise Http404
    return found


def delivery_in(endpoint: Endpoint, public_id: str) -> Delivery:
    found = selectors.delivery_of(endpoint, public_id)
    if found is None:
        raise Http404
    return found
