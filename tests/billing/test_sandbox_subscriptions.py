"""Subscriptions: periods, prorations, overdue payments, ends."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import stripe as library
import time_machine

from apps.billing.client import client
from apps.billing.sandbox import tasks
from apps.billing.sandbox.refusals import Impossible
from apps.billing.sandbox.subscriptions import month_after
from tests.billing import till
from tests.stripe import Double


def kinds(stripe: Double) -> list[str]:
    return [event["type"] for event in stripe.events()]


def subscribed(stripe: Double, price: str, *, card: str = "pays") -> dict[str, Any]:
    bought = till.subscription_session(till.customer(), price)
    assert stripe.pay(bought.id, card=card)
    return stripe.get(stripe.get(bought.id)["subscription"])


def test_a_subscription_begins_with_its_payment(stripe: Double) -> None:
    price = till.plan(4900, key="team")
    assert client().v1.prices.list({"lookup_keys": ["team"]}).data[0].id == price
    before = len(stripe.events())
    made = subscribed(stripe, price)
    read = client().v1.subscriptions.retrieve(made["id"], {"expand": ["latest_invoice"]})
    item = read["items"].data[0]
    assert (read.status, item.price.id, read.metadata["organization"]) == ("active", price, "o1")
    assert item.current_period_end == month_after(item.current_period_start, anchor=item.current_period_start)
    invoice: Any = read.latest_invoice
    assert (invoice.status, invoice.total, invoice.billing_reason) == ("paid", 4900, "subscription_create")
    assert invoice.parent.subscription_details.subscription == read.id
    assert invoice.lines.data[0].period.end == item.current_period_end
    told = kinds(stripe)[before:]
    assert [kind for kind in told if not kind.startswith(("customer.created", "customer.updated", "payment"))] == [
        "invoice.created",
        "invoice.finalized",
        "charge.succeeded",
        "invoice.paid",
        "invoice.payment_succeeded",
        "customer.subscription.created",
        "checkout.session.completed",
    ]
    assert stripe.balance_cents() == 4900 - 172


def test_a_refused_card_begins_nothing(stripe: Double) -> None:
    bought = till.subscription_session(till.customer(), till.plan(4900, key="team"))
    assert not stripe.pay(bought.id, card="declined")
    assert stripe.get(bought.id)["status"] == "open"
    assert "customer.subscription.created" not in kinds(stripe)
    assert stripe.balance_cents() == 0


def test_the_next_period(stripe: Double) -> None:
    made = subscribed(stripe, till.plan(4900, key="team"))
    end = made["items"]["data"][0]["current_period_end"]
    stripe.advance(made["id"])
    now = stripe.get(made["id"])
    assert now["items"]["data"][0]["current_period_start"] == end
    invoice = stripe.get(now["latest_invoice"])
    assert (invoice["status"], invoice["billing_reason"]) == ("paid", "subscription_cycle")
    assert stripe.balance_cents() == 2 * (4900 - 172)


def test_a_payment_that_fails_is_overdue_until_it_is_paid(stripe: Double) -> None:
    made = subscribed(stripe, till.plan(4900, key="team"), card="pays_once")
    stripe.advance(made["id"])
    invoice = stripe.get(made["id"])["latest_invoice"]
    assert stripe.get(made["id"])["status"] == "past_due"
    assert stripe.get(invoice)["status"] == "open"
    assert kinds(stripe)[-2:] == ["invoice.payment_failed", "customer.subscription.updated"]
    assert not stripe.retry(invoice)
    assert not stripe.pay_invoice(invoice, card="declined")
    assert stripe.pay_invoice(invoice, card="pays")
    assert stripe.get(made["id"])["status"] == "active"
    assert len({charge["payment_intent"] for charge in stripe.every("charge", status="failed")}) == 1
    with pytest.raises(Impossible):
        stripe.pay_invoice(invoice, card="pays")
    assert stripe.balance_cents() == 2 * (4900 - 172)
    stripe.advance(made["id"])
    assert stripe.get(made["id"])["status"] == "active"


def test_the_fourth_failure_ends_it(stripe: Double) -> None:
    made = subscribed(stripe, till.plan(4900, key="team"), card="pays_once")
    stripe.advance(made["id"])
    invoice = stripe.get(made["id"])["latest_invoice"]
    for _ in range(3):
        assert not stripe.retry(invoice)
    assert stripe.get(made["id"])["status"] == "canceled"
    assert kinds(stripe)[-1] == "customer.subscription.deleted"


def test_a_dearer_plan_is_paid_by_the_second(stripe: Double) -> None:
    with time_machine.travel(datetime(2026, 11, 1, tzinfo=UTC), tick=False):
        small, large = till.plan(4900, key="team"), till.plan(19900, key="company")
        made = subscribed(stripe, small)
    item = made["items"]["data"][0]["id"]
    change: Any = {"items": [{"id": item, "price": large}], "proration_behavior": "always_invoice"}
    with time_machine.travel(datetime(2026, 11, 16, tzinfo=UTC), tick=False):
        client().v1.subscriptions.update(made["id"], change)
    now = stripe.get(made["id"])
    assert now["items"]["data"][0]["price"]["id"] == large
    invoice = stripe.get(now["latest_invoice"])
    assert [line["amount"] for line in invoice["lines"]["data"]] == [-2450, 9950]
    assert (invoice["total"], invoice["status"], invoice["billing_reason"]) == (7500, "paid", "subscription_update")
    assert kinds(stripe)[-1] == "customer.subscription.updated"


def test_a_cheaper_plan_leaves_credit_for_the_next_invoice(stripe: Double) -> None:
    with time_machine.travel(datetime(2026, 11, 1, tzinfo=UTC), tick=False):
        small, large = till.plan(4900, key="team"), till.plan(19900, key="company")
        made = subscribed(stripe, large)
    item = made["items"]["data"][0]["id"]
    change: Any = {"items": [{"id": item, "price": small}], "proration_behavior": "always_invoice"}
    with time_machine.travel(datetime(2026, 11, 16, tzinfo=UTC), tick=False):
        client().v1.subscriptions.update(made["id"], change)
        assert stripe.get(made["customer"])["balance"] == -7500
        stripe.advance(made["id"])
    invoice = stripe.get(stripe.get(made["id"])["latest_invoice"])
    assert (invoice["total"], invoice["amount_due"], invoice["status"]) == (4900, 0, "paid")
    assert stripe.get(made["customer"])["balance"] == -2600
    assert len(stripe.every("charge")) == 1


def test_a_refused_change_is_taken_back_where_that_was_asked_for(stripe: Double) -> None:
    small, large = till.plan(4900, key="team"), till.plan(19900, key="company")
    made = subscribed(stripe, small, card="pays_once")
    change: Any = {
        "items": [{"id": made["items"]["data"][0]["id"], "price": large}],
        "proration_behavior": "always_invoice",
        "payment_behavior": "error_if_incomplete",
    }
    before = len(stripe.events())
    with pytest.raises(library.CardError):
        client().v1.subscriptions.update(made["id"], change)
    assert stripe.get(made["id"])["items"]["data"][0]["price"]["id"] == small
    assert len(stripe.events()) == before


def test_prorations_wait_for_the_next_invoice_or_are_left_out(stripe: Double) -> None:
    small, large = till.plan(4900, key="team"), till.plan(19900, key="company")
    for behavior, lines in (("create_prorations", 3), ("none", 1)):
        made = subscribed(stripe, small)
        change: Any = {
            "items": [{"id": made["items"]["data"][0]["id"], "price": large}],
            "proration_behavior": behavior,
        }
        client().v1.subscriptions.update(made["id"], change)
        stripe.advance(made["id"])
        invoice = stripe.get(stripe.get(made["id"])["latest_invoice"])
        assert len(invoice["lines"]["data"]) == lines


def test_ends(stripe: Double) -> None:
    price = till.plan(4900, key="team")
    made = subscribed(stripe, price)
    api = client().v1.subscriptions
    assert api.update(made["id"], {"cancel_at_period_end": True}).cancel_at_period_end is True
    assert api.update(made["id"], {"cancel_at_period_end": False}).cancel_at_period_end is False
    api.update(made["id"], {"cancel_at_period_end": True})
    stripe.advance(made["id"])
    assert stripe.get(made["id"])["status"] == "canceled"
    assert kinds(stripe)[-1] == "customer.subscription.deleted"
    with pytest.raises(library.InvalidRequestError):
        api.cancel(made["id"])
    with pytest.raises(library.InvalidRequestError):
        api.update(made["id"], {"metadata": {"a": "b"}})
    another = subscribed(stripe, price)
    assert api.cancel(another["id"]).status == "canceled"
    assert api.list().data == []
    assert len(api.list({"status": "all"}).data) == 2


def test_a_sandbox_left_alone_goes_on(stripe: Double) -> None:
    made = subscribed(stripe, till.plan(4900, key="team"), card="pays_once")
    till.session()
    tasks.go_on()
    assert stripe.get(made["id"])["status"] == "active"
    with time_machine.travel(datetime.now(UTC) + timedelta(days=32)):
        tasks.go_on()
        assert stripe.get(made["id"])["status"] == "past_due"
    assert [each["status"] for each in stripe.every("checkout.session")] == ["complete", "expired"]
    for days in (36, 40, 44):
        with time_machine.travel(datetime.now(UTC) + timedelta(days=days)):
            tasks.go_on()
    assert stripe.get(made["id"])["status"] == "canceled"


@pytest.mark.parametrize(
    ("start", "following"),
    [("2026-01-31", "2026-02-28"), ("2026-02-28", "2026-03-31"), ("2026-12-15", "2027-01-15")],
)
def test_months_keep_their_day(start: str, following: str) -> None:
    def second(day: str) -> int:
        return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp())

    anchor = second("2026-01-31") if start != "2026-12-15" else second(start)
    assert month_after(second(start), anchor=anchor) == second(following)
