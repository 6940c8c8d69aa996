"""What tests of the double buy: requests with defaults that are valid together."""

from typing import Any

from apps.billing.client import client


def session_params(customer: str, *, cents: int = 2500, **more: Any) -> Any:
    return {
        "mode": "payment",
        "customer": customer,
        "line_items": [
            {
                "quantity": 1,
                "price_data": {
                    "currency": "usd",
                    "unit_amount": cents,
                    "tax_behavior": "exclusive",
                    "product_data": {"name": "Prepaid credit"},
                },
            }
        ],
        "payment_intent_data": {"metadata": {"top_up": "t1"}, "setup_future_usage": "off_session"},
        "customer_update": {"name": "auto", "address": "auto"},
        "tax_id_collection": {"enabled": True},
        "invoice_creation": {"enabled": True, "invoice_data": {"metadata": {"top_up": "t1"}}},
        "metadata": {"top_up": "t1"},
        "success_url": "http://testserver/back/?session={CHECKOUT_SESSION_ID}",
        "cancel_url": "http://testserver/cancel/",
        **more,
    }


def customer(**params: Any) -> str:
    return client().v1.customers.create({"name": "Meridian Foods", **params}).id  # type: ignore[typeddict-item]


def session(customer_id: str = "", **more: Any) -> Any:
    return client().v1.checkout.sessions.create(session_params(customer_id or customer(), **more))


def off_session(customer_id: str, method: str, *, cents: int = 2000, key: str | None = None) -> Any:
    params: Any = {
        "amount": cents,
        "currency": "usd",
        "customer": customer_id,
        "payment_method": method,
        "off_session": True,
        "confirm": True,
        "metadata": {"automatic": "1"},
    }
    return client().v1.payment_intents.create(params, {"idempotency_key": key} if key else {})


def plan(cents: int, *, key: str) -> str:
    """The id of a monthly price."""
    product = client().v1.products.create({"name": f"Plan {key}"})
    price: Any = {
        "product": product.id,
        "currency": "usd",
        "unit_amount": cents,
        "recurring": {"interval": "month"},
        "lookup_key": key,
    }
    return client().v1.prices.create(price).id


def subscription_session(customer_id: str, price: str, **more: Any) -> Any:
    params: Any = {
        "mode": "subscription",
        "customer": customer_id,
        "line_items": [{"price": price, "quantity": 1}],
        "subscription_data": {"metadata": {"organization": "o1"}},
        "success_url": "http://testserver/back/",
        "cancel_url": "http://testserver/cancel/",
        **more,
    }
    return client().v1.checkout.sessions.create(params)
