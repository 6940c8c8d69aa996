"""Checkout sessions as the portal asks for them."""

from django.conf import settings
from django.urls import reverse

from apps.billing.sandbox import events, payments, prices, rows, taxes
from apps.billing.sandbox.refusals import Impossible, Refusal
from apps.billing.sandbox.rows import Data

SHORTEST_SECONDS = 30 * 60  # docs.stripe.com/api/checkout/sessions/create: expires_at
LONGEST_SECONDS = 24 * 3600
SLACK_SECONDS = 60
MOST_LINES = 20


def create(params: Data) -> Data:
    mode = params.get("mode")
    if mode not in ("payment", "subscription"):
        raise Refusal("The sandbox knows the modes payment and subscription.", param="mode")
    for name in ("line_items", "success_url"):
        if not params.get(name):
            raise Refusal(f"Missing required param: {name}.", param=name, code="parameter_missing")
    for name in ("success_url", "cancel_url"):
        _url(params, name)
    if len(params["line_items"]) > MOST_LINES:
        raise Refusal(f"The sandbox takes at most {MOST_LINES} line items.", param="line_items")
    _check_extras(params, mode)
    lines = [_line(line, mode, place) for place, line in enumerate(params["line_items"])]
    subtotal = sum(line["amount_subtotal"] for line in lines)
    if mode == "payment":
        payments.amount_in_bounds(subtotal, param="line_items")
    customer = _customer(params)
    expires = _expiry(params)
    made = {
        "after_expiration": None,
        "allow_promotion_codes": None,
        "amount_subtotal": subtotal,
        "amount_total": subtotal,
        "automatic_tax": {
            **taxes.automatic(_enabled(params, "automatic_tax")),
            "status": "requires_location_inputs" if _enabled(params, "automatic_tax") else None,
        },
        "billing_address_collection": params.get("billing_address_collection"),
        "cancel_url": params.get("cancel_url"),
        "client_reference_id": params.get("client_reference_id"),
        "currency": "usd",
        "custom_fields": [],
        "custom_text": {},
        "customer": customer["id"] if customer else None,
        "customer_creation": None if customer else params.get("customer_creation", "if_required"),
        "customer_details": None,
        "customer_email": params.get("customer_email"),
        "expires_at": expires,
        "invoice": None,
        "invoice_creation": _invoice_creation(params) if mode == "payment" else None,
        "locale": params.get("locale"),
        "metadata": params.get("metadata") or {},
        "mode": mode,
        "payment_intent": None,
        "payment_link": None,
        "payment_method_collection": "if_required" if mode == "payment" else "always",
        "payment_method_types": ["card"],
        "payment_status": "unpaid",
        "saved_payment_method_options": params.get("saved_payment_method_options"),
        "setup_intent": None,
        "shipping_options": [],
        "status": "open",
        "submit_type": params.get("submit_type"),
        "subscription": None,
        "success_url": params["success_url"],
        "tax_id_collection": {"enabled": _enabled(params, "tax_id_collection"), "required": "never"},
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page",
        "url": None,
        "_customer_update": params.get("customer_update") or {},
        "_line_items": {"object": "list", "data": lines, "has_more": False, "url": "/v1/checkout/sessions/line_items"},
        "_payment_intent_data": params.get("payment_intent_data") or {},
        "_subscription_data": params.get("subscription_data") or {},
    }
    session = rows.add("checkout.session", made)
    session["url"] = settings.BASE_URL + reverse("sandbox:checkout", args=[session["id"]])
    rows.put(session)
    return session


def _enabled(params: Data, name: str) -> bool:
    return bool(params.get(name, {}).get("enabled"))


def _check_extras(params: Data, mode: str) -> None:
    """Combinations that Stripe refuses, and parameters this double does nothing with."""
    for name, needs in (
        ("payment_intent_data", "payment"),
        ("invoice_creation", "payment"),
        ("subscription_data", "subscription"),
    ):
        if name in params and mode != needs:
            raise Refusal(f"You can only pass `{name}` in `{needs}` mode.", param=name)
    updates = params.get("customer_update") or {}
    if updates and "customer" not in params:
        raise Refusal("`customer_update` can only be used with `customer`.", param="customer_update")
    if "customer" in params and _enabled(params, "tax_id_collection") and updates.get("name") != "auto":
        raise Refusal(
            "Tax ID collection requires updating business name on the customer. To enable tax ID collection for an "
            "existing customer, please set `customer_update[name]` to `auto`.",
            param="tax_id_collection",
        )
    if "customer" in params and _enabled(params, "automatic_tax") and updates.get("address") != "auto":
        customer = rows.get("customer", params["customer"], param="customer")
        if not customer["address"]:
            raise Refusal(
                "Automatic tax calculation in Checkout requires a valid address on the Customer. Add a valid address "
                "to the Customer or set either `customer_update[address]` to 'auto' or `customer_update[shipping]` "
                "to 'auto' to save the address entered in Checkout to the Customer.",
                param="customer_update",
                code="customer_tax_location_invalid",
            )
    for name in ("discounts", "shipping_options", "custom_fields", "optional_items", "setup_intent_data"):
        if params.get(name):
            raise Refusal(f"The sandbox does nothing with {name}.", param=name)


def _url(params: Data, name: str) -> None:
    if name in params and not params[name].startswith(("http://", "https://")):
        raise Refusal("Not a valid URL", param=name, code="url_invalid")


def _line(line: Data, mode: str, place: int) -> Data:
    param = f"line_items[{place}]"
    quantity = line.get("quantity", 1)
    if not 1 <= quantity <= 1_000_000:
        raise Refusal("Invalid positive integer", param=f"{param}[quantity]", code="parameter_invalid_integer")
    if ("price" in line) == ("price_data" in line):
        raise Refusal("Exactly one of `price` and `price_data` is needed.", param=f"{param}[price]")
    if "price" in line:
        price = rows.get("price", line["price"], param=f"{param}[price]")
        if not price["active"]:
            raise Impossible("The price specified is inactive.", param=f"{param}[price]")
        description = rows.get("product", price["product"])["name"]
    else:
        price, description = _price_of(line["price_data"], f"{param}[price_data]")
    if (price["type"] == "recurring") != (mode == "subscription"):
        needs = "recurring" if mode == "subscription" else "one-time"
        raise Refusal(f"In `{mode}` mode the sandbox takes {needs} prices only.", param=f"{param}[price]")
    amount = price["unit_amount"] * quantity
    return {
        "id": rows.new_id("line_item"),
        "object": "item",
        "amount_discount": 0,
        "amount_subtotal": amount,
        "amount_tax": 0,
        "amount_total": amount,
        "currency": "usd",
        "description": description,
        "price": price,
        "quantity": quantity,
    }


def _price_of(given: Data, param: str) -> tuple[Data, str]:
    payments.only_usd(given["currency"], param=f"{param}[currency]")
    amount = given.get("unit_amount")
    if amount is None or amount < 0:
        raise Refusal("Missing required param: unit_amount.", param=f"{param}[unit_amount]", code="parameter_missing")
    if "product" in given:
        product = rows.get("product", given["product"], param=f"{param}[product]")
    elif "product_data" in given:
        product = {"id": None, "name": given["product_data"]["name"]}
    else:
        raise Refusal("Missing required param: product.", param=f"{param}[product]", code="parameter_missing")
    price = {
        "id": rows.new_id("price"),
        "object": "price",
        **prices.shape(amount, given.get("recurring"), given.get("tax_behavior")),
        "product": product["id"],
    }
    return price, product["name"]


def _customer(params: Data) -> Data | None:
    if "customer" not in params:
        return None
    if "customer_email" in params:
        raise Refusal("You may only specify one of these parameters: customer, customer_email.", param="customer")
    return rows.get("customer", params["customer"], param="customer")


def _expiry(params: Data) -> int:
    asked, made = params.get("expires_at"), rows.now()
    if asked is None:
        return made + LONGEST_SECONDS
    if not made + SHORTEST_SECONDS - SLACK_SECONDS <= asked <= made + LONGEST_SECONDS + SLACK_SECONDS:
        raise Refusal(
            "The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout Session creation.",
            param="expires_at",
        )
    return int(asked)


def _invoice_creation(params: Data) -> Data:
    asked = params.get("invoice_creation") or {"enabled": False}
    given = asked.get("invoice_data") or {}
    return {
        "enabled": asked["enabled"],
        "invoice_data": {
            "account_tax_ids": None,
            "custom_fields": None,
            "description": given.get("description"),
            "footer": given.get("footer"),
            "issuer": None,
            "metadata": given.get("metadata") or {},
            "rendering_options": None,
        },
    }


def retrieve(params: Data, identifier: str) -> Data:
    return rows.get("checkout.session", identifier)


def index(params: Data) -> Data:
    fields = {name: params.get(name) for name in ("customer", "payment_intent", "subscription", "status")}
    return rows.page("checkout.session", params, url="/v1/checkout/sessions", **fields)


def line_items(params: Data, identifier: str) -> Data:
    found: Data = rows.get("checkout.session", identifier)["_line_items"]
    return found


def expire(params: Data, identifier: str) -> Data:
    session = rows.get("checkout.session", identifier)
    if session["status"] != "open":
        raise Impossible(
            f'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a status of '
            f"{session['status']}.",
        )
    return close(session)


def close(session: Data) -> Data:
    session |= {"status": "expired", "url": None}
    rows.put(session)
    if session["payment_intent"]:
        payments.cancel({"cancellation_reason": "abandoned"}, session["payment_intent"])
    events.tell("checkout.session.expired", session)
    return session


def current(identifier: str) -> Data:
    """The session, expired if its time is over. Raises Missing."""
    session = rows.get("checkout.session", identifier)
    if session["status"] != "open" or session["expires_at"] > rows.now():
        return session
    with rows.writing():
        session = rows.get("checkout.session", identifier)
        return close(session) if session["status"] == "open" else session


def expire_old() -> int:
    """Sessions that nobody paid in time; how many. In a transaction."""
    found = rows.every("checkout.session", status="open", expires_at__lte=rows.now())
    for session in found:
        close(session)
    return len(found)


def tax_cents(session: Data, country: str) -> int:
    return sum(tax_of(session, line, country) for line in session["_line_items"]["data"])


def tax_of(session: Data, line: Data, country: str) -> int:
    return taxes.cents(
        line["amount_subtotal"],
        enabled=session["automatic_tax"]["enabled"],
        country=country,
        behavior=line["price"]["tax_behavior"],
    )


def wants_invoice(session: Data) -> bool:
    return bool((session["invoice_creation"] or {}).get("enabled"))
