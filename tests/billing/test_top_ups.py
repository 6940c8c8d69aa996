"""From the checkout page to credit, with the real library over HTTP to the double."""

import json
from itertools import permutations

import pytest

from apps.billing import customers, tasks, top_ups
from apps.billing.client import PaymentsAway, client, plain
from apps.billing.models import Customer, Event, Invoice, TopUp
from apps.billing.tax_ids import TaxId
from apps.core.errors import InvalidRequest
from apps.ledger.models import Account, Transfer
from apps.live import bell
from apps.webhooks.models import Message
from tests.billing.stories import (
    buy,
    clearing_microusd,
    credit_cents,
    failed,
    held_cents,
    later,
    nothing_written,
    proved,
    shop,
    start,
    sum_of,
)
from tests.threads import run_in_threads

pytestmark = pytest.mark.django_db(transaction=True)


def test_credit_comes_with_the_event_and_not_before(stripe):
    organization, owner = shop()
    row = start(organization, owner, "25.50")
    assert row.checkout_url
    assert (row.state, row.amount_cents, row.payment_intent_id) == ("open", 2550, None)
    assert row.checkout_session_id.startswith("cs_")
    stripe.pay(row.checkout_session_id)
    assert credit_cents(organization) == 0
    stripe.deliver()
    row.refresh_from_db()
    assert (row.state, row.amount_cents, row.tax_cents, row.failure) == ("paid", 2550, 0, "")
    assert row.payment_intent_id.startswith("pi_")
    assert row.charge_id.startswith("ch_")
    assert row.receipt_url
    assert row.fee_cents > 0
    assert row.ended_at is not None
    assert credit_cents(organization) == 2550
    assert Transfer.objects.get(key=f"topup:{row.payment_intent_id}").amount_microusd == 25_500_000
    assert sum_of("fees") == -row.fee_cents * 10_000
    assert row.invoice == Invoice.objects.get()
    assert (row.invoice.total_cents, row.invoice.organization) == (2550, organization)
    assert not Event.objects.filter(state__in=["waiting", "failed"]).exists()
    proved()


def test_what_stripe_is_asked_for(stripe):
    organization, owner = shop(name="Meridian Foods")
    row = start(organization, owner, "25", save_card=True)
    [made] = stripe.asked("POST", "/v1/checkout/sessions")
    assert made.headers["Idempotency-Key"] == str(row.pk)
    assert made.headers["Stripe-Version"] == "2026-10-28.endive"
    session = plain(client().v1.checkout.sessions.retrieve(row.checkout_session_id))
    assert session["metadata"] == {"organization": str(organization.pk), "top_up": str(row.pk)}
    assert session["client_reference_id"] == str(row.pk)
    assert (session["amount_total"], session["currency"]) == (2500, "usd")
    assert row.public_id in session["success_url"]
    customer = Customer.objects.get()
    assert session["customer"] == customer.stripe_id
    known = plain(client().v1.customers.retrieve(customer.stripe_id))
    assert (known["name"], known["email"]) == ("Meridian Foods", owner.email)


@pytest.mark.parametrize("amount", ["-5", "0", "4.99", "10000.01", "25.001", "9" * 50, "abc", ""])
def test_a_wrong_amount_asks_stripe_nothing(stripe, amount):
    organization, owner = shop()
    with pytest.raises(InvalidRequest) as refusal:
        start(organization, owner, amount)
    assert refusal.value.param == "amount"
    with pytest.raises(InvalidRequest) as refusal:
        start(organization, owner, "25", currency="eur")
    assert refusal.value.param == "currency"
    assert stripe.requests == []
    nothing_written()


def test_deliveries_in_any_order_twice_and_at_once_credit_once(stripe):
    organization, owner = shop()
    row = start(organization, owner)
    stripe.pay(row.checkout_session_id)
    events = stripe.events()
    assert {event["type"] for event in events} >= {"checkout.session.completed", "payment_intent.succeeded"}
    for event in reversed(events):
        stripe.deliver(event, twice=True)
    assert credit_cents(organization) == 2500
    proved()


def test_each_order_of_the_events_of_a_payment(stripe):
    wanted = ("checkout.session.completed", "payment_intent.succeeded")
    for order in permutations(wanted):
        organization, owner = shop()
        row = start(organization, owner)
        stripe.pay(row.checkout_session_id)
        events = {event["type"]: event for event in stripe.events()}
        for kind in order:
            stripe.deliver(events[kind])
        stripe.deliver()
        assert credit_cents(organization) == 2500
        row.refresh_from_db()
        assert row.state == "paid"
    proved()


def test_64_deliveries_of_one_event_at_once_are_one_credit(stripe):
    organization, owner = shop()
    row = start(organization, owner)
    stripe.pay(row.checkout_session_id)
    [event] = [event for event in stripe.events() if event["type"] == "payment_intent.succeeded"]
    run_in_threads(64, lambda n: stripe.deliver(event))
    stripe.deliver()
    assert credit_cents(organization) == 2500
    assert Transfer.objects.filter(key__startswith="topup:").count() == 1
    assert failed() == []
    proved()


def test_workers_at_once_on_all_events_of_many_payments(stripe):
    shops = [shop() for _ in range(4)]
    rows = [start(*of) for of in shops]
    for row in rows:
        stripe.pay(row.checkout_session_id)
    stripe.deliver(handle=False)
    waiting = list(Event.objects.values_list("pk", flat=True))
    run_in_threads(8, lambda n: [tasks.handle_event(pk) for pk in waiting])
    for pk in waiting:
        tasks.handle_event(pk)
    assert [credit_cents(organization) for organization, _ in shops] == [2500] * 4
    assert not Event.objects.filter(state__in=["waiting", "failed"]).exists()
    proved()


def test_a_customer_is_made_once_by_two_at_once(stripe):
    organization, owner = shop()
    made = run_in_threads(4, lambda n: customers.ensure(organization=organization, email=owner.email).stripe_id)
    assert len(set(made)) == 1
    assert Customer.objects.count() == 1
    rows = run_in_threads(4, lambda n: start(organization, owner).pk)
    assert len(set(rows)) == 4


def test_a_page_that_was_not_paid_expires(stripe):
    organization, owner = shop()
    row = start(organization, owner)
    stripe.expire(row.checkout_session_id)
    stripe.deliver()
    row.refresh_from_db()
    assert row.state == "expired"
    assert credit_cents(organization) == 0
    proved()


def test_a_payment_counts_even_where_the_row_had_ended(stripe):
    organization, owner = shop()
    row = start(organization, owner)
    TopUp.objects.filter(pk=row.pk).update(state="expired", ended_at=later())
    stripe.pay(row.checkout_session_id)
    stripe.deliver()
    row.refresh_from_db()
    assert row.state == "paid"
    assert credit_cents(organization) == 2500
    proved()


def test_a_declined_card_leaves_the_page_open_for_another(stripe):
    organization, owner = shop()
    row = start(organization, owner)
    stripe.pay(row.checkout_session_id, card="declined")
    stripe.deliver()
    row.refresh_from_db()
    assert row.state == "open"
    assert row.failure
    assert credit_cents(organization) == 0
    stripe.pay(row.checkout_session_id)
    stripe.deliver()
    row.refresh_from_db()
    assert (row.state, row.failure) == ("paid", "")
    proved()


def test_stripe_away_charges_nothing_and_says_so(stripe):
    organization, owner = shop()
    stripe.fail_next("POST", "/v1/customers", 503)
    with pytest.raises(PaymentsAway):
        start(organization, owner)
    assert not TopUp.objects.exists()
    stripe.fail_next("POST", "/v1/checkout/sessions", 500)
    with pytest.raises(PaymentsAway):
        start(organization, owner)
    row = TopUp.objects.get()
    assert (row.state, row.checkout_session_id) == ("failed", None)
    assert credit_cents(organization) == 0


def test_a_crash_between_stripes_call_and_our_commit(stripe):
    """The page exists, our row does not know it: whoever pays it is credited all the same."""
    organization, owner = shop()
    row = start(organization, owner)
    TopUp.objects.filter(pk=row.pk).update(checkout_session_id=None, checkout_url="")
    stripe.pay(row.checkout_session_id)
    stripe.deliver()
    row.refresh_from_db()
    assert row.state == "paid"
    assert row.checkout_session_id is not None
    assert credit_cents(organization) == 2500
    proved()


def test_an_amount_that_is_not_ours_is_booked_to_nothing(stripe):
    organization, owner = shop()
    row = start(organization, owner)
    stripe.pay(row.checkout_session_id)
    TopUp.objects.filter(pk=row.pk).update(amount_cents=2400)
    stripe.deliver()
    assert any("Stripe holds $25.00" in error and "$24.00" in error for error in failed())
    assert credit_cents(organization) == 0
    assert clearing_microusd() == 0
    row.refresh_from_db()
    assert row.state == "open"


def test_a_payment_for_nobody_is_kept_as_a_failed_event(stripe):
    organization, owner = shop()
    row = start(organization, owner)
    stripe.pay(row.checkout_session_id)
    TopUp.objects.all().delete()
    stripe.deliver()
    errors = failed()
    assert errors
    assert all(f"names top-up {row.pk}, which we do not have" in error for error in errors)
    nothing_written()
    assert held_cents() > 0  # the money is there; the event waits in the admin for staff


def test_a_payment_that_names_another_organization_is_refused(stripe):
    organization, owner = shop()
    other, _ = shop()
    row = start(organization, owner)
    stripe.pay(row.checkout_session_id)
    TopUp.objects.filter(pk=row.pk).update(organization=other)
    stripe.deliver()
    assert any("names another organization" in error for error in failed())
    assert credit_cents(organization) == credit_cents(other) == 0


def test_an_organization_without_an_account_gets_its_credit_when_it_has_one(stripe):
    organization, owner = shop()
    row = start(organization, owner)
    stripe.pay(row.checkout_session_id)
    Account.objects.filter(organization=organization).delete()
    stripe.deliver()
    assert any("has no account" in error for error in failed())
    row.refresh_from_db()
    assert row.state == "open"
    Account.objects.create(organization=organization)
    for event in Event.objects.filter(state="failed"):
        tasks.handle_event(event.pk)
    assert credit_cents(organization) == 2500
    proved()


def test_events_that_never_came_are_fetched_within_the_hour(stripe):
    organization, owner = shop()
    row = start(organization, owner)
    stripe.pay(row.checkout_session_id)
    assert not Event.objects.exists()
    tasks.fetch_missed_events()
    tasks.fetch_missed_events()
    waiting = list(Event.objects.values_list("pk", flat=True))
    assert len(waiting) == len({*waiting}) >= 2
    for pk in waiting:
        tasks.handle_event(pk)
    assert credit_cents(organization) == 2500
    stripe.deliver()
    assert credit_cents(organization) == 2500
    proved()


def test_the_payload_is_believed_in_nothing_but_ids(stripe):
    """A signed event whose snapshot says "paid, a million" moves what Stripe's object says: nothing."""
    organization, owner = shop()
    row = start(organization, owner)
    stripe.expire(row.checkout_session_id)
    [event] = stripe.events("checkout.session.expired")
    event |= {"id": "evt_forged", "type": "checkout.session.completed"}
    event["data"]["object"] |= {"payment_status": "paid", "amount_total": 100_000_000, "status": "complete"}
    assert stripe.post(json.dumps(event)).status_code == 200
    tasks.handle_event("evt_forged")
    assert credit_cents(organization) == 0
    row.refresh_from_db()
    assert row.state == "expired"


@pytest.mark.parametrize("arrives", [True, False])
def test_a_bank_debit_is_credit_when_its_money_arrives(stripe, arrives):
    organization, owner = shop()
    row = start(organization, owner)
    stripe.pay(row.checkout_session_id, card="bank_debit")
    stripe.deliver()
    row.refresh_from_db()
    assert row.state == "open"
    assert credit_cents(organization) == 0
    stripe.arrive(row.payment_intent_id, paid=arrives)
    stripe.deliver(twice=True)
    row.refresh_from_db()
    assert row.state == ("paid" if arrives else "failed")
    assert bool(row.failure) is not arrives
    assert credit_cents(organization) == (2500 if arrives else 0)
    proved()


def test_tax_is_paid_on_top_and_is_no_credit(stripe, settings):
    settings.STRIPE_TAX = True
    organization, owner = shop()
    row = start(organization, owner, "25")
    stripe.pay(row.checkout_session_id, country="DE")
    stripe.deliver()
    row.refresh_from_db()
    assert row.state == "paid"
    assert row.tax_cents > 0
    assert credit_cents(organization) == 2500
    assert sum_of("tax") == row.tax_cents * 10_000
    assert (row.invoice.total_cents, row.invoice.tax_cents) == (row.total_cents, row.tax_cents)
    proved()


def test_the_fee_that_was_not_settled_yet_is_read_later(stripe, monkeypatch):
    organization, owner = shop()
    row = start(organization, owner)
    stripe.pay(row.checkout_session_id)
    monkeypatch.setattr(top_ups, "EXPAND", ["latest_charge"])  # as for a bank debit: only the id is there
    stripe.deliver()
    row.refresh_from_db()
    assert (row.state, row.fee_cents) == ("paid", 0)
    tasks.read_fees()
    tasks.read_fees()
    row.refresh_from_db()
    assert row.fee_cents > 0
    proved()


def test_webhooks_of_the_customer_hear_of_it_once(stripe):
    from apps.webhooks import services as webhooks

    organization, owner = shop()
    webhooks.create(organization=organization, url="https://example.org/hook", event_types=["top_up.paid"], user=owner)
    row = buy(stripe, organization, owner)
    [message] = Message.objects.filter(type="top_up.paid")
    assert message.data["id"] == row.public_id
    assert message.data["amount_cents"] == 2500


def test_open_pages_are_rung_after_the_commit(stripe, valkey):
    organization, owner = shop()
    row = start(organization, owner)
    stripe.pay(row.checkout_session_id)
    with valkey.pubsub() as listener:
        listener.subscribe(bell.CHANNEL)
        stripe.deliver()
        listener.get_message(timeout=1)  # the subscription's own
        heard = json.loads(listener.get_message(timeout=1)["data"])
    assert heard == [f"organization.{organization.pk}", f"topup.{row.public_id}"]


@pytest.mark.parametrize(("tax_id", "known"), [("DE123456789", True), ("123456789", False)])
def test_country_and_tax_id_are_told_to_stripe_which_may_refuse_them(stripe, tax_id, known):
    organization, owner = shop(name="Meridian Foods")
    customers.describe(organization=organization, country="DE", tax_id=TaxId("eu_vat", tax_id))
    customer = customers.ensure(organization=organization, email=owner.email)
    assert customers.ensure(organization=organization) == customer
    read = customers.read(customer.stripe_id)
    assert (read["name"], read["email"], read["address"]["country"]) == ("Meridian Foods", owner.email, "DE")
    told = [{"type": "eu_vat", "value": tax_id}] if known else []
    assert [{"type": each["type"], "value": each["value"]} for each in read["tax_ids"]["data"]] == told
    customer.refresh_from_db()
    assert (customer.country, customer.tax_ids) == ("DE", told)


def test_a_customers_new_address_is_copied_from_stripe(stripe):
    organization, owner = shop()
    customer = customers.ensure(organization=organization, email=owner.email)
    client().v1.customers.update(
        customer.stripe_id, {"name": "Meridian GmbH", "address": {"country": "DE"}, "email": "pay@example.org"}
    )
    stripe.deliver()
    customer.refresh_from_db()
    assert (customer.name, customer.country, customer.email) == ("Meridian GmbH", "DE", "pay@example.org")
    assert customer.refreshed_at is not None


def test_signature_checks_stand_before_everything(stripe):
    organization, owner = shop()
    row = start(organization, owner)
    stripe.pay(row.checkout_session_id)
    stripe.deliver(secret="whsec_wrong")
    assert not Event.objects.exists()
    assert credit_cents(organization) == 0


def test_a_payment_page_that_was_never_known_does_not_stay_open(stripe):
    organization, owner = shop()
    row = TopUp.objects.create(organization=organization, source="checkout", amount_cents=2500, created_by=owner)
    tasks.ask_again()
    row.refresh_from_db()
    assert row.state == "open"
    TopUp.objects.update(created_at=later(hours=-14))
    tasks.ask_again()
    row.refresh_from_db()
    assert row.state == "expired"
