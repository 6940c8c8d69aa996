from apps.ledger import services as ledger
from tests import make
from tests.ledger.books import balanced
from tests.threads import run_in_threads


def test_one_organizations_holds_end_at_the_same_moment(driver):
    organization = make.organization(credit_microusd=500, promotional_microusd=300)
    for n in range(8):
        ledger.reserve(organization=organization, microusd=100, key=f"job:{n}")
    outcomes = run_in_threads(8, lambda n: ledger.settle(key=f"job:{n}", cost_microusd=10 * n))
    assert sorted(outcome.charged_microusd for outcome in outcomes) == [10 * n for n in range(8)]
    assert ledger.balance(organization.pk).available_microusd == 800 - 280
    balanced()


def test_grants_and_holds_at_the_same_moment(driver):
    organization = make.organization(credit_microusd=20)

    def work(n):
        if n % 2:
            return ledger.reserve(organization=organization, microusd=5, key=f"job:{n}")
        return ledger.grant(organization=organization, microusd=5, key=f"grant:{n}", reason="test", actor="test")

    run_in_threads(8, work)
    balance = ledger.balance(organization.pk)
    assert (balance.available_microusd, balance.held_microusd) == (20, 20)
    balanced()
