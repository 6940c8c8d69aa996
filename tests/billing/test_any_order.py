"""The whole story of a shop, its events told in orders that Stripe never promised not to use."""

import random

import pytest

from apps.billing import refunds
from apps.billing.models import Dispute, Event, Refund, TopUp
from apps.ledger.models import Transfer
from tests.billing.stories import buy, credit_cents, failed, owed_cents, proved, shop, spend, start, sum_of
from tests.threads import run_in_threads

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def story(stripe):
    """Bought $25 (booked), spent $20, gave $2 back; then, undelivered: $40 more, a refund by the dashboard of $10 of it, a
    dispute of the first payment, which was won, and of the second, still open."""
    organization, owner = shop()
    first = buy(stripe, organization, owner, "25")
    spend(organization, 2000, "job:1")
    refunds.request(top_up=first, amount="2", actor=owner)
    second = start(organization, owner, "40")
    stripe.pay(second.checkout_session_id)
    intent = stripe.get(second.checkout_session_id)["payment_intent"]
    client_refund(intent, 1000)
    stripe.close_dispute(stripe.dispute(first.payment_intent_id), won=True)
    stripe.dispute(intent)
    return organization


def client_refund(intent: str, cents: int) -> None:
    from apps.billing.client import client

    client().v1.refunds.create({"payment_intent": intent, "amount": cents})


def ended_as_told(organization) -> None:
    """25 − 20 − 2 = 3; + 40 − 10 by the dashboard = 33; the first dispute is back; the second took 30."""
    assert failed() == []
    assert (credit_cents(organization), owed_cents(organization)) == (300, 0)
    assert sorted(TopUp.objects.values_list("state", flat=True)) == ["paid", "paid"]
    assert sorted(Refund.objects.values_list("amount_cents", "state")) == [(200, "succeeded"), (1000, "succeeded")]
    assert sorted(Dispute.objects.values_list("state", "amount_cents")) == [("open", 3000), ("won", 2300)]
    assert sum_of("refunds") == sum_of("disputes") == 0
    assert sum_of("revenue") == 20_000_000
    proved()


@pytest.mark.parametrize("seed", range(6))
def test_shuffled_and_repeated(stripe, story, seed):
    chance = random.Random(seed)
    events = stripe.events()
    told = events + chance.choices(events, k=len(events) // 2)
    chance.shuffle(told)
    for event in told:
        stripe.deliver(event, twice=chance.random() < 0.2)
    ended_as_told(story)
    before = Transfer.objects.count()
    for event in Event.objects.all():  # and once more after the end, as a replay by hand
        Event.objects.filter(pk=event.pk).update(state="waiting")
        stripe.deliver(event.pk)
    assert Transfer.objects.count() == before
    ended_as_told(story)


def test_eight_workers_at_once(stripe, story):
    from apps.billing import tasks

    stripe.deliver(handle=False)
    waiting = list(Event.objects.filter(state="waiting").values_list("pk", flat=True))

    def work(n: int) -> None:
        mine = waiting[:]
        random.Random(n).shuffle(mine)
        for event_id in mine:
            tasks.handle_event(event_id)

    assert run_in_threads(8, work) == [None] * 8
    for event_id in waiting:  # what another worker's lock put off
        tasks.handle_event(event_id)
    ended_as_told(story)
