"""Money that comes and goes: payments, refunds, disputes, corrections. Every movement happens once per key."""

import pytest

from apps.ledger import services as ledger
from apps.ledger.models import Transfer
from apps.ledger.services import InsufficientCredit, PaymentOwed
from tests import make
from tests.ledger.books import balanced, platform
from tests.threads import run_in_threads

BY = {"reason": "test", "actor": "test"}


def test_a_deposit_counts_once(driver):
    organization = make.organization()
    outcomes = run_in_threads(
        16, lambda n: ledger.deposit(organization=organization, microusd=500, key="topup:pi_1", **BY)
    )
    assert sorted(outcomes) == [False] * 15 + [True]
    assert ledger.balance(organization.pk) == ledger.Balance(500, 0, 0, 0)
    assert platform("stripe_clearing") == -500
    balanced()


def test_a_withdrawal_takes_free_paid_credit_or_nothing(driver):
    organization = make.organization(credit_microusd=100, promotional_microusd=1000)
    ledger.reserve(organization=organization, microusd=1040, key="job:1")
    with pytest.raises(InsufficientCredit):
        ledger.withdraw(organization=organization, microusd=61, key="refund:1", **BY)
    assert Transfer.objects.filter(key__startswith="refund").count() == 0
    assert ledger.withdraw(organization=organization, microusd=60, key="refund:1", **BY) is True
    assert ledger.withdraw(organization=organization, microusd=60, key="refund:1", **BY) is False
    assert ledger.balance(organization.pk) == ledger.Balance(0, 0, 1040, 0)
    balanced()


def test_a_dispute_takes_free_credit_and_the_rest_is_owed(driver):
    organization = make.organization(credit_microusd=100, promotional_microusd=30)
    ledger.reserve(organization=organization, microusd=70, key="job:1")
    for first in (True, False):
        assert ledger.claw_back(organization=organization, microusd=100, key="dispute:1:out", **BY) is first
    assert ledger.balance(organization.pk) == ledger.Balance(0, 0, 70, 40)
    assert platform("disputes") == 100
    balanced()
    with pytest.raises(PaymentOwed) as refused:
        ledger.reserve(organization=organization, microusd=0, key="job:2")
    assert (refused.value.status, refused.value.reason) == (402, "payment_owed")
    assert "$0.000040 of it had been spent" in refused.value.message
    # Work that runs ends as always; what comes back pays what is owed.
    ledger.settle(key="job:1", cost_microusd=10)
    assert ledger.balance(organization.pk) == ledger.Balance(40, 20, 0, 40)
    assert ledger.collect_owed() == 40
    assert ledger.collect_owed() == 0
    assert ledger.balance(organization.pk) == ledger.Balance(0, 20, 0, 0)
    ledger.reserve(organization=organization, microusd=20, key="job:3")
    balanced()


def test_a_dispute_of_what_was_all_spent_is_all_owed_and_repeats_nothing(driver):
    organization = make.organization()
    for first in (True, False):
        assert ledger.claw_back(organization=organization, microusd=100, key="dispute:1:out", **BY) is first
    assert ledger.balance(organization.pk) == ledger.Balance(0, 0, 0, 100)
    balanced()


def test_a_payment_pays_what_is_owed_first(driver):
    organization = make.organization()
    ledger.claw_back(organization=organization, microusd=70, key="dispute:1:out", **BY)
    ledger.deposit(organization=organization, microusd=50, key="topup:pi_1", **BY)
    assert ledger.balance(organization.pk) == ledger.Balance(0, 0, 0, 20)
    ledger.deposit(organization=organization, microusd=50, key="dispute:1:back", source="disputes", **BY)
    assert ledger.balance(organization.pk) == ledger.Balance(30, 0, 0, 0)
    balanced()


def test_a_post_moves_between_platform_accounts_only(driver):
    organization = make.organization()
    fee = {"debit": "fees", "credit": "stripe_clearing", "microusd": 30, "key": "fee:txn_1", **BY}
    assert ledger.post(organization=organization, **fee) is True
    assert ledger.post(organization=organization, **fee) is False
    assert (platform("fees"), platform("stripe_clearing")) == (-30, 30)
    with pytest.raises(ValueError, match="credit is not an account of the platform"):
        ledger.post(organization=organization, **{**fee, "credit": "credit", "key": "fee:txn_2"})
    assert Transfer.objects.count() == 1
    balanced()


@pytest.mark.parametrize("microusd", [0, -1, 1.5])
def test_an_amount_is_a_positive_integer(driver, microusd):
    organization = make.organization(credit_microusd=10)
    for verb in (ledger.deposit, ledger.withdraw, ledger.claw_back, ledger.grant):
        with pytest.raises(ValueError, match="positive integer"):
            verb(organization=organization, microusd=microusd, key="k", **BY)
    assert Transfer.objects.count() == 1
    balanced()


def test_an_organization_without_an_account_gets_nothing(driver):
    from apps.accounts.models import Organization

    nobody = Organization.objects.create(name="Nobody")
    for verb in (ledger.deposit, ledger.withdraw, ledger.claw_back, ledger.grant):
        with pytest.raises(LookupError):
            verb(organization=nobody, microusd=10, key="k", **BY)
    with pytest.raises(InsufficientCredit):
        ledger.reserve(organization=nobody, microusd=0, key="job:1")
    assert Transfer.objects.count() == 0


def test_parts_of_a_hold_are_charged_while_it_stays_open(driver):
    organization = make.organization(credit_microusd=100, promotional_microusd=30)
    ledger.reserve(organization=organization, microusd=80, key="batch:1")
    assert ledger.charge(key="batch:1", cost_microusd=20, part="0001") == ledger.Settlement(20, 0, 0)
    assert ledger.charge(key="batch:1", cost_microusd=20, part="0001") == ledger.Settlement(20, 0, 0, repeated=True)
    assert ledger.charge(key="batch:1", cost_microusd=25, part="0002") == ledger.Settlement(25, 0, 0)
    assert ledger.balance(organization.pk) == ledger.Balance(50, 0, 35, 0)
    balanced()
    assert ledger.release(key="batch:1") == ledger.Settlement(0, 35, 0)
    assert ledger.balance(organization.pk) == ledger.Balance(85, 0, 0, 0)
    assert ledger.charge(key="batch:1", cost_microusd=5, part="0003").repeated
    assert platform("revenue") == 45
    balanced()


def test_parts_never_charge_more_than_the_hold(driver):
    organization = make.organization(credit_microusd=100)
    ledger.reserve(organization=organization, microusd=50, key="batch:1")
    outcomes = run_in_threads(16, lambda n: ledger.charge(key="batch:1", cost_microusd=5, part=f"{n}"))
    assert sum(outcome.charged_microusd for outcome in outcomes) == 50
    assert sum(outcome.overrun_microusd for outcome in outcomes) == 30
    ledger.settle(key="batch:1", cost_microusd=0)
    assert ledger.balance(organization.pk) == ledger.Balance(50, 0, 0, 0)
    balanced()


def test_a_part_needs_a_short_name(driver):
    for part in ("", "x" * 25):
        with pytest.raises(ValueError, match="1 to 24 characters"):
            ledger.charge(key="batch:1", cost_microusd=1, part=part)
