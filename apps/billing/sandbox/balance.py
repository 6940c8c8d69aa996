"""What Stripe would hold for us: the list that `reconcile` compares with the ledger."""

from apps.billing.sandbox import rows
from apps.billing.sandbox.rows import Data

CATEGORIES = {"charge": "charge", "refund": "refund", "refund_failure": "refund_failure", "adjustment": "dispute"}
DISPUTE_FEE_CENTS = 1500


def card_fee_cents(amount_cents: int) -> int:
    """2.9 % and 30 cents, rounded half up (stripe.com/pricing, US cards)."""
    return (amount_cents * 29 + 500) // 1000 + 30


def enter(kind: str, *, amount: int, fee: int = 0, source: str, description: str | None = None) -> Data:
    """One movement of the balance in cents; `amount` is signed, `fee` is what Stripe keeps of it. In a transaction."""
    made = rows.now()
    return rows.add(
        "balance_transaction",
        {
            "amount": amount,
            "available_on": made,
            "balance_type": "payments",
            "currency": "usd",
            "description": description,
            "exchange_rate": None,
            "fee": fee,
            "fee_details": [
                {"amount": fee, "currency": "usd", "description": "Stripe processing fees", "type": "stripe_fee"}
            ]
            if fee
            else [],
            "net": amount - fee,
            "reporting_category": CATEGORIES[kind],
            "source": source,
            "status": "available",
            "type": kind,
        },
    )


def index(params: Data) -> Data:
    fields = {name: params.get(name) for name in ("type", "source", "currency")}
    return rows.page("balance_transaction", params, url="/v1/balance_transactions", **fields)


def retrieve(params: Data, identifier: str) -> Data:
    return rows.get("balance_transaction", identifier)
