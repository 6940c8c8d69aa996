"""A bank takes a payment back: from free credit, the rest is owed, and nothing new runs until it is paid."""

import threading

import pytest
from django.core import mail
from django.db import transaction

from apps.billing import attempts, automatic, disputes, refunds, top_ups
from apps.billing.models import AutomaticTopUp, Dispute
from apps.ledger import services as ledger
from apps.ledger.models import Hold, Transfer
from tests import make
from tests.billing.stories import buy, credit_cents, failed, owed_cents, proved, shop, spend, start, sum_of
from tests.threads import run_in_threads

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def bought(stripe):
    organization, owner = shop()
    return organization, owner, buy(stripe, organization, owner, "25", save_card=True)


def test_a_dispute_takes_free_credit_and_the_rest_is_owed(stripe, bought):
    organization, owner, row = bought
    staff = make.user(is_staff=True)
    automatic.configure(organization=organization, actor=owner, threshold="1", amount="20", monthly_ceiling="50")
    spend(organization, 1800, "job:1")
    mail.outbox.clear()
    stripe.dispute(row.payment_intent_id)
    stripe.deliver(twice=True)
    dispute = Dispute.objects.get()
    assert (dispute.state, dispute.amount_cents, dispute.top_up, dispute.organization) == (
        "open",
        2500,
        row,
        organization,
    )
    assert credit_cents(organization) == 0
    assert owed_cents(organization) == 1800
    assert Transfer.objects.get(debit="held", credit="revenue").amount_microusd == 18_000_000  # a finished charge stays
    with pytest.raises(ledger.PaymentOwed):
        ledger.reserve(organization=organization, microusd=1, key="job:2")
    assert not Hold.objects.filter(key="job:2").exists()
    rule = AutomaticTopUp.objects.get()
    assert (rule.enabled, rule.stopped_reason) == (False, "A payment by card was disputed.")
    with pytest.raises(automatic.NotOffered, match="disputed"):
        automatic.configure(organization=organization, actor=owner, threshold="1", amount="20", monthly_ceiling="50")
    with pytest.raises(refunds.NotRefundable):
        refunds.request(top_up=row, amount="1", actor=owner)
    subjects = sorted((message.subject, *message.to) for message in mail.outbox)
    assert subjects == sorted(
        [
            ("Automatic top-up was switched off", owner.email),
            ("A payment was disputed", owner.email),
            (f"Dispute {dispute.stripe_id}: {organization}", staff.email),
        ]
    )
    proved()


def test_what_is_owed_is_paid_by_the_next_top_up(stripe, bought):
    organization, owner, row = bought
    spend(organization, 1800, "job:1")
    stripe.dispute(row.payment_intent_id)
    stripe.deliver()
    buy(stripe, organization, owner, "30")
    assert owed_cents(organization) == 0
    assert credit_cents(organization) == 1200
    ledger.reserve(organization=organization, microusd=1, key="job:2")
    proved()


@pytest.mark.parametrize("won", [True, False])
def test_the_end_of_a_dispute(stripe, bought, won):
    organization, _, row = bought
    spend(organization, 1800, "job:1")
    dispute = stripe.dispute(row.payment_intent_id)
    stripe.deliver()
    stripe.close_dispute(dispute, won=won)
    stripe.deliver(twice=True)
    found = Dispute.objects.get()
    assert found.state == ("won" if won else "lost")
    assert found.closed_at is not None
    assert credit_cents(organization) == (700 if won else 0)
    assert owed_cents(organization) == (0 if won else 1800)
    assert sum_of("disputes") == 0
    assert failed() == []
    proved()


@pytest.mark.parametrize("backwards", [False, True])
def test_its_events_in_any_order_and_before_the_payments(stripe, backwards):
    organization, owner = shop()
    row = start(organization, owner)
    stripe.pay(row.checkout_session_id)
    from apps.billing.client import client

    intent = client().v1.checkout.sessions.retrieve(row.checkout_session_id).payment_intent
    dispute = stripe.dispute(intent)
    stripe.close_dispute(dispute, won=True)
    events = sorted(stripe.events(), key=lambda event: not event["type"].startswith("charge.dispute."))
    for event in reversed(events) if backwards else events:
        stripe.deliver(event, twice=True)
    assert failed() == []
    assert credit_cents(organization) == 2500
    assert Dispute.objects.get().state == "won"
    proved()


def test_an_early_fraud_warning_switches_the_card_off_and_tells_staff(stripe, bought):
    organization, owner, _ = bought
    staff = make.user(is_staff=True)
    automatic.configure(organization=organization, actor=owner, threshold="1", amount="20", monthly_ceiling="50")
    mail.outbox.clear()
    row = buy(stripe, organization, owner, "25", card="fraud_warning")
    assert AutomaticTopUp.objects.get().enabled is False
    assert credit_cents(organization) == 5000  # nothing is refunded by itself
    assert {(message.subject, *message.to) for message in mail.outbox} == {
        ("Automatic top-up was switched off", owner.email),
        (f"Early fraud warning: {organization}", staff.email),
    }
    assert any(row.public_id in message.body for message in mail.outbox)
    proved()


def test_a_dispute_and_the_next_payment_do_not_wait_for_each_other(stripe, bought, monkeypatch):
    organization, owner, first = bought
    automatic.configure(organization=organization, actor=owner, threshold="1", amount="20", monthly_ceiling="50")
    second = start(organization, owner, "40")
    stripe.pay(second.checkout_session_id)
    dispute = disputes.read(stripe.dispute(first.payment_intent_id))
    payment = top_ups.read_session(second.checkout_session_id)
    assert dispute is not None
    assert payment is not None
    withdrawing, succeeded = threading.Event(), threading.Event()
    withdraw, forget = disputes._withdraw, attempts.succeeded

    def slow_withdraw(*args):
        withdrawing.set()
        succeeded.wait(3)
        withdraw(*args)

    def slow_forget(row):
        forget(row)
        succeeded.set()

    monkeypatch.setattr(disputes, "_withdraw", slow_withdraw)
    monkeypatch.setattr(attempts, "succeeded", slow_forget)

    def work(n: int) -> None:
        with transaction.atomic():
            if n:
                withdrawing.wait(3)
                top_ups.book(payment)
            else:
                disputes.book(dispute)

    assert run_in_threads(2, work) == [None, None]
    assert (credit_cents(organization), owed_cents(organization)) == (4000, 0)
