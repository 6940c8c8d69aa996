"""`/sandbox/stripe/v1/…`: Stripe's API as far as the portal uses it, for the `stripe` library.

It refuses what Stripe refuses: a wrong key, another version than the pinned one, unknown or missing parameters.
"""

import secrets
from typing import Any

from django.conf import settings
from django.db import transaction
from django.http import Http404, HttpRequest, JsonResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.csrf import csrf_exempt

from apps.billing.sandbox import idempotency, rows, shapes, wire
from apps.billing.sandbox.refusals import CardRefused, Missing, NotAuthenticated, Refusal
from apps.billing.sandbox.routes import ROUTES, Route
from apps.billing.sandbox.showing import expanded
from apps.billing.sandbox.subscriptions import Undone

MOST_BYTES = 256 * 1024


@csrf_exempt
def api(request: HttpRequest, path: str) -> JsonResponse:
    """404 as any other page where the portal has real money."""
    if not settings.SANDBOX_MONEY:
        raise Http404
    headers = {"Request-Id": f"req_{secrets.token_hex(7)}", "Stripe-Version": settings.STRIPE_API_VERSION}
    key = request.headers.get("Idempotency-Key", "")
    if key:
        headers["Idempotency-Key"] = key
    try:
        status, body, replayed = answer(request, path, key)
    except Refusal as refusal:
        status, body, replayed = refusal.status, refusal.body(), False
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    return JsonResponse(body, status=status, headers=headers)


def answer(request: HttpRequest, path: str, key: str) -> tuple[int, Any, bool]:
    """Status, body, and whether an idempotency key had it before."""
    authenticate(request)
    route, names = find(request.method or "GET", path)
    params = shapes.check(given(request), route.shape)
    paths = params.pop("expand", [])
    if route.method != "POST" or not key:
        return (*execute(route, params, names, paths), False)
    call: dict[str, Any] = {"method": route.method, "path": path, "params": {**params, "expand": paths}}
    with rows.writing():
        before = idempotency.replay(key, **call)
        if before is not None:
            return (*before, True)
        status, body = execute(route, params, names, paths)
        idempotency.keep(key, **call, status=status, body=body)
        return status, body, False


def execute(route: Route, params: dict[str, Any], names: tuple[str, ...], paths: list[str]) -> tuple[int, Any]:
    """Do it, all or nothing; but a payment that the bank refused stays, as it does at Stripe.

    Raises Refusal for what was wrong with the request itself: such an answer is not kept for the idempotency key.
    """
    if route.method == "GET":
        return 200, expanded(route.verb(params, *names), paths)
    try:
        with rows.writing(), transaction.atomic():
            try:
                made = route.verb(params, *names)
            except Undone:
                raise
            except CardRefused as refusal:
                return refusal.status, refusal.body()
            return 200, expanded(made, paths)
    except Refusal as refusal:
        if not refusal.executed:
            raise
        return refusal.status, refusal.body()


def authenticate(request: HttpRequest) -> None:
    """By the secret key, as Stripe's library sends it, and in the version that the portal is pinned to."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Bearer" or not key:
        raise NotAuthenticated("You did not provide an API key: 'Authorization: Bearer YOUR_SECRET_KEY' is needed.")
    if not constant_time_compare(key, settings.STRIPE_SECRET_KEY):
        raise NotAuthenticated(f"Invalid API Key provided: {key[:8]}{'*' * 8}")
    version = request.headers.get("Stripe-Version")
    if version != settings.STRIPE_API_VERSION:
        raise Refusal(
            f"The sandbox speaks Stripe-Version {settings.STRIPE_API_VERSION}, the request was of {version}.",
            param="Stripe-Version",
        )


def find(method: str, path: str) -> tuple[Route, tuple[str, ...]]:
    for route in ROUTES:
        match = route.path.fullmatch(path)
        if match and route.method == method:
            return route, match.groups()
    refusal = Missing("url", path)
    refusal.message = f"Unrecognized request URL ({method}: /v1/{path}). The sandbox has what the portal uses."
    refusal.code = refusal.param = None
    raise refusal


def given(request: HttpRequest) -> dict[str, Any]:
    query = wire.decode(request.META.get("QUERY_STRING", ""))
    if request.method != "POST":
        return query
    kind = request.content_type
    if kind and kind != "application/x-www-form-urlencoded":
        raise Refusal(f"Invalid request: the content type is {kind}, not a form.")
    body = request.read(MOST_BYTES + 1)
    if len(body) > MOST_BYTES:
        raise Refusal("Invalid request: the body is larger than 256 kB.")
    try:
        return {**query, **wire.decode(body.decode())}
    except UnicodeDecodeError as error:
        raise Refusal("Invalid request: the body is not UTF-8.") from error
