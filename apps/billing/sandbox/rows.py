"""The double's objects: JSON as Stripe's API shows it, in `billing.SandboxObject`.

A field whose name begins with "_" is the double's own; it is never shown. Whoever writes holds the one lock (`writing`),
so changes have an order, as the events that tell of them do.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from apps.billing.models import SandboxObject
from apps.billing.sandbox.refusals import Missing, Refusal

Data = dict[str, Any]

PREFIXES = {
    "balance_transaction": "txn",
    "billing_portal.session": "bps",
    "charge": "ch",
    "checkout.session": "cs_test",
    "customer": "cus",
    "dispute": "du",
    "event": "evt",
    "invoice": "in",
    "invoice_payment": "inpay",
    "line_item": "il",
    "payment_intent": "pi",
    "payment_method": "pm",
    "price": "price",
    "product": "prod",
    "radar.early_fraud_warning": "issfr",
    "refund": "re",
    "subscription": "sub",
    "subscription_item": "si",
    "tax_id": "txi",
}
LOCK = 0x5A4D, 1  # our part of PostgreSQL's advisory locks
LARGEST_TIME = 1 << 35


@contextmanager
def writing() -> Iterator[None]:
    """One writer at a time, in a transaction. May be entered again inside itself."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", LOCK)
        yield


def now() -> int:
    return int(timezone.now().timestamp())


def new_id(kind: str) -> str:
    """Ids of one kind grow, also while a test has stopped the clock: lists have their order from it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
        microseconds = cursor.fetchone()[0]
    return f"{PREFIXES[kind]}_{microseconds:014x}{secrets.token_hex(8)}"


def add(kind: str, data: Data) -> Data:
    """Store a new object with what all have: id, object, created, livemode."""
    made = {"id": new_id(kind), "object": kind, "created": now(), "livemode": False, **data}
    SandboxObject.objects.create(id=made["id"], kind=kind, data=made)
    return made


def put(data: Data) -> None:
    SandboxObject.objects.filter(pk=data["id"]).update(data=data)


def find(identifier: str) -> Data | None:
    found: Data | None = SandboxObject.objects.filter(pk=identifier).values_list("data", flat=True).first()
    return found


def get(kind: str, identifier: Any, *, param: str | None = None) -> Data:
    """The object as it is now. Raises Missing: 404, or 400 where `param` names it."""
    row = SandboxObject.objects.filter(pk=str(identifier), kind=kind).first()
    if row is None:
        raise Missing(kind.rpartition(".")[2], str(identifier)[:100], param=param)
    data: Data = row.data
    return data


def every(kind: str, **fields: Any) -> list[Data]:
    """Oldest first. `fields` are those of the object."""
    return list(_of(kind, fields).order_by("created_at", "id").values_list("data", flat=True))


def _of(kind: str, fields: Data) -> QuerySet[SandboxObject]:
    found = SandboxObject.objects.filter(kind=kind)
    for name, value in fields.items():
        if value is not None:
            found = found.filter(**{f"data__{name}": value})
    return found


def page(kind: str, params: Data, *, url: str, **fields: Any) -> Data:
    """A list as the API gives it: newest first, by cursor. Raises Refusal for a wrong limit or cursor."""
    limit = params.get("limit", 10)
    if not 1 <= limit <= 100:
        raise Refusal("Invalid integer: must be between 1 and 100", param="limit", code="parameter_invalid_integer")
    found = _created(_of(kind, fields), params.get("created"))
    ordered = found.order_by("-created_at", "-id")
    before, after = params.get("ending_before"), params.get("starting_after")
    if after:
        cursor = _cursor(kind, after, "starting_after")
        ordered = ordered.extra(where=["(created_at, id) < (%s, %s)"], params=[cursor.created_at, cursor.pk])
    elif before:
        cursor = _cursor(kind, before, "ending_before")
        ordered = found.order_by("created_at", "id").extra(
            where=["(created_at, id) > (%s, %s)"], params=[cursor.created_at, cursor.pk]
        )
    data = list(ordered.values_list("data", flat=True)[: limit + 1])
    more = len(data) > limit
    data = data[:limit]
    if before and not after:
        data.reverse()
    return {"object": "list", "data": data, "has_more": more, "url": url}


def _cursor(kind: str, identifier: str, param: str) -> SandboxObject:
    found = SandboxObject.objects.filter(pk=identifier, kind=kind).first()
    if found is None:
        raise Missing(kind, identifier[:100], param=param)
    return found


def _created(found: QuerySet[SandboxObject], wanted: Any) -> QuerySet[SandboxObject]:
    """`created` is a second, or a range of seconds, of which each end is optional."""
    if wanted is None:
        return found
    ends = wanted if isinstance(wanted, dict) else {"gte": wanted, "lte": wanted}
    for name, second in ends.items():
        if not 0 <= second < LARGEST_TIME:
            raise Refusal("Invalid timestamp.", param=f"created[{name}]")
        moment = datetime.fromtimestamp(second + (name in ("gt", "lte")), UTC)
        found = found.filter(created_at__gte=moment) if name in ("gt", "gte") else found.filter(created_at__lt=moment)
    return found
