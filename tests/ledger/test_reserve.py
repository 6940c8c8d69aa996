import pytest

from apps.ledger import services as ledger
from apps.ledger.models import Hold, Transfer
from apps.ledger.services import InsufficientCredit
from tests import make
from tests.ledger.books import balanced
from tests.threads import run_in_threads


def test_promotional_credit_is_held_first_and_both_parts_are_remembered(driver):
    organization = make.organization(credit_microusd=100, promotional_microusd=30)
    ledger.reserve(organization=organization, microusd=50, key="job:1")
    assert ledger.balance(organization.pk) == ledger.Balance(80, 0, 50, 0)
    hold = Hold.objects.get()
    assert (hold.promotional_microusd, hold.credit_microusd, hold.state) == (30, 20, "open")
    balanced()


def test_the_last_micro_dollar_can_be_held_and_not_one_more(driver):
    organization = make.organization(credit_microusd=10)
    with pytest.raises(InsufficientCredit) as refused:
        ledger.reserve(organization=organization, microusd=11, key="job:1")
    assert (refused.value.status, refused.value.retryable) == (402, False)
    assert refused.value.message.startswith(
        "This request may cost up to $0.000011; this organization has $0.000010 available."
    )
    assert Hold.objects.count() == 0
    assert Transfer.objects.filter(key__startswith="reserve").count() == 0
    ledger.reserve(organization=organization, microusd=10, key="job:1")
    assert ledger.balance(organization.pk).available_microusd == 0
    balanced()


def test_the_same_key_holds_once(driver):
    organization = make.organization(credit_microusd=10)
    first = ledger.reserve(organization=organization, microusd=4, key="job:1")
    assert ledger.reserve(organization=organization, microusd=4, key="job:1") == first
    assert ledger.balance(organization.pk).held_microusd == 4
    balanced()


def test_settle_charges_promotional_first_and_returns_each_part(driver):
    organization = make.organization(credit_microusd=100, promotional_microusd=30)
    ledger.reserve(organization=organization, microusd=50, key="job:1")
    settlement = ledger.settle(key="job:1", cost_microusd=42)
    assert settlement == ledger.Settlement(charged_microusd=42, returned_microusd=8, overrun_microusd=0)
    assert ledger.balance(organization.pk) == ledger.Balance(88, 0, 0, 0)
    balanced()


def test_a_cost_above_the_hold_is_ours(driver):
    organization = make.organization(credit_microusd=100)
    ledger.reserve(organization=organization, microusd=50, key="job:1")
    settlement = ledger.settle(key="job:1", cost_microusd=61)
    assert settlement == ledger.Settlement(charged_microusd=50, returned_microusd=0, overrun_microusd=11)
    assert ledger.balance(organization.pk).credit_microusd == 50
    assert Transfer.objects.get(debit="house:overrun").amount_microusd == 11
    balanced()


def test_a_hold_ends_once_settled_or_released(driver):
    organization = make.organization(promotional_microusd=100)
    ledger.reserve(organization=organization, microusd=50, key="job:1")
    ledger.settle(key="job:1", cost_microusd=20)
    assert ledger.release(key="job:1") == ledger.Settlement(20, 30, 0, repeated=True)
    assert ledger.settle(key="job:1", cost_microusd=50) == ledger.Settlement(20, 30, 0, repeated=True)
    assert ledger.balance(organization.pk).available_microusd == 80
    balanced()


def test_release_returns_everything_to_where_it_came_from(driver):
    organization = make.organization(credit_microusd=5, promotional_microusd=5)
    ledger.reserve(organization=organization, microusd=7, key="job:1")
    ledger.release(key="job:1")
    assert ledger.balance(organization.pk) == ledger.Balance(5, 5, 0, 0)
    assert Hold.objects.get().state == "released"
    balanced()


def test_an_unknown_hold_is_a_bug(driver):
    with pytest.raises(LookupError):
        ledger.settle(key="job:nobody", cost_microusd=1)


def test_a_grant_with_one_key_is_given_once(driver):
    organization = make.organization()
    for _ in range(2):
        ledger.grant(organization=organization, microusd=7, key="starter", reason="starter credit", actor="portal")
    assert ledger.balance(organization.pk).promotional_microusd == 7
    balanced()


def test_64_threads_on_one_balance_hold_not_one_micro_dollar_too_much(driver):
    organization = make.organization(credit_microusd=100, promotional_microusd=55)
    outcomes = run_in_threads(64, lambda n: ledger.reserve(organization=organization, microusd=3, key=f"job:{n}"))
    assert sum(isinstance(outcome, InsufficientCredit) for outcome in outcomes) == 64 - 51
    assert ledger.balance(organization.pk).held_microusd == 153
    assert ledger.balance(organization.pk).available_microusd == 2
    balanced()


def test_a_race_of_ends_charges_once(driver):
    organization = make.organization(credit_microusd=100)
    ledger.reserve(organization=organization, microusd=60, key="job:1")
    outcomes = run_in_threads(16, lambda n: ledger.settle(key="job:1", cost_microusd=n % 2 * 40))
    assert sum(not outcome.repeated for outcome in outcomes) == 1
    assert len({outcome.charged_microusd for outcome in outcomes}) == 1
    balanced()
