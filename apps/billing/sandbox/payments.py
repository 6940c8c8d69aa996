"""Payment intents and their charges."""

from typing import Any

from django.conf import settings
from django.urls import reverse

from apps.billing.sandbox import balance, cards, disputes, events, rows
from apps.billing.sandbox.cards import DECLINE_CODES, MESSAGES, Card
from apps.billing.sandbox.refusals import CardRefused, Impossible, Refusal
from apps.billing.sandbox.rows import Data

LEAST_CENTS = 50  # docs.stripe.com/currencies#minimum-and-maximum-charge-amounts
MOST_CENTS = 99_999_999


def amount_in_bounds(amount: int, *, param: str = "amount") -> None:
    if amount < 1:
        raise Refusal("Invalid positive integer", param=param, code="parameter_invalid_integer")
    if amount < LEAST_CENTS:
        raise Refusal("Amount must be at least $0.50 usd", param=param, code="amount_too_small")
    if amount > MOST_CENTS:
        raise Refusal("Amount must be no more than $999,999.99", param=param, code="amount_too_large")


def only_usd(currency: str, *, param: str = "currency") -> None:
    if currency.lower() != "usd":
        raise Refusal(f"Invalid currency: {currency}. The sandbox has usd only.", param=param)


def create(params: Data) -> Data:
    """Off-session with `confirm`, or an intent that waits. Raises CardRefused with the payment intent in it."""
    amount_in_bounds(params["amount"])
    only_usd(params["currency"])
    if params.get("off_session") and not params.get("confirm"):
        raise Refusal("off_session can only be passed when confirm is true.", param="off_session")
    customer = params.get("customer")
    if customer:
        rows.get("customer", customer, param="customer")
    method = None
    if "payment_method" in params:
        method = cards.belonging(params["payment_method"], customer)
    if params.get("confirm") and method is None:
        raise Impossible("You cannot confirm this PaymentIntent because it's missing a payment method.")
    intent = begin(
        amount=params["amount"],
        customer=customer,
        metadata=params.get("metadata") or {},
        description=params.get("description"),
        receipt_email=params.get("receipt_email") or None,
        setup_future_usage=params.get("setup_future_usage"),
    )
    if method is None:
        return intent
    if not params.get("confirm"):
        intent |= {"payment_method": method["id"], "status": "requires_confirmation"}
        rows.put(intent)
        return intent
    absent = bool(params.get("off_session"))
    if not attempt(intent, method, absent=absent):
        raise refused(intent)
    return intent


def begin(*, amount: int, customer: str | None, metadata: dict[str, str], **fields: Any) -> Data:
    """A payment intent that waits for a payment method. In a transaction."""
    intent = rows.add(
        "payment_intent",
        {
            "amount": amount,
            "amount_capturable": 0,
            "amount_received": 0,
            "automatic_payment_methods": None,
            "canceled_at": None,
            "cancellation_reason": None,
            "capture_method": "automatic",
            "client_secret": None,
            "confirmation_method": "automatic",
            "currency": "usd",
            "customer": customer,
            "description": None,
            "last_payment_error": None,
            "latest_charge": None,
            "metadata": metadata,
            "next_action": None,
            "payment_method": None,
            "payment_method_types": ["card"],
            "processing": None,
            "receipt_email": None,
            "setup_future_usage": None,
            "status": "requires_payment_method",
            **fields,
        },
    )
    events.tell("payment_intent.created", intent)
    return intent


def attempt(intent: Data, method: Data, *, absent: bool) -> bool:
    """Charge the method. False where the bank refused: intent, charge and events then say so. In a transaction."""
    card = cards.of(method)
    intent |= {"payment_method": method["id"], "payment_method_types": [method["type"]], "next_action": None}
    code = card.absent if absent else card.present
    charge = _charge(intent, method)
    intent["latest_charge"] = charge["id"]
    if code:
        _refuse(intent, charge, method, code)
        return False
    if card.delayed:
        intent["status"] = "processing"
        rows.put(intent)
        events.tell("charge.pending", charge)
        events.tell("payment_intent.processing", intent)
        return True
    _succeed(intent, charge, card)
    return True


def arrive(intent_id: str, *, paid: bool) -> Data:
    """What the bank says at last of a delayed payment. In a transaction. Raises Impossible."""
    intent = rows.get("payment_intent", intent_id)
    if intent["status"] != "processing":
        raise Impossible(f"This payment is {intent['status']}, not processing.")
    charge = rows.get("charge", intent["latest_charge"])
    method = rows.get("payment_method", intent["payment_method"])
    if paid:
        _succeed(intent, charge, cards.of(method))
    else:
        _refuse(intent, charge, method, "card_declined")
    return intent


def refused(intent: Data) -> CardRefused:
    error = intent["last_payment_error"]
    return CardRefused(
        error["message"],
        code=error["code"],
        decline_code=error["decline_code"],
        charge=error["charge"],
        payment_intent={name: value for name, value in intent.items() if not name.startswith("_")},
        payment_method=error["payment_method"],
    )


def _succeed(intent: Data, charge: Data, card: Card) -> None:
    fee = balance.card_fee_cents(intent["amount"])
    entry = balance.enter("charge", amount=intent["amount"], fee=fee, source=charge["id"])
    charge |= {
        "amount_captured": charge["amount"],
        "balance_transaction": entry["id"],
        "captured": True,
        "paid": True,
        "status": "succeeded",
        "receipt_url": settings.BASE_URL + reverse("sandbox:receipt", args=[charge["id"]]),
        "outcome": {
            "network_status": "approved_by_network",
            "reason": None,
            "risk_level": "normal",
            "seller_message": "Payment complete.",
            "type": "authorized",
        },
    }
    intent |= {"amount_received": intent["amount"], "last_payment_error": None, "status": "succeeded"}
    rows.put(charge)
    rows.put(intent)
    events.tell("charge.succeeded", charge)
    events.tell("payment_intent.succeeded", intent)
    if card.then == "dispute":
        disputes.open_for(charge)
    elif card.then == "warning":
        disputes.warn(charge)


def _refuse(intent: Data, charge: Data, method: Data, code: str) -> None:
    charge |= {
        "failure_code": code,
        "failure_message": MESSAGES[code],
        "status": "failed",
        "outcome": {
            "network_status": "declined_by_network",
            "reason": DECLINE_CODES[code],
            "risk_level": "normal",
            "seller_message": "The bank did not return any further details with this decline.",
            "type": "issuer_declined",
        },
    }
    intent |= {
        "status": "requires_payment_method",
        "payment_method": None,
        "last_payment_error": {
            "type": "card_error",
            "code": code,
            "decline_code": DECLINE_CODES[code],
            "message": MESSAGES[code],
            "charge": charge["id"],
            "payment_method": {name: value for name, value in method.items() if not name.startswith("_")},
        },
    }
    rows.put(charge)
    rows.put(intent)
    events.tell("charge.failed", charge)
    events.tell("payment_intent.payment_failed", intent)


def _charge(intent: Data, method: Data) -> Data:
    kind = method["type"]
    return rows.add(
        "charge",
        {
            "amount": intent["amount"],
            "amount_captured": 0,
            "amount_refunded": 0,
            "balance_transaction": None,
            "billing_details": method["billing_details"],
            "captured": False,
            "currency": "usd",
            "customer": intent["customer"],
            "description": intent["description"],
            "disputed": False,
            "failure_balance_transaction": None,
            "failure_code": None,
            "failure_message": None,
            "fraud_details": {},
            "metadata": intent["metadata"],
            "outcome": None,
            "paid": False,
            "payment_intent": intent["id"],
            "payment_method": method["id"],
            "payment_method_details": {"type": kind, kind: method[kind]},
            "receipt_email": intent["receipt_email"],
            "receipt_number": None,
            "receipt_url": None,
            "refunded": False,
            "status": "pending",
        },
    )


def retrieve(params: Data, identifier: str) -> Data:
    return rows.get("payment_intent", identifier)


def index(params: Data) -> Data:
    return rows.page("payment_intent", params, url="/v1/payment_intents", customer=params.get("customer"))


def cancel(params: Data, identifier: str) -> Data:
    intent = rows.get("payment_intent", identifier)
    if not intent["status"].startswith("requires_"):
        raise Impossible(
            f"You cannot cancel this PaymentIntent because it has a status of {intent['status']}.",
            code="payment_intent_unexpected_state",
        )
    intent |= {
        "status": "canceled",
        "canceled_at": rows.now(),
        "cancellation_reason": params.get("cancellation_reason"),
    }
    rows.put(intent)
    events.tell("payment_intent.canceled", intent)
    return intent


def retrieve_charge(params: Data, identifier: str) -> Data:
    return rows.get("charge", identifier)


def index_charges(params: Data) -> Data:
    fields = {name: params.get(name) for name in ("customer", "payment_intent")}
    return rows.page("charge", params, url="/v1/charges", **fields)
