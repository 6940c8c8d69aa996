"""Refunds. Stripe keeps its fee; a refund that the bank sends back returns the amount to our balance."""

from apps.billing.sandbox import balance, events, rows
from apps.billing.sandbox.customers import merged
from apps.billing.sandbox.refusals import Impossible, Refusal
from apps.billing.sandbox.rows import Data


def create(params: Data) -> Data:
    if ("charge" in params) == ("payment_intent" in params):
        raise Refusal("One of the following params should be provided: payment_intent or charge.", param="charge")
    charge = _charge(params)
    if charge["status"] != "succeeded":
        raise Impossible(f"Charge {charge['id']} has not succeeded, so it cannot be refunded.", param="charge")
    if charge["disputed"]:
        raise Impossible(f"Charge {charge['id']} has been charged back; cannot issue a refund.", code="charge_disputed")
    left = charge["amount"] - charge["amount_refunded"]
    if not left:
        raise Impossible(f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
    amount = params.get("amount", left)
    if amount < 1:
        raise Refusal("Invalid positive integer", param="amount", code="parameter_invalid_integer")
    if amount > left:
        raise Impossible(
            f"Refund amount (${amount / 100:.2f}) is greater than unrefunded amount on charge (${left / 100:.2f})",
            param="amount",
        )
    refund = rows.add(
        "refund",
        {
            "amount": amount,
            "balance_transaction": None,
            "charge": charge["id"],
            "currency": "usd",
            "destination_details": {"card": {"type": "refund"}, "type": "card"},
            "metadata": params.get("metadata") or {},
            "payment_intent": charge["payment_intent"],
            "reason": params.get("reason"),
            "receipt_number": None,
            "source_transfer_reversal": None,
            "status": "succeeded",
            "transfer_reversal": None,
        },
    )
    entry = balance.enter("refund", amount=-amount, source=refund["id"])
    refund["balance_transaction"] = entry["id"]
    rows.put(refund)
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount"]
    rows.put(charge)
    events.tell("refund.created", refund)
    events.tell("charge.refunded", charge)
    return refund


def _charge(params: Data) -> Data:
    if "charge" in params:
        return rows.get("charge", params["charge"], param="charge")
    intent = rows.get("payment_intent", params["payment_intent"], param="payment_intent")
    if not intent["latest_charge"]:
        raise Impossible("This PaymentIntent does not have a successful charge to refund.", param="payment_intent")
    return rows.get("charge", intent["latest_charge"])


def fail(refund_id: str) -> Data:
    """The card's account is closed: the bank sends the money back. In a transaction. Raises Impossible."""
    refund = rows.get("refund", refund_id)
    if refund["status"] != "succeeded":
        raise Impossible(f"This refund is {refund['status']}.")
    entry = balance.enter("refund_failure", amount=refund["amount"], source=refund["id"])
    refund |= {
        "failure_balance_transaction": entry["id"],
        "failure_reason": "expired_or_canceled_card",
        "status": "failed",
    }
    rows.put(refund)
    charge = rows.get("charge", refund["charge"])
    charge["amount_refunded"] -= refund["amount"]
    charge["refunded"] = False
    rows.put(charge)
    events.tell("refund.failed", refund)
    events.tell("refund.updated", refund)
    return refund


def update(params: Data, identifier: str) -> Data:
    refund = rows.get("refund", identifier)
    refund["metadata"] = merged(refund["metadata"], params.get("metadata"))
    rows.put(refund)
    events.tell("refund.updated", refund)
    return refund


def retrieve(params: Data, identifier: str) -> Data:
    return rows.get("refund", identifier)


def index(params: Data) -> Data:
    fields = {name: params.get(name) for name in ("charge", "payment_intent")}
    return rows.page("refund", params, url="/v1/refunds", **fields)
