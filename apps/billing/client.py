"""The one way to Stripe's API, or to the sandbox double that speaks it."""

from functools import cache
from typing import Any

import stripe
from django.conf import settings
from stripe import RequestsClient, StripeClient, StripeObject

from apps.core.errors import PortalError

# Stripe said no to what was asked: the same call would be refused again. Every other StripeError leaves open what happened.
Refused = (stripe.CardError, stripe.InvalidRequestError)


class PaymentsAway(PortalError):
    """Stripe did not answer, or not to us. Nothing was charged and nothing was credited by this request."""

    code, status, type = "payments_unavailable", 503, "service_unavailable_error"


def client() -> StripeClient:
    return _client(
        settings.STRIPE_SECRET_KEY,
        settings.STRIPE_API_BASE,
        settings.STRIPE_API_VERSION,
        settings.STRIPE_TIMEOUT_SECONDS,
        settings.STRIPE_RETRIES,
    )


@cache
def _client(key: str, base: str, version: str, timeout_seconds: float, retries: int) -> StripeClient:
    """Kept for the process: it holds the connections. Its retries send the same idempotency key."""
    return StripeClient(
        key,
        stripe_version=version,
        base_addresses={"api": base} if base else None,
        max_network_retries=retries,
        http_client=RequestsClient(timeout=timeout_seconds),
    )


def plain(answer: StripeObject) -> dict[str, Any]:
    """An answer as dicts and lists: fields that Stripe leaves out are then `.get()`, not an AttributeError."""
    return dict(answer.to_dict())


def identifier(value: Any) -> str:
    """The id of a field that may be expanded, an id, or absent ("")."""
    return str(value["id"] if isinstance(value, dict) else value or "")
