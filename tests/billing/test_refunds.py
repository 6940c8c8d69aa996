"""Unused credit back to the card: by the customer in the window, by staff with a reason, in Stripe's dashboard."""

import pytest
import stripe as library
import time_machine
from django.core import mail
from django.db import transaction
from django.test import Client

from apps.accounts.models import AuditEvent
from apps.billing import refunds, tasks, top_ups
from apps.billing.client import client
from apps.billing.models import Refund
from apps.core.errors import InvalidRequest
from apps.ledger.models import Transfer
from tests import make
from tests.billing.stories import (
    buy,
    credit_cents,
    failed,
    later,
    owed_cents,
    proved,
    shop,
    spend,
    start,
    sum_of,
)
from tests.threads import run_in_threads

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def bought(stripe):
    organization, owner = shop()
    return organization, owner, buy(stripe, organization, owner, "25")


def nothing_moved(organization, cents=2500) -> None:
    assert not Refund.objects.exists()
    assert not Transfer.objects.filter(key__startswith="refund:").exists()
    assert credit_cents(organization) == cents


def test_unused_credit_goes_back(stripe, bought):
    organization, owner, row = bought
    spend(organization, 1000, "job:1")
    assert refunds.refundable_cents(row) == 1500
    refund = refunds.request(top_up=row, amount="10.50", actor=owner)
    assert (refund.amount_cents, refund.tax_cents, refund.actor) == (1050, 0, owner)
    assert refund.stripe_id.startswith("re_")
    assert credit_cents(organization) == 450
    stripe.deliver()
    refund.refresh_from_db()
    assert refund.state == "succeeded"
    assert sum_of("refunds") == 0
    assert refunds.refundable_cents(row) == 450
    proved()
    refunds.request(top_up=row, amount="4.50", actor=owner)
    stripe.deliver()
    assert credit_cents(organization) == 0
    proved()


@pytest.mark.parametrize("amount", ["15.01", "25", "9999999"])
def test_what_was_spent_stays_spent(stripe, bought, amount):
    organization, owner, row = bought
    spend(organization, 1000, "job:1")
    with pytest.raises(InvalidRequest, match=r"At most \$15\.00") as refusal:
        refunds.request(top_up=row, amount=amount, actor=owner)
    assert refusal.value.param == "amount"
    nothing_moved(organization, 1500)


@pytest.mark.parametrize("amount", ["0", "-5", "1.001", "x"])
def test_a_wrong_amount_is_refused(stripe, bought, amount):
    organization, owner, row = bought
    with pytest.raises(InvalidRequest) as refusal:
        refunds.request(top_up=row, amount=amount, actor=owner)
    assert refusal.value.param == "amount"
    nothing_moved(organization)


def test_the_window_ends_for_customers_and_not_for_staff(stripe, bought, settings):
    organization, owner, row = bought
    with time_machine.travel(later(days=settings.REFUND_DAYS, minutes=1), tick=False):
        assert refunds.refundable_cents(row) == 0
        with pytest.raises(refunds.NotRefundable, match="older than 14 days"):
            refunds.request(top_up=row, amount="5", actor=owner)
        nothing_moved(organization)
        assert refunds.refundable_cents(row, staff=True) == 2500


def test_promotional_credit_is_never_paid_out(stripe):
    organization, owner = shop(promotional_microusd=50_000_000)
    row = buy(stripe, organization, owner, "25")
    assert refunds.refundable_cents(row) == 2500


def test_an_open_payment_has_nothing_to_refund(stripe):
    organization, owner = shop(credit_microusd=50_000_000)
    row = start(organization, owner)
    with pytest.raises(refunds.NotRefundable):
        refunds.request(top_up=row, amount="5", actor=owner)


def test_eight_at_once_give_back_no_more_than_there_is(stripe, bought):
    organization, owner, row = bought
    outcomes = run_in_threads(8, lambda n: refunds.request(top_up=row, amount="10", actor=owner))
    assert sum(isinstance(outcome, Refund) for outcome in outcomes) == 2
    assert credit_cents(organization) == 500
    stripe.deliver()
    proved()


def test_staff_refund_with_a_reason(stripe, bought):
    organization, _, row = bought
    staff = make.user(is_staff=True, is_superuser=True)
    browser = Client()
    browser.force_login(staff)
    form = {"action": "refund", "_selected_action": [str(row.pk)], "confirm": "1", "amount_usd": "5.00"}
    url = "/admin/billing/topup/"
    assert browser.post(url, {**form, "reason": ""}).status_code == 200
    nothing_moved(organization)
    assert browser.post(url, {**form, "reason": "goodwill"}).status_code == 302
    refund = Refund.objects.get()
    assert (refund.amount_cents, refund.reason, refund.actor) == (500, "goodwill", staff)
    audit = AuditEvent.objects.get(action="refund.requested")
    assert (audit.reason, audit.target, audit.organization) == ("goodwill", row.public_id, organization)
    stripe.deliver()
    proved()


def test_stripe_refuses_and_the_credit_is_back(stripe, bought):
    organization, owner, row = bought
    stripe.fail_next("POST", "/v1/refunds", 400)
    refund = refunds.request(top_up=row, amount="5", actor=owner)
    assert refund.state == "failed"
    assert refund.failure
    assert credit_cents(organization) == 2500
    assert refunds.refundable_cents(row) == 2500
    proved()


def test_no_answer_leaves_it_pending_and_the_same_key_finishes_it(stripe, bought):
    organization, owner, row = bought
    stripe.fail_next("POST", "/v1/refunds", 500)
    refund = refunds.request(top_up=row, amount="5", actor=owner)
    assert (refund.state, refund.stripe_id) == ("pending", None)
    assert credit_cents(organization) == 2000
    with time_machine.travel(later(minutes=2), tick=False):
        tasks.ask_again()
    stripe.deliver()
    refund.refresh_from_db()
    assert refund.state == "succeeded"
    assert credit_cents(organization) == 2000
    proved()


@pytest.mark.parametrize("made", [True, False])
def test_after_a_day_stripes_own_list_decides(stripe, bought, made):
    organization, owner, row = bought
    if not made:
        stripe.fail_next("POST", "/v1/refunds", 500)
    refund = refunds.request(top_up=row, amount="5", actor=owner)
    Refund.objects.update(stripe_id=None, state="pending", ended_at=None, created_at=later(hours=-26))
    tasks.ask_again()
    refund.refresh_from_db()
    assert refund.state == ("succeeded" if made else "failed")
    assert credit_cents(organization) == (2000 if made else 2500)
    stripe.deliver()
    proved()


def test_a_refund_made_in_the_dashboard_takes_free_credit_and_the_rest_is_owed(stripe, bought):
    organization, _, row = bought
    spend(organization, 2000, "job:1")
    client().v1.refunds.create({"payment_intent": row.payment_intent_id, "amount": 1500})
    stripe.deliver(twice=True)
    refund = Refund.objects.get()
    assert (refund.amount_cents, refund.state, refund.actor) == (1500, "succeeded", None)
    assert credit_cents(organization) == 0
    assert owed_cents(organization) == 1000
    proved()


def test_the_event_of_our_refund_may_come_before_the_answer(stripe, bought):
    organization, owner, row = bought
    refund = refunds.request(top_up=row, amount="5", actor=owner)
    Refund.objects.update(stripe_id=None, state="pending", ended_at=None)
    stripe.deliver(twice=True)
    assert Refund.objects.count() == 1
    refund.refresh_from_db()
    assert (refund.state, refund.amount_cents) == ("succeeded", 500)
    assert credit_cents(organization) == 2000
    proved()


def test_a_refund_event_before_the_payments(stripe):
    organization, owner = shop()
    row = start(organization, owner)
    stripe.pay(row.checkout_session_id)
    intent = client().v1.checkout.sessions.retrieve(row.checkout_session_id).payment_intent
    client().v1.refunds.create({"payment_intent": intent, "amount": 1000})
    for event in sorted(stripe.events(), key=lambda event: not event["type"].startswith("refund.")):
        stripe.deliver(event)
    assert failed() == []
    assert credit_cents(organization) == 1500
    row.refresh_from_db()
    assert row.state == "paid"
    proved()


def test_a_refund_that_fails_later_gives_the_credit_back(stripe, bought):
    organization, owner, row = bought
    refund = refunds.request(top_up=row, amount="5", actor=owner)
    stripe.deliver()
    mail.outbox.clear()
    stripe.fail_refund(refund.stripe_id)
    stripe.deliver(twice=True)
    refund.refresh_from_db()
    assert refund.state == "failed"
    assert credit_cents(organization) == 2500
    assert sum_of("refunds") == 0
    assert refunds.refundable_cents(row) == 2500
    assert [message.subject for message in mail.outbox] == ["A refund failed, the credit is back"]
    proved()


def test_tax_goes_back_in_proportion_and_the_last_refund_returns_the_rest(stripe, bought):
    """$10.00 with $1.99 of tax in three parts: 0.66, 0.66, 0.67."""
    _, _, row = bought
    row.amount_cents, row.tax_cents = 1000, 199
    row.save()
    assert refunds.split(row, 1199) == (1000, 199)
    taken = []
    for credit in (333, 333, 334):
        left, tax_left = refunds.remaining(row)
        tax = tax_left if credit == left else min(row.tax_cents * credit // row.amount_cents, tax_left)
        Refund.objects.create(organization=row.organization, top_up=row, amount_cents=credit, tax_cents=tax)
        taken.append(tax)
    assert taken == [66, 66, 67]
    assert refunds.remaining(row) == (0, 0)


def test_a_refund_that_was_made_is_not_given_back_where_its_payment_cannot_be_read(stripe, monkeypatch):
    organization, owner = shop()
    top_up = buy(stripe, organization, owner, "25")

    def gone(*_: object) -> None:
        raise library.InvalidRequestError("No such payment", "id")

    with monkeypatch.context() as patched:
        patched.setattr(top_ups, "read_intent", gone)
        row = refunds.request(top_up=top_up, amount="10", actor=owner)
    assert (row.state, credit_cents(organization)) == ("pending", 1500)
    stripe.deliver()
    row.refresh_from_db()
    assert (row.state, credit_cents(organization)) == ("succeeded", 1500)
    proved()


def test_a_refund_we_gave_up_and_stripe_made_all_the_same_takes_its_credit_again(stripe):
    organization, owner = shop()
    top_up = buy(stripe, organization, owner)
    row = refunds.request(top_up=top_up, amount="10", actor=owner)
    with transaction.atomic():
        refunds.fail(row, "Given up")
    assert credit_cents(organization) == 2500
    stripe.deliver(twice=True)
    row.refresh_from_db()
    assert (row.state, row.failure) == ("succeeded", "")
    assert credit_cents(organization) == 1500
    proved()
