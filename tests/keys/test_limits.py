"""Limits of a key: set when it is made, shown with what is spent, changed by those who pay."""

import re

import pytest
from django.test import Client

from apps.accounts.models import AuditEvent, Membership
from apps.core.ids import uuid7
from apps.keys import figures, services
from apps.keys.models import APIKey, RateLimit
from apps.ledger import services as ledger
from apps.ledger.models import Budget
from apps.ledger.services import BudgetExceeded
from tests import make
from tests.portal.test_pages import assert_clean


@pytest.fixture
def owner(db):
    user = make.user()
    user.organization = make.organization(owner=user, credit_microusd=100_000_000)
    return user


def browser(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


def member(organization, role):
    user = make.user()
    Membership.objects.create(organization=organization, user=user, role=role)
    return user


def test_a_key_has_its_limits_from_the_first_request_on(owner):
    client = browser(owner)
    client.post(
        "/keys/new/",
        {"name": "sync", "scopes": ["inference"], "total": "10", "daily": "$1.50", "weekly": "", "monthly": "5"},
    )
    key = APIKey.objects.select_related("budget").get()
    budget = key.budget
    assert (budget.total_limit_microusd, budget.daily_limit_microusd) == (10_000_000, 1_500_000)
    assert (budget.weekly_limit_microusd, budget.monthly_limit_microusd) == (None, 5_000_000)
    with pytest.raises(BudgetExceeded):
        ledger.reserve(organization=owner.organization, microusd=1_500_001, key="test:1", budgets=[budget.pk])
    ledger.reserve(organization=owner.organization, microusd=1_200_000, key="test:2", budgets=[budget.pk])
    page = client.get(f"/keys/{key.pk}/")
    assert_clean(page)
    assert "$1.20 of $1.50, 80%" in page.content.decode()
    assert "A day: $1.20 of $1.50" in client.get("/keys/").content.decode()
    assert_clean(client.get("/keys/new/"))


@pytest.mark.parametrize(
    ("typed", "says"),
    [("-1", "negative"), ("0.001", "fraction of a cent"), ("x", "not an amount"), ("9" * 99, "too large")],
)
def test_a_wrong_limit_makes_no_key(owner, typed, says):
    answer = browser(owner).post("/keys/new/", {"name": "sync", "scopes": ["inference"], "daily": typed})
    assert answer.status_code == 422
    assert re.search(rf'<a href="#id_daily">[^<]*{says}', answer.content.decode())
    assert not APIKey.objects.exists()
    assert not Budget.objects.filter(kind="key").exists()


@pytest.mark.parametrize("role", ["owner", "billing"])
def test_those_who_pay_change_limits(owner, role):
    key, _ = services.issue(organization=owner.organization, name="sync", user=owner)
    user = owner if role == "owner" else member(owner.organization, role)
    client = browser(user)
    assert client.post(f"/keys/{key.pk}/", {"monthly": "20"})["location"] == f"/keys/{key.pk}/"
    key.budget.refresh_from_db()
    assert key.budget.monthly_limit_microusd == 20_000_000
    assert AuditEvent.objects.get(action="limits.changed").actor == user
    wrong = client.post(f"/keys/{key.pk}/", {"monthly": "-1"})
    assert wrong.status_code == 422
    assert b"No limit was changed." in wrong.content
    key.budget.refresh_from_db()
    assert key.budget.monthly_limit_microusd == 20_000_000


def test_a_developer_sees_a_key_and_changes_no_limit(owner):
    key, _ = services.issue(organization=owner.organization, name="sync", user=owner)
    client = browser(member(owner.organization, "developer"))
    page = client.get(f"/keys/{key.pk}/")
    assert_clean(page)
    assert b"Save limits" not in page.content
    refused = client.post(f"/keys/{key.pk}/", {"monthly": "20"})
    assert refused.status_code == 403
    assert b"billing role" in refused.content
    assert not Budget.objects.filter(monthly_limit_microusd__isnull=False).exists()


def test_a_revoked_key_has_no_form(owner):
    key, _ = services.issue(organization=owner.organization, name="sync", user=owner)
    services.revoke(key=key, user=owner)
    client = browser(owner)
    assert b"Save limits" not in client.get(f"/keys/{key.pk}/").content
    assert client.post(f"/keys/{key.pk}/", {"monthly": "20"}).status_code == 302
    assert not Budget.objects.filter(monthly_limit_microusd__isnull=False).exists()


@pytest.mark.parametrize("method", ["get", "post"])
def test_keys_of_another_organization_do_not_exist(owner, method):
    other = make.user()
    key, _ = services.issue(organization=make.organization(owner=other), name="theirs", user=other)
    assert getattr(browser(owner), method)(f"/keys/{key.pk}/", {"monthly": "1"}).status_code == 404
    assert getattr(browser(owner), method)(f"/keys/{uuid7()}/").status_code == 404
    assert getattr(Client(), method)(f"/keys/{key.pk}/")["location"].startswith("/login/")
    assert not Budget.objects.filter(monthly_limit_microusd__isnull=False).exists()


def test_rate_limits_are_set_and_changed_on_the_pages(owner):
    client = browser(owner)
    client.post(
        "/keys/new/", {"name": "sync", "scopes": ["inference"], "requests_per_minute": "600", "concurrent_requests": ""}
    )
    key = APIKey.objects.get()
    assert figures.of(key) == {
        "requests_per_minute": 600,
        "input_tokens_per_minute": None,
        "output_tokens_per_minute": None,
        "concurrent_requests": None,
    }
    assert AuditEvent.objects.get(action="api_key.issued").data["requests_per_minute"] == 600
    page = client.get(f"/keys/{key.pk}/change/")
    assert_clean(page)
    assert 'name="requests_per_minute" value="600"' in page.content.decode()
    sent = {"name": "sync", "scopes": ["inference"], "requests_per_minute": "600", "output_tokens_per_minute": "90000"}
    assert client.post(f"/keys/{key.pk}/change/", sent)["location"] == f"/keys/{key.pk}/"
    RateLimit.objects.create(
        organization=owner.organization, api_key=key, model=make.model(name="acme/chat"), concurrent_requests=2
    )
    shown = client.get(f"/keys/{key.pk}/")
    assert_clean(shown)
    assert (
        "600 requests a minute, 90,000 output tokens a minute; 2 requests at the same time, for the model acme/chat"
        in shown.content.decode()
    )
    changed = AuditEvent.objects.get(action="api_key.changed")
    assert (changed.actor, changed.data["changed"]) == (
        owner,
        {"output_tokens_per_minute": {"from": None, "to": 90_000}},
    )


@pytest.mark.parametrize("typed", ["0", "-1", "1.5", "x", "1000000001"])
def test_a_wrong_rate_limit_changes_nothing(owner, typed):
    key, _ = services.issue(organization=owner.organization, name="sync", user=owner)
    sent = {"name": "new", "scopes": ["inference"], "requests_per_minute": typed}
    answer = browser(owner).post(f"/keys/{key.pk}/change/", sent)
    assert answer.status_code == 422
    assert (
        '<a href="#id_requests_per_minute">Enter a whole number from 1 to 1,000,000,000, or leave it empty.</a>'
        in answer.content.decode()
    )
    key.refresh_from_db()
    assert key.name == "sync"
    assert not RateLimit.objects.exists()
    assert not AuditEvent.objects.filter(action="api_key.changed").exists()
