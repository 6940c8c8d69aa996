"""Limits of the organization, a member and a key hold as the balance does: to the micro-dollar, in UTC windows."""

from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from apps.ledger import budgets
from apps.ledger import services as ledger
from apps.ledger.models import Budget, Hold, Transfer
from apps.ledger.services import BudgetExceeded
from apps.ledger.statements import window_end, window_start
from tests import make
from tests.ledger.books import balanced
from tests.threads import run_in_threads


@pytest.fixture
def spender(driver):
    organization = make.organization(credit_microusd=1_000_000)
    key = budgets.budget_of_key(organization, "catalog sync")
    member = budgets.budget_of_member(organization, make.user(email="mia@example.org"))
    return organization, key, member


def passed(*, days: int) -> None:
    """As if `days` had gone by since everything was written."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE ledger_budget SET day = day - %s", [days])
        cursor.execute("UPDATE ledger_hold SET day = day - %s", [days])


@pytest.mark.parametrize("period", budgets.PERIODS)
@pytest.mark.parametrize("whose", ["organization", "key", "member"])
def test_each_limit_of_each_spender_stops_at_its_last_micro_dollar(spender, period, whose):
    organization, key, member = spender
    limited = {"organization": budgets.budget_of_organization(organization), "key": key, "member": member}[whose]
    budgets.set_limits(limited, **{period: 100})
    ledger.reserve(organization=organization, microusd=60, key="job:1", budgets=[key.pk, member.pk])
    with pytest.raises(BudgetExceeded) as refused:
        ledger.reserve(organization=organization, microusd=41, key="job:2", budgets=[key.pk, member.pk])
    named = {
        "organization": "the organization",
        "key": "the API key “catalog sync”",
        "member": "the member “mia@example.org”",
    }
    assert f"the {period} limit of {named[whose]} leaves $0.000040" in refused.value.message
    assert (refused.value.status, refused.value.reason, refused.value.retryable) == (402, "budget_exceeded", False)
    assert Hold.objects.count() == 1
    assert Transfer.objects.filter(key__startswith="reserve:job:2").count() == 0
    ledger.reserve(organization=organization, microusd=40, key="job:3", budgets=[key.pk, member.pk])
    balanced()


def test_what_a_hold_returns_can_be_spent_again(spender):
    organization, key, _ = spender
    budgets.set_limits(key, daily=100)
    ledger.reserve(organization=organization, microusd=100, key="job:1", budgets=[key.pk])
    ledger.settle(key="job:1", cost_microusd=30)
    ledger.reserve(organization=organization, microusd=70, key="job:2", budgets=[key.pk])
    ledger.release(key="job:2")
    key.refresh_from_db()
    assert key.daily_used_microusd == key.total_used_microusd == 30
    balanced()


def test_an_overrun_is_ours_and_counts_in_no_budget(spender):
    organization, key, _ = spender
    ledger.reserve(organization=organization, microusd=10, key="job:1", budgets=[key.pk])
    ledger.settle(key="job:1", cost_microusd=25)
    key.refresh_from_db()
    assert key.total_used_microusd == 10
    balanced()


def test_a_window_begins_anew_by_date(spender):
    organization, key, _ = spender
    budgets.set_limits(key, daily=100)
    ledger.reserve(organization=organization, microusd=100, key="job:1", budgets=[key.pk])
    passed(days=1)
    ledger.reserve(organization=organization, microusd=100, key="job:2", budgets=[key.pk])
    key.refresh_from_db()
    assert (key.daily_used_microusd, key.total_used_microusd) == (100, 200)
    balanced()


def test_a_hold_of_a_window_that_is_over_gives_nothing_to_the_new_one(spender):
    organization, key, _ = spender
    ledger.reserve(organization=organization, microusd=100, key="job:1", budgets=[key.pk])
    passed(days=40)
    budgets.set_limits(key, daily=50, weekly=50, monthly=50)
    ledger.reserve(organization=organization, microusd=50, key="job:2", budgets=[key.pk])
    ledger.release(key="job:1")
    key.refresh_from_db()
    used = [getattr(key, f"{period}_used_microusd") for period in budgets.PERIODS]
    assert used == [50, 50, 50, 50]
    with pytest.raises(BudgetExceeded):
        ledger.reserve(organization=organization, microusd=1, key="job:3", budgets=[key.pk])
    balanced()


def test_a_clock_that_jumped_ahead_does_not_turn_a_window_back(spender):
    organization, key, _ = spender
    Budget.objects.filter(pk=key.pk).update(day=date.today() + timedelta(days=3))
    budgets.set_limits(key, daily=100)
    ledger.reserve(organization=organization, microusd=100, key="job:1", budgets=[key.pk])
    with pytest.raises(BudgetExceeded):
        ledger.reserve(organization=organization, microusd=1, key="job:2", budgets=[key.pk])
    ledger.release(key="job:1")
    key.refresh_from_db()
    assert key.daily_used_microusd == 0


def test_a_limit_below_what_is_used_stops_new_work_only(spender):
    organization, key, _ = spender
    ledger.reserve(organization=organization, microusd=100, key="job:1", budgets=[key.pk])
    budgets.set_limits(key, total=10)
    ledger.settle(key="job:1", cost_microusd=90)
    with pytest.raises(BudgetExceeded) as refused:
        ledger.reserve(organization=organization, microusd=1, key="job:2", budgets=[key.pk])
    assert "leaves $0.000000. " in refused.value.message
    budgets.set_limits(key)
    ledger.reserve(organization=organization, microusd=1, key="job:3", budgets=[key.pk])
    balanced()


def test_the_tightest_limit_is_named(spender):
    organization, key, member = spender
    budgets.set_limits(budgets.budget_of_organization(organization), daily=90)
    budgets.set_limits(key, monthly=50)
    budgets.set_limits(member, weekly=70)
    with pytest.raises(BudgetExceeded, match="monthly limit of the API key"):
        ledger.reserve(organization=organization, microusd=100, key="job:1", budgets=[key.pk, member.pk])


def test_a_strangers_budget_is_not_taken_from(spender):
    organization, _, _ = spender
    other = make.organization()
    theirs = budgets.budget_of_key(other, "theirs")
    ledger.reserve(organization=organization, microusd=10, key="job:1", budgets=[theirs.pk])
    theirs.refresh_from_db()
    assert theirs.total_used_microusd == 0
    assert theirs.pk not in Hold.objects.get().budget_ids


def test_64_threads_on_one_key_spend_not_one_micro_dollar_above_its_limit(spender):
    organization, key, member = spender
    budgets.set_limits(key, daily=100)

    def spend(n):
        ledger.reserve(organization=organization, microusd=3, key=f"job:{n}", budgets=[key.pk, member.pk])
        return ledger.settle(key=f"job:{n}", cost_microusd=n % 4)

    outcomes = run_in_threads(64, spend)
    charged = sum(outcome.charged_microusd for outcome in outcomes if isinstance(outcome, ledger.Settlement))
    assert all(isinstance(outcome, ledger.Settlement | BudgetExceeded) for outcome in outcomes)
    key.refresh_from_db()
    assert key.daily_used_microusd == charged <= 100
    balanced()


def test_one_limit_in_two_threads_of_two_keys(spender):
    """Two keys of one member race for the member's last cents: nobody passes it, nobody waits for the other forever."""
    organization, key, member = spender
    second = budgets.budget_of_key(organization, "second")
    budgets.set_limits(member, monthly=50)
    outcomes = run_in_threads(
        32,
        lambda n: ledger.reserve(
            organization=organization,
            microusd=4,
            key=f"job:{n}",
            budgets=[member.pk, key.pk] if n % 2 else [second.pk, member.pk],
        ),
    )
    assert sum(isinstance(outcome, BudgetExceeded) for outcome in outcomes) == 32 - 12
    balanced()


@given(st.dates(date(2020, 1, 1), date(2040, 12, 31)), st.sampled_from(["daily", "weekly", "monthly"]))
def test_windows_follow_one_another(day, period):
    start, end = window_start(period, day), window_end(period, day)
    assert start <= day < end
    assert window_start(period, end) == end
    assert window_start(period, end - timedelta(days=1)) == start
    assert start.weekday() == 0 if period == "weekly" else start.day == 1 or period == "daily"


def test_what_a_page_shows_of_a_budget(db):
    organization = make.organization(credit_microusd=100)
    budget = budgets.budget_of_organization(organization)
    budgets.set_limits(budget, daily=80)
    Budget.objects.filter(pk=budget.pk).update(day=date(2026, 11, 30), daily_used_microusd=5, monthly_used_microusd=7)
    budget.refresh_from_db()
    shown = {each.period: each for each in budgets.windows(budget, datetime(2026, 11, 30, 23, 59, tzinfo=UTC))}
    assert (shown["daily"].used_microusd, shown["daily"].left_microusd) == (5, 75)
    assert shown["daily"].ends_at == shown["monthly"].ends_at == datetime(2026, 12, 1, tzinfo=UTC)
    assert shown["weekly"].ends_at == datetime(2026, 12, 7, tzinfo=UTC)
    assert (shown["total"].ends_at, shown["total"].left_microusd) == (None, None)
    later = {each.period: each for each in budgets.windows(budget, datetime(2026, 12, 1, tzinfo=UTC))}
    assert (later["daily"].used_microusd, later["monthly"].used_microusd) == (0, 0)


def test_a_member_with_a_long_address_has_a_budget(db):
    user = make.user(email=f"{'m' * 64}@{'e' * 60}.{'e' * 60}.example")
    budget = budgets.budget_of_member(make.organization(owner=user), user)
    assert (budget.title, len(budget.title)) == (user.email[:120], 120)
