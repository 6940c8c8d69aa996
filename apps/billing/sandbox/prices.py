"""Products and prices."""

from typing import Any

from apps.billing.sandbox import events, rows
from apps.billing.sandbox.customers import merged
from apps.billing.sandbox.payments import only_usd
from apps.billing.sandbox.refusals import Impossible, Refusal
from apps.billing.sandbox.rows import Data


def create_product(params: Data) -> Data:
    product = rows.add(
        "product",
        {
            "active": params.get("active", True),
            "default_price": None,
            "description": params.get("description"),
            "images": [],
            "metadata": params.get("metadata") or {},
            "name": params["name"],
            "tax_code": params.get("tax_code"),
            "type": "service",
            "updated": rows.now(),
        },
    )
    events.tell("product.created", product)
    return product


def retrieve_product(params: Data, identifier: str) -> Data:
    return rows.get("product", identifier)


def index_products(params: Data) -> Data:
    return rows.page("product", params, url="/v1/products", active=params.get("active"))


def create(params: Data) -> Data:
    only_usd(params["currency"])
    if "product" in params:
        product = rows.get("product", params["product"], param="product")["id"]
    elif "product_data" in params:
        product = create_product({"name": params["product_data"]["name"]})["id"]
    else:
        raise Refusal("Missing required param: product.", param="product", code="parameter_missing")
    amount = params.get("unit_amount")
    if amount is None or amount < 0:
        raise Refusal("Missing required param: unit_amount.", param="unit_amount", code="parameter_missing")
    _free_lookup_key(params)
    price = rows.add(
        "price",
        {
            **shape(amount, params.get("recurring"), params.get("tax_behavior")),
            "lookup_key": params.get("lookup_key"),
            "metadata": params.get("metadata") or {},
            "nickname": params.get("nickname"),
            "product": product,
        },
    )
    events.tell("price.created", price)
    return price


def shape(amount: int, recurring: Any, tax_behavior: str | None) -> Data:
    if recurring and recurring["interval"] != "month":
        raise Refusal("The sandbox knows monthly prices only.", param="recurring[interval]")
    if recurring and recurring.get("interval_count", 1) != 1:
        raise Refusal("The sandbox knows monthly prices only.", param="recurring[interval_count]")
    return {
        "active": True,
        "billing_scheme": "per_unit",
        "currency": "usd",
        "custom_unit_amount": None,
        "recurring": {"interval": "month", "interval_count": 1, "meter": None, "usage_type": "licensed"}
        if recurring
        else None,
        "tax_behavior": tax_behavior or "unspecified",
        "tiers_mode": None,
        "transform_quantity": None,
        "type": "recurring" if recurring else "one_time",
        "unit_amount": amount,
        "unit_amount_decimal": str(amount),
    }


def update(params: Data, identifier: str) -> Data:
    """Only what Stripe lets change: an amount is for ever."""
    price = rows.get("price", identifier)
    _free_lookup_key(params, but=identifier)
    for name in ("active", "nickname", "tax_behavior"):
        if name in params:
            price[name] = params[name]
    if "lookup_key" in params:
        price["lookup_key"] = params["lookup_key"] or None
    price["metadata"] = merged(price["metadata"], params.get("metadata"))
    rows.put(price)
    events.tell("price.updated", price, previous={})
    return price


def _free_lookup_key(params: Data, *, but: str = "") -> None:
    wanted = params.get("lookup_key")
    for other in rows.every("price", lookup_key=wanted) if wanted else []:
        if other["id"] == but:
            continue
        if not params.get("transfer_lookup_key"):
            raise Impossible(
                f"A price (`{other['id']}`) already uses that lookup key. Use `transfer_lookup_key` to take it over.",
                param="lookup_key",
            )
        other["lookup_key"] = None
        rows.put(other)


def retrieve(params: Data, identifier: str) -> Data:
    return rows.get("price", identifier)


def index(params: Data) -> Data:
    fields = {name: params.get(name) for name in ("active", "product", "type")}
    keys = params.get("lookup_keys")
    if keys is not None:
        fields["lookup_key__in"] = keys
    return rows.page("price", params, url="/v1/prices", **fields)
