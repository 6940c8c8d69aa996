"""Subscriptions: one item with a monthly price. Their periods end by the clock, or when an operator says so."""

import calendar
from datetime import UTC, datetime

from apps.billing.sandbox import cards, events, invoices, rows, taxes
from apps.billing.sandbox.customers import merged
from apps.billing.sandbox.invoices import Line
from apps.billing.sandbox.refusals import CardRefused, Impossible, Refusal
from apps.billing.sandbox.rows import Data

LIVING = ("active", "past_due")


def month_after(second: int, *, anchor: int) -> int:
    """The same day and hour of the next month, or its last day: as the anchor has it."""
    now, first = datetime.fromtimestamp(second, UTC), datetime.fromtimestamp(anchor, UTC)
    year, month = now.year + now.month // 12, now.month % 12 + 1
    day = min(first.day, calendar.monthrange(year, month)[1])
    return int(first.replace(year=year, month=month, day=day).timestamp())


def begin(*, customer: Data, items: list[tuple[Data, int]], method: Data, tax: bool, given: Data) -> Data | None:
    """A new one with its first invoice paid by this payment method, or None where the bank refused. In a transaction."""
    if len(items) != 1:
        raise Refusal("The sandbox knows subscriptions with one price.", param="line_items")
    price, quantity = items[0]
    start = rows.now()
    end = month_after(start, anchor=start)
    subscription = rows.add(
        "subscription",
        {
            "automatic_tax": taxes.automatic(tax),
            "billing_cycle_anchor": start,
            "billing_mode": {"type": "flexible"},
            "cancel_at": None,
            "cancel_at_period_end": False,
            "canceled_at": None,
            "cancellation_details": {"comment": None, "feedback": None, "reason": None},
            "collection_method": "charge_automatically",
            "currency": "usd",
            "customer": customer["id"],
            "default_payment_method": method["id"],
            "description": given.get("description"),
            "discounts": [],
            "ended_at": None,
            "items": {"object": "list", "data": [], "has_more": False, "url": "/v1/subscription_items"},
            "latest_invoice": None,
            "metadata": given.get("metadata") or {},
            "pending_setup_intent": None,
            "schedule": None,
            "start_date": start,
            "status": "active",
            "trial_end": None,
            "trial_start": None,
            "_pending": [],
        },
    )
    subscription["items"]["data"] = [
        {
            "id": rows.new_id("subscription_item"),
            "object": "subscription_item",
            "created": start,
            "current_period_end": end,
            "current_period_start": start,
            "discounts": [],
            "metadata": {},
            "price": price,
            "quantity": quantity,
            "subscription": subscription["id"],
            "tax_rates": [],
        }
    ]
    invoice = _draft(subscription, customer, [_period(subscription)], "subscription_create")
    invoices.finalize(invoice)
    if not invoices.collect(invoice, method, absent=False):
        invoices.void(invoice)
        subscription |= {"status": "incomplete_expired", "ended_at": start, "latest_invoice": invoice["id"]}
        rows.put(subscription)
        return None
    cards.attach(method, customer["id"])
    subscription["latest_invoice"] = invoice["id"]
    rows.put(subscription)
    events.tell("customer.subscription.created", subscription)
    return subscription


def _item(subscription: Data) -> Data:
    item: Data = subscription["items"]["data"][0]
    return item


def _title(item: Data) -> str:
    product = rows.find(item["price"]["product"] or "")
    return product["name"] if product else "Subscription"


def _period(subscription: Data) -> Line:
    item = _item(subscription)
    return Line(
        f"{_title(item)} (monthly)",
        item["price"]["unit_amount"] * item["quantity"],
        quantity=item["quantity"],
        start=item["current_period_start"],
        end=item["current_period_end"],
        price=item["price"]["id"],
        item=item["id"],
    )


def _draft(subscription: Data, customer: Data, lines: list[Line], reason: str) -> Data:
    return invoices.draft(
        customer=customer,
        lines=lines,
        tax=subscription["automatic_tax"]["enabled"],
        reason=reason,
        metadata={},
        subscription=subscription,
    )


def advance(subscription_id: str) -> Data:
    """Begin the next period now, or end the subscription where that was asked for. In a transaction. Raises Impossible.

    The period's invoice is charged at once; where the bank refuses, the subscription is past due.
    """
    subscription = living(subscription_id)
    if subscription["cancel_at_period_end"]:
        return _end(subscription, "cancellation_requested")
    item = _item(subscription)
    previous = {
        "items": {"data": [{**item}]},
        "latest_invoice": subscription["latest_invoice"],
        "status": subscription["status"],
    }
    start = item["current_period_end"]
    item["current_period_start"] = start
    item["current_period_end"] = month_after(start, anchor=subscription["billing_cycle_anchor"])
    pending = [Line(**line) for line in subscription["_pending"]]
    subscription["_pending"] = []
    customer = rows.get("customer", subscription["customer"])
    invoice = _draft(subscription, customer, [*pending, _period(subscription)], "subscription_cycle")
    subscription["latest_invoice"] = invoice["id"]
    rows.put(subscription)
    events.tell("customer.subscription.updated", subscription, previous=previous)
    invoices.finalize(invoice)
    _collect(subscription, invoice)
    return subscription


def _collect(subscription: Data, invoice: Data, method: Data | None = None, *, absent: bool = True) -> bool:
    """Charge an invoice, and have the subscription's status follow. In a transaction."""
    customer = rows.get("customer", subscription["customer"])
    method = method or invoices.method_for(customer, subscription)
    paid = invoices.collect(invoice, method, absent=absent)
    if not paid and not invoice["next_payment_attempt"]:
        _end(subscription, "payment_failed")
        return False
    owed = any(
        other["id"] != invoice["id"] or not paid
        for other in rows.every("invoice", status="open", parent__subscription_details__subscription=subscription["id"])
    )
    status = "past_due" if owed else "active"
    if subscription["status"] in LIVING and subscription["status"] != status:
        previous = {"status": subscription["status"]}
        subscription["status"] = status
        rows.put(subscription)
        events.tell("customer.subscription.updated", subscription, previous=previous)
    return paid


def pay(invoice_id: str, *, method: Data | None = None, absent: bool = False) -> bool:
    """Try an open invoice again, with this payment method where one is given. In a transaction. Raises Impossible."""
    invoice = rows.get("invoice", invoice_id)
    if invoice["status"] != "open":
        raise Impossible(f"Invoice is {invoice['status']}. Nothing was charged.", code="invoice_not_open")
    named = invoices.subscription_of(invoice)
    if named is None:
        customer = rows.get("customer", invoice["customer"])
        return invoices.collect(invoice, method or invoices.method_for(customer), absent=absent)
    return _collect(rows.get("subscription", named), invoice, method, absent=absent)


def living(identifier: str, *, param: str | None = None) -> Data:
    subscription = rows.get("subscription", identifier, param=param)
    if subscription["status"] not in LIVING:
        raise Impossible(f"This subscription is {subscription['status']}: it cannot be changed.")
    return subscription


def _end(subscription: Data, reason: str) -> Data:
    subscription |= {"status": "canceled", "ended_at": rows.now()}
    subscription["canceled_at"] = subscription["canceled_at"] or rows.now()
    subscription["cancellation_details"]["reason"] = reason
    rows.put(subscription)
    events.tell("customer.subscription.deleted", subscription)
    return subscription


def update(params: Data, identifier: str) -> Data:
    """Another price, by proration; an end with the period, or not; metadata. Raises CardRefused."""
    subscription = living(identifier)
    before = {name: value for name, value in subscription.items() if name != "items"}
    items = {"data": [{**_item(subscription)}]}
    if "cancel_at_period_end" in params:
        _cancel_later(subscription, params["cancel_at_period_end"])
    subscription["metadata"] = merged(subscription["metadata"], params.get("metadata"))
    if "default_payment_method" in params:
        subscription["default_payment_method"] = rows.get(
            "payment_method", params["default_payment_method"], param="default_payment_method"
        )["id"]
    lines = _change(subscription, params["items"]) if params.get("items") else []
    behavior = params.get("proration_behavior", "create_prorations")
    changed = {name: value for name, value in before.items() if subscription[name] != value}
    if items["data"][0] != _item(subscription):
        changed["items"] = items
    if behavior == "create_prorations":
        subscription["_pending"] += [_stored(line) for line in lines]
    rows.put(subscription)
    if behavior == "always_invoice" and lines:
        _invoice_change(subscription, lines, params.get("payment_behavior", "allow_incomplete"))
    if changed:
        events.tell("customer.subscription.updated", subscription, previous=changed)
    return subscription


def _stored(line: Line) -> Data:
    return {name: getattr(line, name) for name in Line.__slots__}


def _cancel_later(subscription: Data, wanted: bool) -> None:
    subscription["cancel_at_period_end"] = wanted
    subscription["cancel_at"] = _item(subscription)["current_period_end"] if wanted else None
    subscription["canceled_at"] = rows.now() if wanted else None
    subscription["cancellation_details"]["reason"] = "cancellation_requested" if wanted else None


def _change(subscription: Data, asked: list[Data]) -> list[Line]:
    """Put the new price on the item; what that costs and gives back for the rest of the period, by the second."""
    item = _item(subscription)
    if len(asked) != 1 or asked[0].get("id") != item["id"]:
        raise Refusal("The sandbox changes the one item of a subscription: name it by its id.", param="items[0][id]")
    price = item["price"]
    if "price" in asked[0]:
        price = rows.get("price", asked[0]["price"], param="items[0][price]")
    quantity = asked[0].get("quantity", item["quantity"])
    if price["type"] != "recurring":
        raise Impossible("The price specified is one-time; a subscription takes recurring prices.", param="items")
    if (price["id"], quantity) == (item["price"]["id"], item["quantity"]):
        return []
    start, end, now = item["current_period_start"], item["current_period_end"], rows.now()
    left = min(max(end - now, 0), end - start)

    def part(cents: int) -> int:
        return int((2 * cents * left + (end - start)) // (2 * (end - start)))

    old = part(item["price"]["unit_amount"] * item["quantity"])
    span = {"start": now, "end": end, "item": item["id"], "proration": True}
    back = Line(f"Unused time on {_title(item)}", -old, price=item["price"]["id"], **span)
    item |= {"price": price, "quantity": quantity}
    new = part(price["unit_amount"] * quantity)
    return [back, Line(f"Remaining time on {_title(item)}", new, price=price["id"], **span)]


def _invoice_change(subscription: Data, lines: list[Line], behavior: str) -> None:
    customer = rows.get("customer", subscription["customer"])
    invoice = _draft(subscription, customer, lines, "subscription_update")
    subscription["latest_invoice"] = invoice["id"]
    rows.put(subscription)
    invoices.finalize(invoice)
    if not _collect(subscription, invoice) and behavior == "error_if_incomplete":
        raise Undone("Your card was declined.", code="card_declined", decline_code="generic_decline")


class Undone(CardRefused):
    """A refused payment with which the whole change is taken back."""


def cancel(params: Data, identifier: str) -> Data:
    subscription = rows.get("subscription", identifier)
    if subscription["status"] not in LIVING:
        raise Impossible(f"No such active subscription: '{identifier}'", param="id", code="resource_missing")
    return _end(subscription, "cancellation_requested")


def retrieve(params: Data, identifier: str) -> Data:
    return rows.get("subscription", identifier)


def index(params: Data) -> Data:
    """All but ended ones, unless `status` names another, or "all"."""
    fields: Data = {"customer": params.get("customer")}
    status = params.get("status")
    if status is None:
        fields["status__in"] = list(LIVING)
    elif status != "all":
        fields["status"] = status
    return rows.page("subscription", params, url="/v1/subscriptions", **fields)


def go_on() -> int:
    """What the clock asks for: periods that ended, open invoices to try again. How many. In a transaction."""
    done = 0
    for row in rows.every("subscription", status__in=list(LIVING)):
        if _item(row)["current_period_end"] <= rows.now():
            advance(row["id"])
            done += 1
    for row in rows.every("invoice", status="open", next_payment_attempt__lte=rows.now()):
        pay(row["id"], absent=True)
        done += 1
    return done


def pay_with(invoice_id: str, *, card: str = "") -> bool:
    """The customer pays an open invoice; a new card becomes the subscription's where it pays. In a transaction."""
    invoice = rows.get("invoice", invoice_id)
    if not card:
        return pay(invoice_id)
    method = cards.add(cards.known(card))
    if not pay(invoice_id, method=method):
        return False
    cards.attach(method, invoice["customer"])
    named = invoices.subscription_of(invoice)
    if named is not None:
        subscription = rows.get("subscription", named)
        subscription["default_payment_method"] = method["id"]
        rows.put(subscription)
    return True
