"""A plan's payment that goes back: by a refund in Stripe's dashboard, or by the cardholder's bank."""

import pytest

from apps.billing import plans, tasks
from apps.billing.client import client
from apps.billing.models import Dispute, Event, Invoice, Plan, Refund
from tests.billing.stories import credit_cents, failed, owed_cents, proved, shop, sum_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def paid(stripe, settings):
    """A plan of $99.00 with German tax, paid at Stripe; no event was delivered yet."""
    settings.STRIPE_TAX = True
    plan = Plan.objects.create(code="team", title="Team", price_cents=9_900, max_open_jobs=10)
    organization, owner = shop(credit_microusd=30_000_000)
    plans.subscribe(organization, plan, owner)
    [session] = stripe.every("checkout.session", status="open")
    assert stripe.pay(session["id"], country="DE")
    [intent] = stripe.every("payment_intent")
    return organization, intent["id"]


@pytest.mark.parametrize("refund_first", [False, True])
def test_a_refund_in_the_dashboard_takes_revenue_and_its_tax_back(stripe, paid, refund_first):
    organization, intent = paid
    half = stripe.get(intent)["amount"] // 2
    if not refund_first:
        stripe.deliver()
    client().v1.refunds.create({"payment_intent": intent, "amount": half})
    events = sorted(stripe.events(), key=lambda event: not event["type"].startswith("refund."))
    for event in events:
        stripe.deliver(event, twice=True)
    stripe.deliver()
    for event in Event.objects.filter(state="failed"):  # the refund waited for its invoice
        assert refund_first
        assert "neither a top-up nor a paid invoice" in event.error
        tasks.handle_event(event.pk)
    assert failed() == []
    invoice = Invoice.objects.get()
    tax = half * invoice.tax_cents // invoice.total_cents
    assert invoice.tax_cents > 0
    assert sum_of("revenue") == (invoice.subtotal_cents - (half - tax)) * 10_000
    assert sum_of("tax") == (invoice.tax_cents - tax) * 10_000
    assert credit_cents(organization) == 3000
    assert not Refund.objects.exists()  # those are of top-ups
    proved()


@pytest.mark.parametrize("won", [True, False])
def test_a_dispute_takes_credit_and_the_rest_is_owed(stripe, paid, won):
    organization, intent = paid
    stripe.deliver()
    dispute = stripe.dispute(intent)
    stripe.deliver(twice=True)
    assert (credit_cents(organization), owed_cents(organization)) == (0, 9_900 - 3_000)
    assert sum_of("tax") == 0
    stripe.close_dispute(dispute, won=won)
    stripe.deliver(twice=True)
    assert Dispute.objects.get().state == ("won" if won else "lost")
    assert (credit_cents(organization), owed_cents(organization)) == ((3_000, 0) if won else (0, 6_900))
    assert failed() == []
    proved()
