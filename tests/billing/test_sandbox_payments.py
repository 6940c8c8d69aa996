"""Payments, refunds, disputes: the objects, their events, and the balance they leave at Stripe."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import stripe as library
import time_machine

from apps.billing.client import client
from apps.billing.sandbox.refusals import Impossible
from tests.billing import till
from tests.stripe import Double


def kinds(stripe: Double) -> list[str]:
    return [event["type"] for event in stripe.events()]


def balance(stripe: Double) -> list[tuple[str, int, int]]:
    return [(entry["type"], entry["amount"], entry["fee"]) for entry in stripe.every("balance_transaction")]


def paid(stripe: Double, **more: Any) -> str:
    """The payment intent of a session that was paid."""
    bought = till.session(**more)
    assert stripe.pay(bought.id)
    return str(stripe.get(bought.id)["payment_intent"])


def test_a_checkout_is_paid(stripe: Double) -> None:
    buyer = till.customer(name=None, email="boss@meridian.example")
    bought = till.session(buyer)
    assert bought.url.startswith("http://localhost:8000/sandbox/checkout/cs_test_")
    assert (bought.status, bought.payment_status, bought.payment_intent) == ("open", "unpaid", None)
    before = len(stripe.events())
    assert stripe.pay(bought.id, name="Meridian Foods GmbH", country="DE", tax_id="DE123456789")
    session = client().v1.checkout.sessions.retrieve(bought.id, {"expand": ["payment_intent.latest_charge"]})
    assert (session.status, session.payment_status, session.amount_total) == ("complete", "paid", 2500)
    intent: Any = session.payment_intent
    assert (intent.status, intent.amount_received, intent.metadata.top_up) == ("succeeded", 2500, "t1")
    assert intent.latest_charge.receipt_url.startswith("http://localhost:8000/sandbox/receipts/ch_")
    invoice = client().v1.invoices.retrieve(str(session.invoice), {"expand": ["payments"]})
    assert (invoice.status, invoice.total, invoice.customer_name) == ("paid", 2500, "Meridian Foods GmbH")
    assert invoice.customer_tax_ids[0].value == "DE123456789"  # type: ignore[index]
    assert invoice.payments.data[0].payment.payment_intent == intent.id  # type: ignore[union-attr]
    assert invoice.metadata["top_up"] == "t1"  # type: ignore[index]
    customer = client().v1.customers.retrieve(buyer, {"expand": ["tax_ids"]})
    assert (customer.name, customer.address.country) == ("Meridian Foods GmbH", "DE")  # type: ignore[union-attr]
    assert customer.tax_ids.data[0].type == "eu_vat"  # type: ignore[union-attr]
    assert kinds(stripe)[before:] == [
        "customer.updated",
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
        "payment_method.attached",
        "invoice.created",
        "invoice.finalized",
        "invoice.paid",
        "invoice.payment_succeeded",
        "checkout.session.completed",
    ]
    assert balance(stripe) == [("charge", 2500, 103)]
    assert stripe.balance_cents() == 2397
    with pytest.raises(Impossible):
        stripe.pay(bought.id)
    assert stripe.balance_cents() == 2397


def test_tax_is_on_top_where_it_is_switched_on(stripe: Double) -> None:
    bought = till.session(automatic_tax={"enabled": True})
    stripe.pay(bought.id, country="DE")
    session = stripe.get(bought.id)
    assert (session["amount_subtotal"], session["amount_total"]) == (2500, 3000)
    assert session["total_details"]["amount_tax"] == 500
    invoice = stripe.get(session["invoice"])
    assert (invoice["total"], invoice["total_excluding_tax"], invoice["total_taxes"][0]["amount"]) == (3000, 2500, 500)
    assert stripe.get(session["payment_intent"])["amount_received"] == 3000
    free = till.session(automatic_tax={"enabled": True})
    stripe.pay(free.id, country="US")
    assert stripe.get(free.id)["amount_total"] == 2500


def test_a_refused_card_leaves_the_page_open(stripe: Double) -> None:
    buyer = till.customer()
    bought = till.session(buyer)
    assert not stripe.pay(bought.id, card="declined")
    session = stripe.get(bought.id)
    intent = stripe.get(session["payment_intent"])
    assert (session["status"], intent["status"]) == ("open", "requires_payment_method")
    assert intent["last_payment_error"]["code"] == "card_declined"
    assert kinds(stripe)[-2:] == ["charge.failed", "payment_intent.payment_failed"]
    assert balance(stripe) == []
    assert client().v1.customers.payment_methods.list(buyer).data == []
    assert stripe.pay(bought.id)
    assert stripe.get(bought.id)["payment_intent"] == intent["id"]
    assert len(stripe.every("payment_intent")) == 1


@pytest.mark.parametrize(("wanted", "kept"), [({"setup_future_usage": "off_session"}, 1), ({}, 0)])
def test_a_card_is_kept_where_that_was_asked_for(stripe: Double, wanted: Any, kept: int) -> None:
    buyer = till.customer()
    stripe.pay(till.session(buyer, payment_intent_data=wanted).id)
    assert len(client().v1.customers.payment_methods.list(buyer, {"type": "card"}).data) == kept


def test_an_open_page_expires(stripe: Double) -> None:
    bought = till.session()
    assert not stripe.pay(bought.id, card="declined")
    session = client().v1.checkout.sessions.expire(bought.id)
    assert session.status == "expired"
    assert stripe.get(str(session.payment_intent))["status"] == "canceled"
    assert kinds(stripe)[-1] == "checkout.session.expired"
    with pytest.raises(library.InvalidRequestError):
        client().v1.checkout.sessions.expire(bought.id)
    late = till.session()
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=25)), pytest.raises(Impossible):
        stripe.pay(late.id)
    assert balance(stripe) == []


@pytest.mark.parametrize(
    ("card", "code"),
    [
        ("pays_once", "card_declined"),
        ("declined", "card_declined"),
        ("authentication_required", "authentication_required"),
    ],
)
def test_an_off_session_payment_is_refused(stripe: Double, card: str, code: str) -> None:
    buyer = till.customer()
    method = stripe.save_card(buyer, card)
    with pytest.raises(library.CardError) as refusal:
        till.off_session(buyer, method)
    assert (refusal.value.http_status, refusal.value.code) == (402, code)
    intent: Any = refusal.value.error.payment_intent  # type: ignore[union-attr]
    assert (intent.status, intent.last_payment_error.code) == ("requires_payment_method", code)
    assert stripe.get(intent.id)["metadata"] == {"automatic": "1"}
    assert kinds(stripe)[-3:] == ["payment_intent.created", "charge.failed", "payment_intent.payment_failed"]
    assert balance(stripe) == []


def test_an_off_session_payment(stripe: Double) -> None:
    buyer = till.customer()
    intent = till.off_session(buyer, stripe.save_card(buyer), cents=10_000)
    assert (intent.status, intent.amount_received) == ("succeeded", 10_000)
    assert balance(stripe) == [("charge", 10_000, 320)]
    somebody = till.customer()
    with pytest.raises(library.InvalidRequestError) as refusal:
        till.off_session(somebody, stripe.save_card(buyer))
    assert refusal.value.param == "payment_method"


def test_refunds(stripe: Double) -> None:
    intent = paid(stripe)
    api = client().v1.refunds
    first = api.create({"payment_intent": intent, "amount": 1000, "metadata": {"refund": "r1"}})
    assert (first.status, first.amount, first.metadata["refund"]) == ("succeeded", 1000, "r1")  # type: ignore[index]
    assert kinds(stripe)[-2:] == ["refund.created", "charge.refunded"]
    with pytest.raises(library.InvalidRequestError) as refusal:
        api.create({"payment_intent": intent, "amount": 1501})
    assert refusal.value.param == "amount"
    second = api.create({"payment_intent": intent})
    assert second.amount == 1500
    with pytest.raises(library.InvalidRequestError) as refusal:
        api.create({"payment_intent": intent})
    assert refusal.value.code == "charge_already_refunded"
    assert [each.id for each in api.list({"payment_intent": intent}).data] == [second.id, first.id]
    assert balance(stripe) == [("charge", 2500, 103), ("refund", -1000, 0), ("refund", -1500, 0)]
    stripe.fail_refund(first.id)
    assert api.retrieve(first.id).status == "failed"
    assert kinds(stripe)[-2:] == ["refund.failed", "refund.updated"]
    assert stripe.balance_cents() == 1000 - 103


@pytest.mark.parametrize(("won", "left"), [(True, 2397), (False, -1603)])
def test_a_dispute(stripe: Double, won: bool, left: int) -> None:
    intent = paid(stripe)
    dispute = stripe.dispute(intent)
    read = client().v1.disputes.retrieve(dispute)
    assert (read.status, read.amount, read.payment_intent) == ("needs_response", 2500, intent)
    assert [entry.net for entry in read.balance_transactions] == [-4000]
    assert kinds(stripe)[-2:] == ["charge.dispute.created", "charge.dispute.funds_withdrawn"]
    assert stripe.balance_cents() == 2397 - 4000
    with pytest.raises(library.InvalidRequestError) as refusal:
        client().v1.refunds.create({"payment_intent": intent})
    assert refusal.value.code == "charge_disputed"
    stripe.close_dispute(dispute, won=won)
    assert client().v1.disputes.retrieve(dispute).status == ("won" if won else "lost")
    closed = ["charge.dispute.closed", *(["charge.dispute.funds_reinstated"] if won else [])]
    assert kinds(stripe)[-len(closed) :] == closed
    assert stripe.balance_cents() == left
    with pytest.raises(Impossible):
        stripe.close_dispute(dispute, won=True)


def test_cards_with_an_afterlife(stripe: Double) -> None:
    stripe.pay(till.session().id, card="dispute")
    assert len(stripe.every("dispute")) == 1
    stripe.pay(till.session().id, card="fraud_warning")
    assert stripe.events("radar.early_fraud_warning.created")[0]["data"]["object"]["payment_intent"]


@pytest.mark.parametrize("arrives", [True, False])
def test_a_bank_debit_arrives_later_or_not(stripe: Double, arrives: bool) -> None:
    bought = till.session()
    stripe.pay(bought.id, card="bank_debit")
    session = stripe.get(bought.id)
    assert (session["status"], session["payment_status"]) == ("complete", "unpaid")
    assert stripe.get(session["payment_intent"])["status"] == "processing"
    assert kinds(stripe)[-1] == "checkout.session.completed"
    assert balance(stripe) == []
    stripe.arrive(session["payment_intent"], paid=arrives)
    outcome = "succeeded" if arrives else "failed"
    assert kinds(stripe)[-1] == f"checkout.session.async_payment_{outcome}"
    assert stripe.get(bought.id)["payment_status"] == ("paid" if arrives else "unpaid")
    assert bool(stripe.get(bought.id)["invoice"]) is arrives
    assert bool(balance(stripe)) is arrives


def test_the_list_that_reconcile_reads(stripe: Double) -> None:
    for _ in range(3):
        paid(stripe)
    start = int((datetime.now(UTC) - timedelta(hours=1)).timestamp())
    listed = client().v1.balance_transactions.list({"created": {"gte": start}, "limit": 2})
    assert sum(entry.net for entry in listed.auto_paging_iter()) == stripe.balance_cents() == 3 * 2397
