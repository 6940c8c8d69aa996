"""Automatic top-up: once at a time, up to the ceiling, and an end after three failures."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.core import mail

from apps.billing import automatic, tasks
from apps.billing.models import AutomaticTopUp, TopUp
from apps.core.errors import InvalidRequest
from apps.ledger.models import Transfer
from tests.billing.stories import buy, credit_cents, proved, shop, spend
from tests.threads import run_in_threads

pytestmark = pytest.mark.django_db(transaction=True)


def configure(organization, owner, **changes) -> AutomaticTopUp:
    return automatic.configure(
        organization=organization,
        actor=owner,
        **{"threshold": "10", "amount": "20", "monthly_ceiling": "50", **changes},
    )


@pytest.fixture
def ready(stripe, request):
    """An organization with $5 of credit left, a saved card, and automatic top-up below $10."""
    organization, owner = shop()
    buy(stripe, organization, owner, "25", save_card=True, card=getattr(request, "param", "pays"))
    configure(organization, owner)
    spend(organization, 2000, "job:1")
    mail.outbox.clear()
    return organization, owner


def asked(stripe) -> list:
    return stripe.asked("POST", "/v1/payment_intents")


def latest() -> TopUp:
    return TopUp.objects.filter(source="automatic").latest("created_at")


def test_a_low_balance_is_topped_up_once(stripe, ready):
    organization, _ = ready
    tasks.top_up_automatically()
    tasks.top_up_automatically()  # on its way
    assert credit_cents(organization) == 500  # the answer credits nothing
    row = latest()
    assert (row.state, row.amount_cents) == ("open", 2000)
    assert row.payment_intent_id.startswith("pi_")
    stripe.deliver()
    assert credit_cents(organization) == 2500
    row.refresh_from_db()
    assert row.state == "paid"
    tasks.top_up_automatically()  # not low any more
    [request] = asked(stripe)
    assert request.headers["Idempotency-Key"] == str(row.pk)
    proved()


def test_above_the_threshold_or_switched_off_nothing_happens(stripe):
    organization, owner = shop()
    buy(stripe, organization, owner, "25", save_card=True)
    configure(organization, owner)
    spend(organization, 1500, "job:1")  # exactly the threshold is left
    tasks.top_up_automatically()
    automatic.switch_off(organization=organization, actor=owner)
    spend(organization, 500, "job:2")
    tasks.top_up_automatically()
    assert asked(stripe) == []
    assert not TopUp.objects.filter(source="automatic").exists()


def test_the_ceiling_of_the_month_holds_and_ends_with_it(stripe, ready):
    organization, owner = ready
    for n in range(4):
        tasks.top_up_automatically()
        stripe.deliver()
        spend(organization, credit_cents(organization), f"job:all:{n}")
    assert TopUp.objects.filter(source="automatic").count() == 2  # $40 of $50
    rule = AutomaticTopUp.objects.get()
    assert rule.enabled
    assert rule.next_try_at == automatic.next_month(datetime.now(UTC))
    assert [message.subject for message in mail.outbox] == ["Automatic top-up reached its monthly ceiling"]
    proved()
    configure(organization, owner, monthly_ceiling="60")
    tasks.top_up_automatically()
    stripe.deliver()
    assert credit_cents(organization) == 2000


def test_next_month_is_the_first_of_it():
    assert automatic.next_month(datetime(2026, 12, 31, 23, 59, tzinfo=UTC)) == datetime(2027, 1, 1, tzinfo=UTC)
    assert automatic.next_month(datetime(2027, 1, 31, tzinfo=UTC)) == datetime(2027, 2, 1, tzinfo=UTC)


def test_eight_workers_at_once_ask_once(stripe, ready):
    organization, _ = ready
    run_in_threads(8, lambda n: tasks.top_up_automatically())
    assert len(asked(stripe)) == 1
    stripe.deliver()
    assert credit_cents(organization) == 2500
    proved()


@pytest.mark.parametrize("ready", ["pays_once"], indirect=True)
def test_three_declines_switch_it_off_and_say_so(stripe, ready):
    organization, owner = ready
    now = datetime.now(UTC)
    pauses = []
    for _ in range(3):
        with time_machine.travel(now, tick=False):
            tasks.top_up_automatically()
            tasks.top_up_automatically()
        stripe.deliver()
        rule = AutomaticTopUp.objects.get()
        pauses.append(rule.next_try_at and rule.next_try_at - now)
        now += timedelta(hours=5)
    assert pauses[:2] == [timedelta(hours=1), timedelta(hours=2)]
    assert pauses[2] is None
    assert len(asked(stripe)) == 3
    assert (rule.enabled, rule.failures) == (False, 3)
    assert rule.stopped_reason.startswith("3 payments in a row failed.")
    assert set(TopUp.objects.filter(source="automatic").values_list("state", flat=True)) == {"failed"}
    assert [message.subject for message in mail.outbox] == [
        "An automatic top-up failed",
        "An automatic top-up failed",
        "Automatic top-up was switched off",
    ]
    assert all(message.to == [owner.email] for message in mail.outbox)
    with time_machine.travel(now + timedelta(days=2), tick=False):
        tasks.top_up_automatically()
    assert len(asked(stripe)) == 3
    assert credit_cents(organization) == 500
    proved()


@pytest.mark.parametrize("ready", ["authentication_required"], indirect=True)
def test_the_bank_asks_for_the_cardholder(stripe, ready):
    organization, owner = ready
    tasks.top_up_automatically()
    stripe.deliver()
    rule = AutomaticTopUp.objects.get()
    assert (rule.enabled, rule.needs_authentication, rule.failures) == (True, True, 1)
    assert latest().state == "failed"
    assert [message.subject for message in mail.outbox] == ["Your bank asks you to confirm a payment"]
    assert "/billing/" in mail.outbox[0].body
    buy(stripe, organization, owner, "25", save_card=True)  # there, the cardholder confirms
    rule.refresh_from_db()
    assert (rule.needs_authentication, rule.failures, rule.next_try_at) == (False, 0, None)
    proved()


def test_a_call_without_an_answer_is_asked_again_with_the_same_key(stripe, ready):
    organization, _ = ready
    stripe.fail_next("POST", "/v1/payment_intents", 500)
    tasks.top_up_automatically()
    row = latest()
    assert (row.state, row.payment_intent_id) == ("open", None)
    assert AutomaticTopUp.objects.get().failures == 0
    tasks.ask_again()  # not within the first minute
    assert len(asked(stripe)) == 1
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=2), tick=False):
        tasks.ask_again()
    assert len({request.headers["Idempotency-Key"] for request in asked(stripe)}) == 1
    stripe.deliver()
    assert credit_cents(organization) == 2500
    assert TopUp.objects.filter(source="automatic").count() == 1
    proved()


@pytest.mark.parametrize("status", [0, 500])
def test_the_answer_is_lost_after_stripe_took_the_money(stripe, ready, status):
    """Asking again with the key finds the same payment."""
    organization, _ = ready
    stripe.fail_next("POST", "/v1/payment_intents", status, after=True)
    tasks.top_up_automatically()
    assert latest().payment_intent_id is None
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=2), tick=False):
        tasks.ask_again()
    assert latest().payment_intent_id is not None
    stripe.deliver()
    assert credit_cents(organization) == 2500
    assert len(stripe.every("payment_intent")) == 2
    proved()


def test_a_crash_between_stripes_call_and_our_commit(stripe, ready):
    """The event knows the row by its metadata, whether the row knows the payment or not."""
    organization, _ = ready
    tasks.top_up_automatically()
    TopUp.objects.filter(source="automatic").update(payment_intent_id=None)
    stripe.deliver(twice=True)
    assert latest().state == "paid"
    tasks.ask_again()
    assert credit_cents(organization) == 2500
    assert Transfer.objects.filter(key__startswith="topup:").count() == 2
    proved()


@pytest.mark.parametrize("paid", [True, False])
def test_after_a_day_stripes_own_list_decides(stripe, ready, paid):
    organization, _ = ready
    if not paid:
        stripe.fail_next("POST", "/v1/payment_intents", 500)
    tasks.top_up_automatically()
    TopUp.objects.filter(source="automatic").update(
        payment_intent_id=None, created_at=datetime.now(UTC) - timedelta(hours=26)
    )
    before = len(asked(stripe))
    tasks.ask_again()
    assert len(asked(stripe)) == before  # never sent blindly
    assert latest().state == ("paid" if paid else "failed")
    assert credit_cents(organization) == (2500 if paid else 500)
    stripe.deliver()
    assert credit_cents(organization) == (2500 if paid else 500)
    proved()


def test_it_needs_a_saved_card(stripe):
    organization, owner = shop()
    with pytest.raises(automatic.NoCard):
        configure(organization, owner)
    buy(stripe, organization, owner, "25", save_card=False)
    with pytest.raises(automatic.NoCard):
        configure(organization, owner)
    assert not AutomaticTopUp.objects.exists()


def test_it_is_not_offered_where_tax_needs_the_page(stripe, settings):
    organization, owner = shop()
    buy(stripe, organization, owner, "25", save_card=True)
    settings.STRIPE_TAX = True
    with pytest.raises(automatic.NotOffered):
        configure(organization, owner)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"threshold": "0"}, "threshold"),
        ({"threshold": "-1"}, "threshold"),
        ({"threshold": "20000"}, "threshold"),
        ({"amount": "1"}, "amount"),
        ({"amount": "20.001"}, "amount"),
        ({"monthly_ceiling": "19.99"}, "monthly_ceiling"),
        ({"monthly_ceiling": "9" * 15}, "monthly_ceiling"),
    ],
)
def test_wrong_amounts_name_their_field(stripe, changes, param):
    organization, owner = shop()
    with pytest.raises(InvalidRequest) as refusal:
        configure(organization, owner, **changes)
    assert refusal.value.param == param
    assert not AutomaticTopUp.objects.exists()
    assert stripe.requests == []


def test_a_card_that_is_gone_switches_it_off(stripe, ready):
    organization, _ = ready
    stripe.remove_cards(organization.customer.stripe_id)
    tasks.top_up_automatically()
    rule = AutomaticTopUp.objects.get()
    assert (rule.enabled, rule.stopped_reason) == (False, "There is no saved card any more.")
    assert latest().state == "failed"
    assert asked(stripe) == []


def test_a_newer_card_is_the_one_that_is_asked(stripe, ready):
    organization, _ = ready
    card = stripe.save_card(organization.customer.stripe_id)
    tasks.top_up_automatically()
    assert asked(stripe)[0].params["payment_method"] == card


@pytest.mark.parametrize("paid", [True, False])
def test_switched_off_meanwhile_nothing_is_asked_for_again(stripe, ready, paid):
    """The call was not answered and the customer switched it off: Stripe's list says whether a payment was made."""
    organization, owner = ready
    stripe.fail_next("POST", "/v1/payment_intents", 500, after=paid)
    tasks.top_up_automatically()
    automatic.switch_off(organization=organization, actor=owner)
    before = len(asked(stripe))
    for minutes in (2, 12):
        with time_machine.travel(datetime.now(UTC) + timedelta(minutes=minutes), tick=False):
            tasks.ask_again()
    assert len(asked(stripe)) == before
    assert latest().state == ("paid" if paid else "failed")
    stripe.deliver()
    assert credit_cents(organization) == (2500 if paid else 500)
    proved()
