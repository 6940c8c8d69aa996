"""Invoices: a paid document of a checkout, or what a subscription's period is collected by."""

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.urls import reverse

from apps.billing.sandbox import cards, customers, events, payments, rows, taxes
from apps.billing.sandbox.refusals import Impossible
from apps.billing.sandbox.rows import Data

RETRY_SECONDS = 3 * 24 * 3600
MOST_TRIES = 4


@dataclass(frozen=True, slots=True)
class Line:
    """Cents of the whole line. `start`, `end` are the seconds of the period it pays for."""

    description: str
    amount: int
    quantity: int = 1
    start: int = 0
    end: int = 0
    price: str | None = None
    item: str | None = None
    proration: bool = False


def draft(
    *,
    customer: Data,
    lines: list[Line],
    tax: bool,
    reason: str,
    metadata: dict[str, str],
    subscription: Data | None = None,
) -> Data:
    """A new invoice with its lines and tax. In a transaction."""
    made = rows.now()
    subtotal = sum(line.amount for line in lines)
    country = (customer["address"] or {}).get("country")
    tax_cents = taxes.cents(subtotal, enabled=tax, country=country)
    total = subtotal + tax_cents
    credit = min(-customer["balance"], total) if total > 0 and customer["balance"] < 0 else 0
    invoice = rows.add(
        "invoice",
        {
            "account_name": "Cango Portal (sandbox)",
            "amount_due": max(total - credit, 0),
            "amount_overpaid": 0,
            "amount_paid": 0,
            "amount_remaining": max(total - credit, 0),
            "attempt_count": 0,
            "attempted": False,
            "auto_advance": reason != "manual",
            "automatic_tax": taxes.automatic(tax),
            "billing_reason": reason,
            "collection_method": "charge_automatically",
            "currency": "usd",
            "custom_fields": None,
            "customer": customer["id"],
            "customer_address": customer["address"],
            "customer_email": customer["email"],
            "customer_name": customer["name"],
            "customer_tax_exempt": customer["tax_exempt"],
            "customer_tax_ids": customers.tax_ids(customer),
            "default_payment_method": None,
            "description": None,
            "due_date": None,
            "effective_at": None,
            "ending_balance": None,
            "footer": None,
            "hosted_invoice_url": None,
            "invoice_pdf": None,
            "lines": {"object": "list", "data": [], "has_more": False, "url": ""},
            "metadata": metadata,
            "next_payment_attempt": None,
            "number": None,
            "parent": _parent(subscription),
            "period_end": made,
            "period_start": made,
            "receipt_number": None,
            "starting_balance": customer["balance"],
            "status": "draft",
            "status_transitions": {
                "finalized_at": None,
                "marked_uncollectible_at": None,
                "paid_at": None,
                "voided_at": None,
            },
            "subtotal": subtotal,
            "subtotal_excluding_tax": subtotal,
            "total": total,
            "total_excluding_tax": subtotal,
            "total_taxes": [_tax(tax_cents, subtotal)] if tax_cents else [],
            "_credit": credit,
            "_payments": {"object": "list", "data": [], "has_more": False, "url": "/v1/invoice_payments"},
        },
    )
    invoice["lines"] = {
        "object": "list",
        "data": [_line(line, invoice, subscription) for line in lines],
        "has_more": False,
        "url": f"/v1/invoices/{invoice['id']}/lines",
    }
    rows.put(invoice)
    events.tell("invoice.created", invoice)
    return invoice


def _parent(subscription: Data | None) -> Data | None:
    if subscription is None:
        return None
    return {
        "quote_details": None,
        "subscription_details": {"metadata": subscription["metadata"], "subscription": subscription["id"]},
        "type": "subscription_details",
    }


def _tax(amount: int, taxable: int) -> Data:
    return {
        "amount": amount,
        "tax_behavior": "exclusive",
        "tax_rate_details": {"tax_rate": "txr_sandbox"},
        "taxability_reason": "standard_rated",
        "taxable_amount": taxable,
        "type": "tax_rate_details",
    }


def _line(line: Line, invoice: Data, subscription: Data | None) -> Data:
    made = invoice["created"]
    parent: Data | None = None
    if subscription is not None:
        parent = {
            "invoice_item_details": None,
            "subscription_item_details": {
                "invoice_item": None,
                "proration": line.proration,
                "proration_details": {"credited_items": None},
                "subscription": subscription["id"],
                "subscription_item": line.item,
            },
            "type": "subscription_item_details",
        }
    return {
        "id": rows.new_id("line_item"),
        "object": "line_item",
        "amount": line.amount,
        "currency": "usd",
        "description": line.description,
        "discount_amounts": [],
        "discountable": not line.proration,
        "discounts": [],
        "invoice": invoice["id"],
        "livemode": False,
        "metadata": {},
        "parent": parent,
        "period": {"start": line.start or made, "end": line.end or made},
        "pricing": {
            "price_details": {"price": line.price, "product": None},
            "type": "price_details",
            "unit_amount_decimal": str(line.amount // line.quantity),
        },
        "quantity": line.quantity,
        "subtotal": line.amount,
        "taxes": [],
    }


def finalize(invoice: Data) -> None:
    """Give it its number and its page; what the customer's credit pays is paid. In a transaction."""
    customer = rows.get("customer", invoice["customer"])
    number = customer["next_invoice_sequence"]
    moved = invoice["_credit"] if invoice["total"] >= 0 else invoice["total"]
    customer["next_invoice_sequence"] = number + 1
    customer["balance"] += moved
    rows.put(customer)
    hosted = settings.BASE_URL + reverse("sandbox:invoice", args=[invoice["id"]])
    invoice |= {
        "effective_at": rows.now(),
        "ending_balance": customer["balance"],
        "hosted_invoice_url": hosted,
        "invoice_pdf": settings.BASE_URL + reverse("sandbox:invoice_pdf", args=[invoice["id"]]),
        "number": f"{customer['invoice_prefix']}-{number:04}",
        "status": "open",
    }
    invoice["status_transitions"]["finalized_at"] = rows.now()
    rows.put(invoice)
    events.tell("invoice.finalized", invoice)


def collect(invoice: Data, method: Data | None, *, absent: bool = True) -> bool:
    """Pay a finalized invoice by this payment method. False where the bank refused, or none is there. In a transaction."""
    if not invoice["amount_remaining"]:
        settle(invoice, None)
        return True
    invoice["attempt_count"] += 1
    invoice["attempted"] = True
    customer = rows.get("customer", invoice["customer"])
    intent = _intent(invoice, customer)
    if method is not None and payments.attempt(intent, method, absent=absent):
        settle(invoice, intent)
        return True
    if invoice["attempt_count"] < MOST_TRIES:
        invoice["next_payment_attempt"] = rows.now() + RETRY_SECONDS
    else:
        invoice["next_payment_attempt"] = None
    rows.put(invoice)
    events.tell("invoice.payment_failed", invoice)
    return False


def _intent(invoice: Data, customer: Data) -> Data:
    """One payment intent for all tries at an invoice."""
    for payment in invoice["_payments"]["data"]:
        return rows.get("payment_intent", payment["payment"]["payment_intent"])
    intent = payments.begin(
        amount=invoice["amount_remaining"],
        customer=customer["id"],
        metadata={},
        description="Subscription update",
        receipt_email=customer["email"],
        setup_future_usage="off_session",
    )
    _pays(invoice, intent, status="open")
    return intent


def _pays(invoice: Data, intent: Data, *, status: str) -> None:
    paid = status == "paid"
    known = invoice["_payments"]["data"]
    payment = known[0] if known else {"id": rows.new_id("invoice_payment"), "created": rows.now()}
    invoice["_payments"]["data"] = [
        {
            **payment,
            "object": "invoice_payment",
            "amount_paid": intent["amount"] if paid else None,
            "amount_requested": intent["amount"],
            "currency": "usd",
            "invoice": invoice["id"],
            "is_default": True,
            "livemode": False,
            "payment": {"payment_intent": intent["id"], "type": "payment_intent"},
            "status": status,
            "status_transitions": {"canceled_at": None, "paid_at": rows.now() if paid else None},
        }
    ]


def settle(invoice: Data, intent: Data | None) -> None:
    """Mark it paid, by this payment or by credit alone. In a transaction."""
    invoice |= {
        "amount_paid": invoice["amount_due"],
        "amount_remaining": 0,
        "attempted": True,
        "next_payment_attempt": None,
        "status": "paid",
    }
    invoice["status_transitions"]["paid_at"] = rows.now()
    if intent is not None:
        _pays(invoice, intent, status="paid")
    rows.put(invoice)
    events.tell("invoice.paid", invoice)
    events.tell("invoice.payment_succeeded", invoice)


def void(invoice: Data) -> None:
    """In a transaction."""
    if invoice["status"] != "open":
        raise Impossible(f"You can only void open invoices; this one is {invoice['status']}.")
    invoice |= {"status": "void", "next_payment_attempt": None}
    invoice["status_transitions"]["voided_at"] = rows.now()
    rows.put(invoice)
    events.tell("invoice.voided", invoice)


def method_for(customer: Data, subscription: Data | None = None) -> Data | None:
    """What an invoice is charged to: the subscription's card, the customer's default, or the newest one."""
    named: list[Any] = [
        (subscription or {}).get("default_payment_method"),
        customer["invoice_settings"]["default_payment_method"],
    ]
    kept = cards.saved(customer["id"])
    for identifier in named:
        for method in kept:
            if method["id"] == identifier:
                return method
    return kept[0] if kept else None


def subscription_of(invoice: Data) -> str | None:
    details = (invoice["parent"] or {}).get("subscription_details") or {}
    found: str | None = details.get("subscription")
    return found


def retrieve(params: Data, identifier: str) -> Data:
    return rows.get("invoice", identifier)


def index(params: Data) -> Data:
    fields = {name: params.get(name) for name in ("customer", "status")}
    if "subscription" in params:
        fields["parent__subscription_details__subscription"] = params["subscription"]
    return rows.page("invoice", params, url="/v1/invoices", **fields)
