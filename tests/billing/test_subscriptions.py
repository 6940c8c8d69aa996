"""Plans from Stripe's checkout page to their end: what is paid, what is given, and when it counts."""

import json
import random
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings as django_settings
from django.core import mail

from apps.accounts.models import AuditEvent
from apps.billing import alerts, entitlements, plans, subscriptions, tasks, top_ups
from apps.billing.client import PaymentsAway
from apps.billing.models import Event, Invoice, Plan, Subscription
from apps.billing.plans import HasPlan
from apps.billing.subscriptions import NoPlan, NotPaid
from apps.core.errors import InvalidRequest
from apps.ledger import services as ledger
from apps.ledger.models import Grant, Transfer
from cango_portal import database
from tests.billing.stories import buy, clearing_microusd, failed, proved, shop, sum_of

NOW = datetime.now(UTC)
TEAM_FEE, BUSINESS_FEE = 317, 1477  # 2.9 % and 30 cents of $99 and $499


@pytest.fixture
def offered(db):
    team = Plan.objects.create(
        code="team",
        title="Team",
        price_cents=9_900,
        included_microusd=100_000_000,
        reserved_slots=2,
        max_open_jobs=5_000,
    )
    business = Plan.objects.create(
        code="business",
        title="Business",
        price_cents=49_900,
        included_microusd=550_000_000,
        reserved_slots=10,
        max_open_jobs=50_000,
        position=1,
    )
    return team, business


def open_page(stripe, organization, plan, owner):
    url = plans.subscribe(organization, plan, owner)
    [session] = [each for each in stripe.every("checkout.session", status="open") if each["url"] == url]
    return session["id"]


def subscribe(stripe, plan, *, card="4242424242424242"):
    organization, owner = shop()
    assert stripe.pay(open_page(stripe, organization, plan, owner), card=card)
    stripe.deliver()
    assert failed() == []
    return organization, owner


def row(organization):
    return Subscription.objects.select_related("plan", "kept_plan").get(organization=organization)


def entitled(organization, now=None):
    return database.run(entitlements.of(organization.pk, now or datetime.now(UTC))).title


def promotional(organization):
    return ledger.balance(organization.pk).promotional_microusd


def test_a_paid_plan_begins_with_the_event_and_not_before(stripe, offered):
    team, _ = offered
    organization, owner = shop()
    session = open_page(stripe, organization, team, owner)
    assert stripe.pay(session)
    assert not Subscription.objects.exists()
    assert not Transfer.objects.exists()
    stripe.deliver()
    assert failed() == []
    mine = row(organization)
    told = stripe.get(mine.stripe_id)
    item = told["items"]["data"][0]
    assert (mine.plan, mine.state, mine.cancel_at_period_end, mine.past_due_since) == (team, "active", False, None)
    assert (mine.period_start_at.timestamp(), mine.period_end_at.timestamp()) == (
        item["current_period_start"],
        item["current_period_end"],
    )
    [invoice] = Invoice.objects.filter(organization=organization)
    assert (invoice.state, invoice.total_cents, invoice.tax_cents) == ("paid", 9_900, 0)
    assert invoice.charge_id.startswith("ch_")
    assert sum_of("revenue") == 99_000_000
    assert sum_of("fees") == -TEAM_FEE * 10_000
    [grant] = Grant.objects.all()
    assert (grant.key, grant.amount_microusd) == (f"plan:{invoice.stripe_id}", 100_000_000)
    assert grant.expires_at == mine.period_end_at
    assert promotional(organization) == 100_000_000
    assert entitled(organization) == "Team"
    proved()


def test_a_page_that_is_not_paid_leaves_nothing(stripe, offered):
    organization, owner = shop()
    session = open_page(stripe, organization, offered[0], owner)
    assert not stripe.pay(session, card="declined")
    stripe.deliver()
    assert failed() == []
    assert not Subscription.objects.exists()
    assert not Transfer.objects.exists()
    assert entitled(organization) == "Pay as you go"


def test_clicked_twice_is_one_page_and_publishing_is_done_once(stripe, offered):
    team, _ = offered
    organization, owner = shop()
    first, second = (plans.subscribe(organization, team, owner) for _ in range(2))
    assert first == second
    team.refresh_from_db()
    assert stripe.get(team.stripe_price_id)["lookup_key"] == "team"
    Plan.objects.filter(pk=team.pk).update(stripe_price_id="")  # a crash before it was written
    again = plans.publish(Plan.objects.get(pk=team.pk))
    assert again.stripe_price_id == team.stripe_price_id
    assert len(stripe.every("price")) == len(stripe.every("product")) == 1


def test_a_price_changed_before_anybody_subscribed_is_made_anew(stripe, offered):
    team, _ = offered
    old = plans.publish(team).stripe_price_id
    Plan.objects.filter(pk=team.pk).update(stripe_price_id="", price_cents=12_900)
    new = plans.publish(Plan.objects.get(pk=team.pk)).stripe_price_id
    assert new != old
    assert (stripe.get(new)["unit_amount"], stripe.get(new)["lookup_key"]) == (12_900, "team")
    assert stripe.get(old)["lookup_key"] is None


def test_who_has_a_plan_changes_it_and_who_has_none_cannot(stripe, offered):
    team, business = offered
    organization, owner = subscribe(stripe, team)
    with pytest.raises(HasPlan):
        plans.subscribe(organization, business, owner)
    other, stranger = shop()
    for act in (subscriptions.cancel, subscriptions.resume):
        with pytest.raises(NoPlan):
            act(other, stranger)
    with pytest.raises(NoPlan):
        subscriptions.change(other, team, stranger)
    Plan.objects.filter(pk=business.pk).update(listed=False)
    with pytest.raises(InvalidRequest):
        subscriptions.change(organization, Plan.objects.get(pk=business.pk), owner)
    with pytest.raises(InvalidRequest):
        plans.subscribe(other, Plan.objects.get(pk=business.pk), stranger)
    assert len(stripe.every("subscription")) == 1


def test_stripe_away_opens_no_page(stripe, offered):
    organization, owner = shop()
    plans.publish(offered[0])
    stripe.fail_next("POST", "/v1/checkout/sessions", 500)
    with pytest.raises(PaymentsAway):
        plans.subscribe(organization, offered[0], owner)
    assert stripe.every("checkout.session") == []


@pytest.mark.parametrize("seed", range(3))
def test_events_in_any_order_and_twice_come_out_the_same(stripe, offered, seed):
    team, _ = offered
    organization, owner = shop()
    stripe.pay(open_page(stripe, organization, team, owner))
    made = stripe.every("subscription")[0]
    stripe.advance(made["id"])
    events = stripe.events()
    random.Random(seed).shuffle(events)
    for event in events:
        stripe.deliver(event, twice=True)
    for event in events:  # what failed in that order is tried again
        Event.objects.filter(pk=event["id"], state="failed").update(state="waiting")
        stripe.deliver(event)
    assert failed() == []
    assert row(organization).state == "active"
    assert (
        row(organization).period_end_at.timestamp() == stripe.get(made["id"])["items"]["data"][0]["current_period_end"]
    )
    assert sum_of("revenue") == 2 * 99_000_000
    assert sorted(Grant.objects.values_list("amount_microusd", flat=True)) == [100_000_000, 100_000_000]
    assert Grant.objects.values("expires_at").distinct().count() == 2
    proved()


def test_a_dearer_plan_begins_at_once_and_the_rest_of_the_month_is_paid(stripe, offered):
    team, business = offered
    organization, owner = subscribe(stripe, team)
    changed = subscriptions.change(organization, business, owner)
    assert (changed.plan, changed.kept_plan) == (business, None)
    assert entitled(organization) == "Business"
    assert AuditEvent.objects.get(action="plan.changed").data == {"from": "team", "to": "business"}
    stripe.deliver()
    assert failed() == []
    paid = sum_of("revenue")
    assert 99_000_000 + 399_000_000 <= paid <= 99_000_000 + 400_000_000  # a moment of the month is over
    assert promotional(organization) == 100_000_000  # more credit comes with the next month
    proved()
    stripe.advance(changed.stripe_id)
    stripe.deliver()
    assert failed() == []
    assert sum_of("revenue") == paid + 499_000_000
    assert promotional(organization) == 650_000_000
    proved()


def test_a_dearer_plan_that_is_not_paid_changes_nothing(stripe, offered):
    team, business = offered
    organization, owner = subscribe(stripe, team, card="pays_once")
    before = stripe.get(row(organization).stripe_id)
    with pytest.raises(NotPaid):
        subscriptions.change(organization, business, owner)
    stripe.deliver()
    assert stripe.get(before["id"])["items"] == before["items"]
    assert (row(organization).plan, row(organization).state) == (team, "active")
    assert sum_of("revenue") == 99_000_000
    proved()


def test_a_cheaper_plan_is_billed_from_the_next_month_and_what_was_paid_stays(stripe, offered):
    team, business = offered
    organization, owner = subscribe(stripe, business)
    changed = subscriptions.change(organization, team, owner)
    stripe.deliver()
    assert (changed.plan, changed.kept_plan, changed.kept_until) == (team, business, changed.period_end_at)
    assert entitled(organization) == "Business"
    assert entitled(organization, changed.period_end_at) == "Team"
    assert sum_of("revenue") == 499_000_000
    back = subscriptions.change(organization, business, owner)  # changed their mind: that month is paid
    stripe.deliver()
    assert (back.plan, back.kept_plan) == (business, None)
    assert sum_of("revenue") == 499_000_000
    subscriptions.change(organization, team, owner)
    stripe.advance(back.stripe_id)
    stripe.deliver()
    assert failed() == []
    mine = row(organization)
    assert (mine.plan, mine.kept_plan, mine.kept_until) == (team, None, None)
    assert sum_of("revenue") == 499_000_000 + 99_000_000
    assert promotional(organization) == 650_000_000
    proved()


def test_cancelled_it_stays_to_the_end_of_the_month_and_can_be_resumed(stripe, offered):
    organization, owner = subscribe(stripe, offered[0])
    assert subscriptions.cancel(organization, owner).cancel_at_period_end
    assert subscriptions.cancel(organization, owner).cancel_at_period_end
    assert not subscriptions.resume(organization, owner).cancel_at_period_end
    ending = subscriptions.cancel(organization, owner)
    stripe.deliver()
    assert entitled(organization) == "Team"
    assert entitled(organization, ending.period_end_at) == "Pay as you go"
    stripe.advance(ending.stripe_id)
    stripe.deliver()
    assert failed() == []
    assert row(organization).state == "ended"
    assert entitled(organization) == "Pay as you go"
    assert sum_of("revenue") == 99_000_000
    proved()
    stripe.pay(open_page(stripe, organization, offered[1], owner))  # and back, with another plan
    stripe.deliver()
    assert failed() == []
    assert (row(organization).state, row(organization).plan) == ("active", offered[1])
    stripe.deliver(stripe.every("event", type="customer.subscription.deleted")[0], twice=True)
    assert row(organization).state == "active"
    proved()


def test_an_overdue_payment_leaves_the_plan_for_the_grace_period_and_says_so(stripe, offered, time_machine):
    organization, owner = subscribe(stripe, offered[0], card="pays_once")
    stripe.advance(row(organization).stripe_id)
    stripe.deliver()
    assert failed() == []
    overdue = row(organization)
    assert overdue.state == "past_due"
    assert promotional(organization) == 100_000_000  # of the month that was paid
    [unpaid] = Invoice.objects.filter(state="open")
    assert entitled(organization) == "Team"
    alerts.look()
    assert alerts.send() == 1
    assert (mail.outbox[0].subject, mail.outbox[0].to) == ("The payment for your plan failed", [owner.email])
    assert "Team plan of Meridian Foods" in mail.outbox[0].body
    grace = timedelta(days=django_settings.SUBSCRIPTION_GRACE_DAYS)
    assert entitled(organization, overdue.past_due_since + grace - timedelta(seconds=1)) == "Team"
    time_machine.move_to(overdue.past_due_since + grace + timedelta(seconds=1), tick=True)
    assert entitled(organization) == "Pay as you go"
    for _ in range(2):
        alerts.look()
        alerts.send()
    assert [message.subject for message in mail.outbox[1:]] == ["Your plan has ended"]
    assert stripe.pay_invoice(unpaid.stripe_id, card="4242424242424242")
    stripe.deliver()
    assert failed() == []
    assert (row(organization).state, row(organization).past_due_since) == ("active", None)
    assert entitled(organization) == "Team"
    assert sum_of("revenue") == 2 * 99_000_000
    proved()


def test_tax_is_booked_apart(stripe, offered, settings):
    settings.STRIPE_TAX = True
    organization, owner = shop()
    stripe.pay(open_page(stripe, organization, offered[0], owner), country="DE")
    stripe.deliver()
    assert failed() == []
    [invoice] = Invoice.objects.all()
    assert invoice.tax_cents > 0
    assert invoice.total_cents == 9_900 + invoice.tax_cents
    assert sum_of("revenue") == 99_000_000
    assert sum_of("tax") == invoice.tax_cents * 10_000
    proved()


def test_a_top_ups_invoice_is_linked_and_booked_by_its_payment_alone(stripe, offered):
    organization, owner = shop()
    top_up = buy(stripe, organization, owner, "25.00")
    assert top_up.invoice.total_cents == 2_500
    assert sum_of("revenue") == 0
    assert not Grant.objects.exists()
    assert clearing_microusd() == -(2_500 - 103) * 10_000
    proved()


def test_a_second_subscription_is_not_booked_over_the_first(stripe, offered):
    """Two pages open at once, and both paid: staff see it."""
    organization, owner = shop()
    pages = [open_page(stripe, organization, plan, owner) for plan in offered]
    for page in pages:
        assert stripe.pay(page)
    stripe.deliver()
    assert row(organization).plan == offered[0]
    assert any("second plan" in error for error in failed())
    proved()  # the money that came is booked all the same


def test_a_customer_of_somebody_else_is_ignored(stripe, offered):
    organization, owner = shop()
    stripe.pay(open_page(stripe, organization, offered[0], owner))
    organization.customer.delete()
    stripe.deliver()
    assert failed() == []
    assert not Subscription.objects.exists()
    assert not Transfer.objects.exists()
    assert set(Event.objects.filter(type__startswith="invoice.").values_list("state", flat=True)) == {"ignored"}


def test_an_invoice_paid_tells_the_customers_webhooks(stripe, offered, monkeypatch):
    told = []
    monkeypatch.setattr("apps.billing.subscriptions.webhooks.notify", lambda **fields: told.append(fields))
    subscribe(stripe, offered[0])
    assert {each["key"] for each in told} == {f"invoice:{Invoice.objects.get().stripe_id}:paid"}
    assert json.dumps(told[0]["data"])
    assert told[0]["data"]["total_cents"] == 9_900


def test_the_fee_of_an_invoice_that_was_not_settled_yet_is_read_later(stripe, offered, monkeypatch):
    team, _ = offered
    monkeypatch.setattr(top_ups, "EXPAND", ["latest_charge"])  # as for a bank debit: only the id is there
    organization, _ = subscribe(stripe, team)
    [invoice] = Invoice.objects.filter(organization=organization)
    assert (invoice.fee_cents, sum_of("fees"), promotional(organization)) == (None, 0, 100_000_000)
    tasks.read_fees()
    tasks.read_fees()
    invoice.refresh_from_db()
    assert (invoice.fee_cents, sum_of("fees")) == (TEAM_FEE, -TEAM_FEE * 10_000)
    proved()


def test_a_dearer_plan_than_the_one_that_is_paid_goes_by_way_of_that_one(stripe, offered):
    """Stripe would count the difference from the cheaper plan, and charge for the month that is paid a second time."""
    team, business = offered
    largest = Plan.objects.create(code="largest", title="Largest", price_cents=60_000, max_open_jobs=1, position=2)
    organization, owner = subscribe(stripe, business)
    subscriptions.change(organization, team, owner)
    with pytest.raises(InvalidRequest, match="Change back to Business first"):
        subscriptions.change(organization, largest, owner)
    assert row(organization).plan == team
    subscriptions.change(organization, business, owner)
    subscriptions.change(organization, largest, owner)
    stripe.deliver()
    assert failed() == []
    [difference] = [
        each["amount_paid"] for each in stripe.every("invoice") if each["amount_paid"] != business.price_cents
    ]
    assert difference <= 60_000 - 49_900
    proved()
