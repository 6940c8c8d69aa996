"""Disputes: the bank takes the money back at once, Stripe a fee with it; a won one gives both back."""

from apps.billing.sandbox import balance, events, rows
from apps.billing.sandbox.refusals import Impossible
from apps.billing.sandbox.rows import Data

OPEN = ("needs_response", "under_review")
RESPOND_SECONDS = 7 * 24 * 3600


def open_for(charge: Data) -> Data:
    """The cardholder disputes what was not refunded. In a transaction. Raises Impossible."""
    amount = charge["amount"] - charge["amount_refunded"]
    if charge["status"] != "succeeded" or charge["disputed"] or not amount:
        raise Impossible("Only a payment that succeeded, and was neither disputed nor refunded, can be disputed.")
    dispute = rows.add(
        "dispute",
        {
            "amount": amount,
            "balance_transactions": [],
            "charge": charge["id"],
            "currency": "usd",
            "evidence": {},
            "evidence_details": {
                "due_by": rows.now() + RESPOND_SECONDS,
                "has_evidence": False,
                "past_due": False,
                "submission_count": 0,
            },
            "is_charge_refundable": False,
            "metadata": {},
            "payment_intent": charge["payment_intent"],
            "reason": "fraudulent",
            "status": "needs_response",
        },
    )
    entry = balance.enter(
        "adjustment",
        amount=-amount,
        fee=balance.DISPUTE_FEE_CENTS,
        source=dispute["id"],
        description=f"Chargeback withdrawal for {charge['id']}",
    )
    dispute["balance_transactions"].append(entry)
    rows.put(dispute)
    charge["disputed"] = True
    rows.put(charge)
    events.tell("charge.dispute.created", dispute)
    events.tell("charge.dispute.funds_withdrawn", dispute)
    return dispute


def close(dispute_id: str, *, won: bool) -> Data:
    """The bank decides. In a transaction. Raises Impossible."""
    dispute = rows.get("dispute", dispute_id)
    if dispute["status"] not in OPEN:
        raise Impossible(f"This dispute is closed: {dispute['status']}.")
    dispute["status"] = "won" if won else "lost"
    if won:
        entry = balance.enter(
            "adjustment",
            amount=dispute["amount"],
            fee=-balance.DISPUTE_FEE_CENTS,
            source=dispute["id"],
            description=f"Chargeback reversal for {dispute['charge']}",
        )
        dispute["balance_transactions"].append(entry)
    rows.put(dispute)
    events.tell("charge.dispute.closed", dispute)
    if won:
        events.tell("charge.dispute.funds_reinstated", dispute)
    return dispute


def warn(charge: Data) -> Data:
    """The bank thinks that the card was stolen; a dispute may follow. In a transaction."""
    warning = rows.add(
        "radar.early_fraud_warning",
        {
            "actionable": True,
            "charge": charge["id"],
            "fraud_type": "made_with_stolen_card",
            "payment_intent": charge["payment_intent"],
        },
    )
    events.tell("radar.early_fraud_warning.created", warning)
    return warning


def retrieve(params: Data, identifier: str) -> Data:
    return rows.get("dispute", identifier)


def retrieve_warning(params: Data, identifier: str) -> Data:
    return rows.get("radar.early_fraud_warning", identifier)


def index(params: Data) -> Data:
    fields = {name: params.get(name) for name in ("charge", "payment_intent")}
    return rows.page("dispute", params, url="/v1/disputes", **fields)
