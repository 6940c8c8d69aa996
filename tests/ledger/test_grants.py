"""Promotional credit: the soonest to expire is spent first, and comes back to where it was taken from."""

from datetime import UTC, datetime, timedelta

import pytest

from apps.ledger import services as ledger
from apps.ledger.models import Grant, Transfer
from apps.ledger.services import InsufficientCredit
from tests import make
from tests.ledger.books import balanced, platform


def given(organization, amount, key, *, days=None):
    expires_at = datetime.now(UTC) + timedelta(days=days) if days is not None else None
    assert ledger.grant(
        organization=organization, microusd=amount, key=key, reason="test", actor="test", expires_at=expires_at
    )


def expire(key):
    Grant.objects.filter(key=key).update(expires_at=datetime.now(UTC) - timedelta(seconds=1))


def remaining():
    return dict(Grant.objects.values_list("key", "remaining_microusd"))


def test_the_soonest_to_expire_is_spent_first_and_paid_credit_last(driver):
    organization = make.organization(credit_microusd=100)
    given(organization, 10, "never")
    given(organization, 20, "late", days=30)
    given(organization, 30, "soon", days=3)
    ledger.reserve(organization=organization, microusd=55, key="job:1")
    assert remaining() == {"never": 5, "late": 0, "soon": 0}
    assert ledger.settle(key="job:1", cost_microusd=40).charged_microusd == 40
    assert remaining() == {"never": 10, "late": 10, "soon": 0}
    ledger.reserve(organization=organization, microusd=25, key="job:2")
    assert ledger.balance(organization.pk) == ledger.Balance(95, 0, 25, 0)
    ledger.release(key="job:2")
    assert ledger.balance(organization.pk) == ledger.Balance(100, 20, 0, 0)
    balanced()


def test_expired_credit_cannot_be_held_before_any_sweep(driver):
    organization = make.organization(credit_microusd=5)
    given(organization, 10, "soon", days=3)
    expire("soon")
    assert ledger.balance(organization.pk).available_microusd == 5
    with pytest.raises(InsufficientCredit, match=r"has \$0.000005 available"):
        ledger.reserve(organization=organization, microusd=6, key="job:1")
    ledger.reserve(organization=organization, microusd=5, key="job:2")
    balanced()


def test_the_sweep_books_what_expired_once(driver):
    organization = make.organization()
    given(organization, 10, "soon", days=3)
    given(organization, 4, "never")
    expire("soon")
    assert ledger.expire_grants() == 10
    assert ledger.expire_grants() == 0
    assert platform("credits_expired") == 10
    assert ledger.balance(organization.pk) == ledger.Balance(0, 4, 0, 0)
    balanced()


def test_a_hold_may_be_charged_after_its_grant_expired_and_the_rest_expires_again(driver):
    organization = make.organization()
    given(organization, 100, "soon", days=3)
    ledger.reserve(organization=organization, microusd=60, key="job:1")
    expire("soon")
    assert ledger.expire_grants() == 40
    assert ledger.settle(key="job:1", cost_microusd=25).charged_microusd == 25
    assert remaining() == {"soon": 35}
    assert ledger.balance(organization.pk).available_microusd == 0
    assert ledger.expire_grants() == 35
    assert platform("credits_expired") == 75
    balanced()


def test_a_grant_with_an_end_given_twice_is_given_once(driver):
    organization = make.organization()
    for expected in (True, False):
        outcome = ledger.grant(
            organization=organization,
            microusd=7,
            key="plan:in_1",
            reason="plan",
            actor="portal",
            expires_at=datetime.now(UTC) + timedelta(days=30),
        )
        assert outcome is expected
    assert Grant.objects.count() == Transfer.objects.count() == 1
    balanced()
