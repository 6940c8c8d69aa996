"""What happens on the checkout page: a session is paid, by a card or a bank debit, or not."""

from dataclasses import dataclass
from typing import Any

from apps.billing.sandbox import cards, customers, events, invoices, payments, rows, sessions, subscriptions
from apps.billing.sandbox.refusals import Impossible
from apps.billing.sandbox.rows import Data


@dataclass(frozen=True, slots=True)
class Payer:
    """What was typed on the page. Empty: left out."""

    name: str = ""
    email: str = ""
    country: str = ""
    tax_id: str = ""


def saves_card(session: Data, wish: bool) -> bool:
    """Always where the portal asked for it or a subscription needs it; by wish where the page offers it."""
    if session["mode"] == "subscription" or session["_payment_intent_data"].get("setup_future_usage"):
        return True
    return wish and offers_saving(session)


def offers_saving(session: Data) -> bool:
    options: dict[str, Any] = session["saved_payment_method_options"] or {}
    return bool(session["customer"]) and options.get("payment_method_save") == "enabled"


def pay(session_id: str, *, card: str, payer: Payer, save: bool = False) -> bool:
    """What the customer does on the page. False where the bank refused: the session stays open. In a transaction.

    Raises Missing, or Impossible where the session is not open any more.
    """
    session = rows.get("checkout.session", session_id)
    if session["status"] == "open" and session["expires_at"] <= rows.now():
        sessions.close(session)
    if session["status"] != "open":
        raise Impossible(f"This page is {session['status']}. Nothing was charged.")
    customer = _told(session, payer)
    kept = saves_card(session, save)
    method = cards.add(cards.known(card), billing=_billing(payer))
    if session["mode"] == "subscription":
        assert customer is not None
        return _subscribe(session, customer, method)
    intent = _intent(session, customer)
    if not payments.attempt(intent, method, absent=False):
        rows.put(session)
        return False
    if kept and customer is not None:
        cards.attach(method, customer["id"])
    paid = intent["status"] == "succeeded"
    _complete(session, paid=paid)
    if paid:
        _document(session, customer)
    return True


def _told(session: Data, payer: Payer) -> Data | None:
    """Keep what was typed: on the session, and on the customer as far as the portal asked for that."""
    given = session["customer"]
    if given:
        customer = rows.get("customer", given)
        updates = session["_customer_update"]
    elif (
        session["mode"] == "subscription" or session["customer_creation"] == "always" or sessions.wants_invoice(session)
    ):
        customer = customers.create({"email": payer.email or session["customer_email"] or "payer@example.org"})
        session["customer"], updates = customer["id"], {"name": "auto", "address": "auto"}
    else:
        customer, updates = None, {}
    country = payer.country or ((customer or {}).get("address") or {}).get("country") or ""
    for line in session["_line_items"]["data"]:
        line["amount_tax"] = sessions.tax_of(session, line, country)
        line["amount_total"] = line["amount_subtotal"] + line["amount_tax"]
    tax = sum(line["amount_tax"] for line in session["_line_items"]["data"])
    session["total_details"]["amount_tax"] = tax
    session["amount_total"] = session["amount_subtotal"] + tax
    if session["automatic_tax"]["enabled"]:
        session["automatic_tax"]["status"] = "complete"
    if customer is not None:
        if payer.name and updates.get("name") == "auto":
            customer["name"] = payer.name
        if payer.country and updates.get("address") == "auto":
            customer["address"] = address(payer.country)
        if payer.tax_id and session["tax_id_collection"]["enabled"]:
            customers.set_tax_id(customer, tax_id_type(payer.country), payer.tax_id)
        if payer.email and not customer["email"]:
            customer["email"] = payer.email
        customers.save(customer)
    session["customer_details"] = {
        "address": address(country) if country else None,
        "email": payer.email or (customer or {}).get("email") or session["customer_email"],
        "name": payer.name or (customer or {}).get("name"),
        "phone": None,
        "tax_exempt": "none",
        "tax_ids": customers.tax_ids(customer) if customer else [],
    }
    return customer


def address(country: str) -> Data:
    return {"city": None, "country": country, "line1": None, "line2": None, "postal_code": None, "state": None}


def tax_id_type(country: str) -> str:
    if country == "US":
        return "us_ein"
    return "gb_vat" if country == "GB" else "eu_vat"


def _billing(payer: Payer) -> Data:
    return {
        "address": address(payer.country) if payer.country else None,
        "email": payer.email or None,
        "name": payer.name or None,
        "phone": None,
    }


def _intent(session: Data, customer: Data | None) -> Data:
    """One payment intent for all tries on a page; its amount follows the tax."""
    given = session["_payment_intent_data"]
    if session["payment_intent"]:
        intent = rows.get("payment_intent", session["payment_intent"])
        intent["amount"] = session["amount_total"]
        return intent
    intent = payments.begin(
        amount=session["amount_total"],
        customer=customer["id"] if customer else None,
        metadata=given.get("metadata") or {},
        description=given.get("description"),
        receipt_email=given.get("receipt_email"),
        setup_future_usage=given.get("setup_future_usage"),
    )
    session["payment_intent"] = intent["id"]
    return intent


def _complete(session: Data, *, paid: bool) -> None:
    session |= {"status": "complete", "payment_status": "paid" if paid else "unpaid", "url": None}
    rows.put(session)
    if session["mode"] == "payment" and paid and sessions.wants_invoice(session):
        return  # told with its invoice
    events.tell("checkout.session.completed", session)


def _document(session: Data, customer: Data | None, *, kind: str = "checkout.session.completed") -> None:
    """The paid invoice of a payment, where one was asked for; then the session's event."""
    if not sessions.wants_invoice(session):
        return
    assert customer is not None
    asked = session["invoice_creation"]["invoice_data"]
    lines = [
        invoices.Line(line["description"], line["amount_subtotal"], quantity=line["quantity"])
        for line in session["_line_items"]["data"]
    ]
    invoice = invoices.draft(
        customer=rows.get("customer", customer["id"]) | {"balance": 0},
        lines=lines,
        tax=session["automatic_tax"]["enabled"],
        reason="manual",
        metadata=asked["metadata"],
    )
    invoice["description"], invoice["footer"] = asked["description"], asked["footer"]
    invoices.finalize(invoice)
    invoices.settle(invoice, rows.get("payment_intent", session["payment_intent"]))
    session["invoice"] = invoice["id"]
    rows.put(session)
    events.tell(kind, session)


def arrive(intent_id: str, *, paid: bool) -> Data:
    """The bank's answer to a delayed payment, and what it means for its session. In a transaction."""
    intent = payments.arrive(intent_id, paid=paid)
    for session in rows.every("checkout.session", payment_intent=intent_id):
        if not paid:
            events.tell("checkout.session.async_payment_failed", session)
            continue
        session["payment_status"] = "paid"
        rows.put(session)
        kind = "checkout.session.async_payment_succeeded"
        if sessions.wants_invoice(session):
            _document(session, rows.get("customer", session["customer"]), kind=kind)
        else:
            events.tell(kind, session)
    return intent


def _subscribe(session: Data, customer: Data, method: Data) -> bool:
    made = subscriptions.begin(
        customer=rows.get("customer", customer["id"]),
        items=[(line["price"], line["quantity"]) for line in session["_line_items"]["data"]],
        method=method,
        tax=session["automatic_tax"]["enabled"],
        given=session["_subscription_data"],
    )
    if made is None:
        rows.put(session)
        return False
    session |= {"subscription": made["id"], "invoice": made["latest_invoice"]}
    _complete(session, paid=True)
    return True
