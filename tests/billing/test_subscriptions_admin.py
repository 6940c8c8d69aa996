"""Plans are made and listed by staff; once somebody has subscribed, what it costs and includes stays."""

from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from django.urls import reverse

from apps.accounts.models import AuditEvent
from apps.billing.models import Plan, Subscription
from tests import make

FORM = {
    "code": "team",
    "title": "Team",
    "description": "For a team.",
    "price_usd": "99.00",
    "included_usd": "100",
    "reserved_slots": "2",
    "max_open_jobs": "5000",
    "requests_per_minute": "20000",
    "position": "1",
    "listed": "on",
    "staff_reason": "A first plan",
}


@pytest.fixture
def staff(db):
    client = Client()
    client.force_login(make.user(is_staff=True, is_superuser=True))
    return client


def save(staff, plan=None, **changes):
    url = reverse("admin:billing_plan_change", args=[plan.pk]) if plan else reverse("admin:billing_plan_add")
    return staff.post(url, {**FORM, **changes})


@pytest.fixture
def plan(staff):
    assert save(staff).status_code == 302
    return Plan.objects.get()


def test_a_plan_is_entered_in_dollars(plan):
    assert (plan.price_cents, plan.included_microusd, plan.reserved_slots, plan.max_open_jobs) == (
        9_900,
        100_000_000,
        2,
        5_000,
    )
    assert (plan.requests_per_minute, plan.concurrent_requests) == (20_000, None)
    assert AuditEvent.objects.get(action="plan.added").reason == "A first plan"


@pytest.mark.parametrize(
    ("field", "value"),
    [("price_usd", "0"), ("price_usd", "-1"), ("price_usd", "9.999"), ("included_usd", "-1"), ("staff_reason", "")],
)
def test_what_makes_no_sense_is_refused(staff, field, value):
    answer = save(staff, **{field: value})
    assert answer.status_code == 200
    assert field in answer.context["adminform"].form.errors
    assert not Plan.objects.exists()


def test_before_anybody_subscribed_the_price_may_change_and_stripe_gets_a_new_one(staff, plan):
    Plan.objects.update(stripe_price_id="price_old")
    assert save(staff, plan, title="Team, now").status_code == 302
    assert Plan.objects.get().stripe_price_id == "price_old"
    assert save(staff, plan, price_usd="129.50").status_code == 302
    plan.refresh_from_db()
    assert (plan.price_cents, plan.stripe_price_id) == (12_950, "")


def test_afterwards_it_may_not(staff, plan):
    now = datetime.now(UTC)
    Subscription.objects.create(
        organization=make.organization(),
        plan=plan,
        stripe_id="sub_1",
        state="active",
        period_start_at=now,
        period_end_at=now + timedelta(days=30),
    )
    assert save(staff, plan, price_usd="1.00", included_usd="5000", title="Team+", code="other").status_code == 302
    plan.refresh_from_db()
    assert (plan.price_cents, plan.included_microusd, plan.title, plan.code) == (9_900, 100_000_000, "Team+", "team")


def test_staff_publish_a_plan_at_stripe(stripe, staff, plan):
    url = reverse("admin:billing_plan_changelist")
    assert staff.post(
        url, {"action": "publish", "_selected_action": plan.pk, "confirm": "1", "reason": "Ready"}
    ).status_code in (200, 302)
    plan.refresh_from_db()
    price = stripe.get(plan.stripe_price_id)
    assert (price["lookup_key"], price["unit_amount"], price["recurring"]["interval"]) == ("team", 9_900, "month")
