"""Limits and warnings: set by those who pay, seen by all, in force for the next request."""

import re
from datetime import UTC, datetime

import pytest
import time_machine

from apps.accounts.models import AuditEvent
from apps.billing.models import AlertSettings
from apps.keys import services as keys
from apps.ledger import budgets
from apps.ledger import services as ledger
from apps.ledger.models import Budget
from apps.ledger.services import BudgetExceeded
from tests.billing.stories import colleague, shop, spend
from tests.billing.test_pages import browser
from tests.portal.test_pages import assert_clean

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 25, 14, 15, tzinfo=UTC)  # a Wednesday


@pytest.fixture
def place():
    organization, owner = shop(credit_microusd=100_000_000)
    return organization, owner, browser(owner)


def test_limits_of_the_organization_hold_for_the_next_request(place):
    organization, owner, client = place
    assert_clean(client.get("/billing/limits/organization/"))
    answer = client.post("/billing/limits/organization/", {"daily": "$2", "monthly": "1,000.50"})
    assert answer["location"] == "/billing/limits/"
    budget = budgets.budget_of_organization(organization)
    assert (budget.daily_limit_microusd, budget.monthly_limit_microusd) == (2_000_000, 1_000_500_000)
    event = AuditEvent.objects.get(action="limits.changed")
    assert (event.actor, event.organization) == (owner, organization)
    assert event.data["daily_microusd"] == {"from": None, "to": 2_000_000}
    spend(organization, 150, "test:1")
    with pytest.raises(BudgetExceeded):
        ledger.reserve(organization=organization, microusd=500_001, key="test:2")
    html = client.get("/billing/limits/").content.decode()
    assert "$1.50 of $2.00, 75%" in html
    assert "$1.50 of $1,000.50, 0%" in html
    client.post("/billing/limits/organization/", {"daily": "", "monthly": "1000.50"})
    budget.refresh_from_db()
    assert (budget.daily_limit_microusd, budget.monthly_limit_microusd) == (None, 1_000_500_000)


def test_a_limit_that_is_not_offered_stays(place):
    organization, _, client = place
    budgets.set_limits(budgets.budget_of_organization(organization), weekly=5_000_000)
    client.post("/billing/limits/organization/", {"daily": "2"})
    budget = budgets.budget_of_organization(organization)
    assert (budget.daily_limit_microusd, budget.weekly_limit_microusd) == (2_000_000, 5_000_000)
    assert "A week" in client.get("/billing/limits/").content.decode()


def test_the_same_limits_again_are_no_event(place):
    client = place[2]
    for _ in range(2):
        client.post("/billing/limits/organization/", {"daily": "2"})
    assert AuditEvent.objects.filter(action="limits.changed").count() == 1


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("-1", "The amount is negative."),
        ("1.234", "fraction of a cent"),
        ("ten", "not an amount"),
        ("10000001", "too large"),
        ("9" * 400, "too large"),
        ("1\x00", "not an amount"),
    ],
)
def test_what_is_no_limit_names_the_field_and_changes_nothing(place, typed, says):
    organization, _, client = place
    answer = client.post("/billing/limits/organization/", {"daily": "5", "monthly": typed})
    assert answer.status_code == 422
    assert re.search(rf'<a href="#id_monthly">[^<]*{says}', answer.content.decode())
    budget = budgets.budget_of_organization(organization)
    assert (budget.daily_limit_microusd, budget.monthly_limit_microusd) == (None, None)
    assert not AuditEvent.objects.filter(action="limits.changed").exists()


def test_zero_stops_all_new_work(place):
    organization, _, client = place
    client.post("/billing/limits/organization/", {"daily": "0"})
    with pytest.raises(BudgetExceeded):
        ledger.reserve(organization=organization, microusd=1, key="test:1")
    assert "$0.00 of $0.00, 100%" in client.get("/billing/limits/").content.decode()


def test_limits_of_a_member_count_their_pages_and_keys(place):
    organization, _, client = place
    member = colleague(organization, "developer")
    key, secret = keys.issue(organization=organization, name="theirs", user=member)
    url = f"/billing/limits/members/{member.pk}/"
    assert_clean(client.get(url))
    assert client.post(url, {"daily": "1"})["location"] == "/billing/limits/"
    caller = keys.authenticate(secret)
    with pytest.raises(BudgetExceeded):
        ledger.reserve(organization=organization, microusd=1_000_001, key="test:1", budgets=caller.budgets)
    html = client.get("/billing/limits/").content.decode()
    assert member.email in html
    assert "$0.00 of $1.00, 0%" in html
    assert f'href="/keys/{key.pk}/"' in html
    assert client.get("/billing/limits/members/999999/").status_code == 404


def test_the_page_says_when_each_window_begins_anew(place):
    organization, _, client = place
    budgets.set_limits(budgets.budget_of_organization(organization), daily=1, weekly=1, monthly=1)
    Budget.objects.update(day=NOW.date())  # made on the day of this run, which may be later
    with time_machine.travel(NOW, tick=False):
        client = browser(place[1])
        html = client.get("/billing/limits/").content.decode()
    for moment in ("26 Nov, 00:00", "30 Nov, 00:00", "1 Dec, 00:00"):
        assert moment in html


def test_what_was_spent_yesterday_is_not_todays(place):
    client = place[2]
    client.post("/billing/limits/organization/", {"daily": "2"})
    Budget.objects.update(day=datetime(2026, 1, 1, tzinfo=UTC).date(), daily_used_microusd=2_000_000)
    assert "$0.00 of $2.00, 0%" in client.get("/billing/limits/").content.decode()


def test_a_developer_sees_limits_and_changes_none(place):
    organization = place[0]
    developer = colleague(organization, "developer")
    client = browser(developer)
    assert_clean(client.get("/billing/limits/"))
    for url in (
        "/billing/limits/organization/",
        f"/billing/limits/members/{developer.pk}/",
        "/billing/limits/warnings/",
    ):
        assert client.post(url, {"daily": "1", "low_balance": "1"}).status_code == 403
    assert not AlertSettings.objects.exists()
    assert not Budget.objects.filter(daily_limit_microusd__isnull=False).exists()


def test_warnings_are_set(place):
    organization, _, client = place
    assert "below $5.00" in client.get("/billing/limits/").content.decode()
    assert_clean(client.get("/billing/limits/warnings/"))
    assert (
        client.post("/billing/limits/warnings/", {"low_balance": "25", "mail_enabled": "on"})["location"]
        == "/billing/limits/"
    )
    row = AlertSettings.objects.get(organization=organization)
    assert (row.low_balance_microusd, row.mail_enabled) == (25_000_000, True)
    client.post("/billing/limits/warnings/", {"low_balance": "0"})
    row.refresh_from_db()
    assert (row.low_balance_microusd, row.mail_enabled) == (0, False)
    assert "no warning" in client.get("/billing/limits/").content.decode()
    assert client.post("/billing/limits/warnings/", {"low_balance": "-1"}).status_code == 422


@pytest.mark.parametrize("number", ["0", "9" * 19, "9" * 40])
def test_a_member_that_never_was(place, number):
    assert place[2].get(f"/billing/limits/members/{number}/").status_code == 404
