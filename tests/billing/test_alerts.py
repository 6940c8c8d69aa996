"""Warnings of budgets and balances: once each, by mail and webhook, and never lost between the two."""

import smtplib
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.core import mail
from django.db import connection

from apps.billing import alerts, tasks
from apps.billing.models import Alert, AlertSettings
from apps.keys import services as keys
from apps.keys.models import APIKey
from apps.ledger import budgets
from apps.ledger import services as ledger
from apps.ledger.models import Transfer
from apps.webhooks import services as webhooks
from apps.webhooks.models import Message
from tests import make
from tests.billing.stories import colleague, shop
from tests.threads import run_in_threads

USD = 1_000_000


@pytest.fixture
def books(transactional_db):
    """An organization with $1,000 and a monthly limit of $100, and its owner."""
    organization, owner = shop(credit_microusd=1000 * USD)
    budget = budgets.budget_of_organization(organization)
    budgets.set_limits(budget, monthly=100 * USD)
    return organization, owner, budget


def spend(organization, dollars, *, key, **fields):
    ledger.reserve(organization=organization, microusd=dollars * USD, key=key, **fields)
    ledger.settle(key=key, cost_microusd=dollars * USD)


def given(kind="budget"):
    return list(Alert.objects.filter(kind=kind).order_by("pk").values_list("period", "percent"))


def test_half_four_fifths_and_all_once_each(books):
    organization, owner, _ = books
    spend(organization, 49, key="a")
    assert (alerts.look(), given()) == (0, [])
    spend(organization, 1, key="b")
    tasks.warn()
    assert given() == [("monthly", 50)]
    [message] = mail.outbox
    assert (message.subject, message.to) == ("50 % of a spending limit is used", [owner.email])
    assert "The monthly limit of Meridian Foods is $100.00; $50.00 of it is spent" in message.body
    assert f"{settings.BASE_URL}/billing/limits/" in message.body
    spend(organization, 30, key="c")
    tasks.warn()
    tasks.warn()
    spend(organization, 20, key="d")
    tasks.warn()
    tasks.warn()
    assert given() == [("monthly", 50), ("monthly", 80), ("monthly", 100)]
    assert [message.subject for message in mail.outbox[1:]] == [
        "80 % of a spending limit is used",
        "A spending limit is used up",
    ]
    assert Transfer.objects.filter(debit="held", credit="revenue").count() == 4


def test_what_is_only_held_is_not_spent(books):
    organization, *_ = books
    ledger.reserve(organization=organization, microusd=100 * USD, key="job")
    assert alerts.look() == 0
    ledger.charge(key="job", cost_microusd=60 * USD, part="1")  # of a hold that stays open
    assert alerts.look() == 1
    assert Alert.objects.get().spent_microusd == 60 * USD
    ledger.settle(key="job", cost_microusd=0)
    assert alerts.look() == 0
    assert given() == [("monthly", 50)]


def test_past_two_shares_at_once_the_higher_one_warns_alone(books):
    organization, *_ = books
    spend(organization, 95, key="a")
    assert alerts.look() == 1
    assert given() == [("monthly", 80)]
    assert alerts.look() == 0


def test_each_window_and_each_new_limit_warn_anew(books):
    organization, _, budget = books
    budgets.set_limits(budget, daily=10 * USD, total=50 * USD)
    spend(organization, 5, key="a")
    assert alerts.look() == 1
    assert given() == [("daily", 50)]
    budgets.set_limits(budget, daily=8 * USD, total=50 * USD)
    assert alerts.look() == 1
    assert alerts.look() == 0
    with connection.cursor() as cursor:  # the day is over
        cursor.execute("UPDATE ledger_budget SET day = day - 1")
        cursor.execute("UPDATE ledger_hold SET day = day - 1")
        cursor.execute('UPDATE billing_alert SET "window" = "window" - 1')
    assert alerts.look() == 0
    spend(organization, 4, key="b")
    assert alerts.look() == 1
    assert given() == [("daily", 50)] * 3


def test_a_total_limit_warns_once_for_ever(books):
    organization, _, budget = books
    budgets.set_limits(budget, total=10 * USD)
    spend(organization, 5, key="a")
    assert alerts.look() == 1
    with connection.cursor() as cursor:
        cursor.execute("UPDATE ledger_budget SET day = day - 400")
        cursor.execute("UPDATE ledger_hold SET day = day - 400")
    assert alerts.look() == 0
    spend(organization, 5, key="b")
    assert alerts.look() == 1
    assert given() == [("total", 50), ("total", 100)]


def test_who_is_told(books):
    organization, owner, _ = books
    billing, developer = colleague(organization, "billing"), colleague(organization, "developer")
    gone = make.user(is_active=False)
    organization.memberships.create(user=gone, role="owner")
    secret = keys.issue(organization=organization, name="sync", user=developer)[1]
    assert secret
    key = APIKey.objects.select_related("budget").get(name="sync")
    member = budgets.budget_of_member(organization, developer)
    budgets.set_limits(budgets.budget_of_organization(organization))
    budgets.set_limits(key.budget, daily=10 * USD)
    budgets.set_limits(member, weekly=10 * USD)
    spend(organization, 8, key="a", budgets=[key.budget_id, member.pk])
    tasks.warn()
    everyone = sorted([owner.email, billing.email, developer.email])
    assert [message.to[0] for message in mail.outbox] == [*everyone, *everyone]
    bodies = " ".join(message.body for message in mail.outbox)
    assert "API key “sync”" in bodies
    assert f"the member {developer.email}" in bodies
    organization.memberships.filter(user=developer).delete()
    spend(organization, 2, key="b", budgets=[key.budget_id])
    tasks.warn()
    assert [message.to[0] for message in mail.outbox[6:]] == sorted([owner.email, billing.email])


def test_webhooks_are_told_with_the_row(books):
    organization, owner, _ = books
    webhooks.create(organization=organization, url="https://hooks.example.com/", event_types=[], user=owner)
    spend(organization, 50, key="a")
    alerts.look()
    spend(organization, 50, key="b")
    alerts.look()
    alerts.look()
    told = list(Message.objects.order_by("created_at").values_list("type", "key", "data"))
    first, last = Alert.objects.order_by("pk")
    assert [(kind, key) for kind, key, _ in told] == [
        ("budget.threshold_reached", f"alert:{first.pk}"),
        ("budget.exhausted", f"alert:{last.pk}"),
    ]
    assert told[0][2] == {
        "budget": {"kind": "organization", "title": ""},
        "period": "monthly",
        "percent": 50,
        "limit_microusd": 100 * USD,
        "spent_microusd": 50 * USD,
        "window_starts_on": datetime.now(UTC).date().replace(day=1).isoformat(),
    }


def test_a_low_balance_warns_once_for_each_fall(transactional_db):
    organization, owner = shop(credit_microusd=6 * USD)
    assert alerts.look() == 0
    spend(organization, 1, key="a")  # exactly at the threshold
    assert alerts.look() == 0
    spend(organization, 1, key="b")
    tasks.warn()
    tasks.warn()
    [message] = mail.outbox
    assert (message.subject, message.to) == ("The balance is low", [owner.email])
    assert "Meridian Foods has $4.00 left, less than the $5.00" in message.body
    ledger.deposit(organization=organization, microusd=2 * USD, key="t", reason="t", actor="t")
    tasks.warn()
    spend(organization, 2, key="c")
    tasks.warn()
    tasks.warn()
    assert Alert.objects.filter(kind="balance").count() == len(mail.outbox) == 2


def test_a_hold_neither_lowers_nor_raises_it(transactional_db):
    organization, _ = shop(credit_microusd=6 * USD)
    ledger.reserve(organization=organization, microusd=6 * USD, key="job")
    assert alerts.look() == 0
    ledger.settle(key="job", cost_microusd=2 * USD)
    assert alerts.look() == 1
    ledger.reserve(organization=organization, microusd=3 * USD, key="next")
    ledger.release(key="next")
    assert alerts.look() == 0


def test_the_threshold_is_the_organizations_own_and_zero_never_warns(transactional_db):
    organization, _ = shop(credit_microusd=20 * USD)
    AlertSettings.objects.create(organization=organization, low_balance_microusd=15 * USD)
    spend(organization, 6, key="a")
    assert alerts.look() == 1
    other, _ = shop(credit_microusd=20 * USD)
    AlertSettings.objects.create(organization=other, low_balance_microusd=0)
    spend(other, 20, key="b")
    assert alerts.look() == 0


def test_what_was_never_above_the_threshold_warns_of_nothing(transactional_db):
    shop()
    starter, _ = shop(promotional_microusd=5 * USD)
    spend(starter, 1, key="a")
    assert alerts.look() == 0
    ledger.deposit(organization=starter, microusd=10 * USD, key="t", reason="t", actor="t")
    alerts.look()
    spend(starter, 10, key="b")
    assert alerts.look() == 1


def test_expired_credit_counts_as_gone(transactional_db):
    organization, _ = shop(credit_microusd=4 * USD)
    ledger.grant(
        organization=organization,
        microusd=4 * USD,
        key="g",
        reason="t",
        actor="t",
        expires_at=datetime.now(UTC) + timedelta(days=1),
    )
    assert alerts.look() == 0
    with connection.cursor() as cursor:
        cursor.execute("UPDATE ledger_grant SET expires_at = clock_timestamp() - interval '1 second' WHERE key = 'g'")
    assert alerts.look() == 1
    assert Alert.objects.get().spent_microusd == 4 * USD


def test_mail_can_be_switched_off_and_webhooks_still_come(books):
    organization, owner, _ = books
    AlertSettings.objects.create(organization=organization, mail_enabled=False)
    webhooks.create(organization=organization, url="https://hooks.example.com/", event_types=[], user=owner)
    spend(organization, 80, key="a")
    tasks.warn()
    assert mail.outbox == []
    assert Message.objects.count() == 1
    assert Alert.objects.get().sent_at is not None


def test_a_mail_server_that_is_away_delays_the_mail_and_loses_none(books, monkeypatch):
    organization, *_ = books
    spend(organization, 80, key="a")

    def away(*args, **kwargs):
        raise smtplib.SMTPServerDisconnected("gone")

    with monkeypatch.context() as outage:
        outage.setattr("django.core.mail.backends.locmem.EmailBackend.send_messages", away)
        tasks.warn()
    assert mail.outbox == []
    assert Alert.objects.get().sent_at is None
    tasks.warn()
    assert len(mail.outbox) == 1
    assert Alert.objects.get().sent_at is not None
    tasks.warn()
    assert len(mail.outbox) == 1


def test_a_crash_between_the_row_and_its_mail_mails_later(books):
    organization, *_ = books
    spend(organization, 80, key="a")
    alerts.look()  # and the worker dies
    assert mail.outbox == []
    tasks.warn()
    assert len(mail.outbox) == 1


def test_many_workers_warn_once(books):
    organization, *_ = books
    spend(organization, 100, key="a")
    spent, _ = shop(credit_microusd=6 * USD)
    spend(spent, 2, key="b")

    def work(n):
        alerts.look()
        return alerts.send()

    assert sum(run_in_threads(8, work)) == 2
    assert Alert.objects.count() == 2
    assert len(mail.outbox) == 2
