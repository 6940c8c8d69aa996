"""Events: what happened, with the object as it was then. Each waits to be delivered to the portal's own endpoint."""

from typing import Any

from django.conf import settings
from django.db import transaction

from apps.billing.sandbox import delivery, rows
from apps.billing.sandbox.refusals import Refusal
from apps.billing.sandbox.rows import Data
from apps.billing.sandbox.showing import shown


def tell(kind: str, data: Data, *, previous: dict[str, Any] | None = None) -> Data:
    """Store an event and have it delivered after commit. In a transaction."""
    told: Data = {"object": shown(data)}
    if previous is not None:
        told["previous_attributes"] = previous
    event = rows.add(
        "event",
        {
            "api_version": settings.STRIPE_API_VERSION,
            "data": told,
            "pending_webhooks": 1,
            "request": {"id": None, "idempotency_key": None},
            "type": kind,
            "_attempts": 0,
            "_next_at": rows.now() + delivery.GRACE_SECONDS,
            "_delivered": False,
        },
    )
    transaction.on_commit(lambda: delivery.send(event["id"]), robust=True)
    return event


def retrieve(params: Data, identifier: str) -> Data:
    return rows.get("event", identifier)


def index(params: Data) -> Data:
    fields: Data = {}
    if "type" in params and "types" in params:
        raise Refusal("You may only specify one of these parameters: type, types.", param="types")
    if "types" in params:
        if len(params["types"]) > 20:
            raise Refusal("Array types exceeded maximum 20 allowed elements.", param="types")
        fields["type__in"] = params["types"]
    elif "type" in params:
        wanted = params["type"]
        fields["type__startswith" if wanted.endswith("*") else "type"] = wanted.rstrip("*")
    if "delivery_success" in params:
        fields["_delivered"] = params["delivery_success"]
    return rows.page("event", params, url="/v1/events", **fields)
