"""Test cards, each with its story; numbers as in docs.stripe.com/testing. No other card is known here."""

from dataclasses import dataclass

from apps.billing.sandbox import events, rows
from apps.billing.sandbox.refusals import Impossible, Missing
from apps.billing.sandbox.rows import Data


@dataclass(frozen=True, slots=True)
class Card:
    """`present`, `absent`: the code a payment is refused with while the customer is there, and off-session. "" pays.

    `confirms`: the bank asks the customer, who agrees, and asks again off-session. `then` happens after the payment.
    `delayed`: a bank debit, whose money arrives, or not, days later.
    """

    name: str
    number: str
    title: str
    present: str = ""
    absent: str = ""
    then: str = ""
    delayed: bool = False
    brand: str = "visa"


CARDS = {
    card.name: card
    for card in (
        Card("pays", "4242424242424242", "Pays"),
        Card("declined", "4000000000000002", "Is declined", present="card_declined", absent="card_declined"),
        Card("pays_once", "4000000000000341", "Pays once, then declined", absent="card_declined"),
        Card(
            "authentication_required",
            "4000002760003184",
            "Asks to confirm each time",
            absent="authentication_required",
        ),
        Card("dispute", "4000000000000259", "Pays, then is disputed", then="dispute"),
        Card("fraud_warning", "4000000000005423", "Pays, then warns of fraud", then="warning"),
        Card("bank_debit", "000123456789", "Bank debit, arrives later", delayed=True, brand="us_bank_account"),
    )
}
DEFAULT = "pays"
MESSAGES = {
    "card_declined": "Your card was declined.",
    "authentication_required": ("Your card was declined. This transaction requires authentication."),
}
DECLINE_CODES = {"card_declined": "generic_decline", "authentication_required": "authentication_required"}


def known(name: str) -> Card:
    """By name or number. Raises LookupError."""
    digits = name.replace(" ", "")
    for card in CARDS.values():
        if digits in (card.name, card.number):
            return card
    raise LookupError(name)


def add(card: Card, *, billing: Data | None = None) -> Data:
    """A payment method of this card, not yet anybody's. In a transaction."""
    details: Data
    if card.delayed:
        details = {
            "type": "us_bank_account",
            "us_bank_account": {"bank_name": "SANDBOX BANK", "last4": card.number[-4:], "account_type": "checking"},
        }
    else:
        details = {
            "type": "card",
            "card": {
                "brand": card.brand,
                "country": "US",
                "exp_month": 12,
                "exp_year": 2034,
                "fingerprint": f"sandbox{card.number[-4:]}",
                "funding": "credit",
                "last4": card.number[-4:],
            },
        }
    blank = {"address": None, "email": None, "name": None, "phone": None}
    return rows.add(
        "payment_method",
        {**details, "billing_details": billing or blank, "customer": None, "metadata": {}, "_card": card.name},
    )


def attach(method: Data, customer: str) -> None:
    """In a transaction."""
    method["customer"] = customer
    rows.put(method)
    events.tell("payment_method.attached", method)


def of(payment_method: Data) -> Card:
    return CARDS[payment_method["_card"]]


def saved(customer: str) -> list[Data]:
    """Newest first: payments take the first one where none is named."""
    return rows.every("payment_method", customer=customer)[::-1]


def index(params: Data, customer: str) -> Data:
    rows.get("customer", customer, param="customer")
    url = f"/v1/customers/{customer}/payment_methods"
    return rows.page("payment_method", params, url=url, customer=customer, type=params.get("type"))


def retrieve(params: Data, identifier: str) -> Data:
    return rows.get("payment_method", identifier)


def belonging(identifier: str, customer: str | None) -> Data:
    """A payment method that may be charged. Raises Missing or Impossible."""
    method = rows.get("payment_method", identifier, param="payment_method")
    if method["customer"] != customer:
        raise Impossible(
            "The provided PaymentMethod cannot be attached or used: it belongs to another customer, or to none.",
            param="payment_method",
        )
    return method


def detach(identifier: str, *, customer: str) -> Data:
    """The customer's own wish, on the portal's page. Raises Missing."""
    method = rows.get("payment_method", identifier)
    if method["customer"] != customer:
        raise Missing("payment_method", identifier)
    method["customer"] = None
    rows.put(method)
    events.tell("payment_method.detached", method, previous={"customer": customer})
    return method
