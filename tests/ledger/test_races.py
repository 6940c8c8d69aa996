import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from django.db import connection, transaction
from django.utils import timezone

from apps.ledger import services as ledger
from apps.ledger.models import Grant
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


def test_who_wants_an_account_waits_in_its_queue_not_at_its_row(driver):
    """At the row all who wait are woken by each commit; in the queue one is, in the order they came."""
    paid = make.organization(credit_microusd=1_000)
    owing = make.organization(credit_microusd=100, promotional_microusd=50)
    ledger.reserve(organization=paid, microusd=100, key="job:paid")
    ledger.reserve(organization=owing, microusd=150, key="job:owing")
    ledger.claw_back(organization=owing, microusd=40, key="dispute:1", reason="test", actor="test")
    ledger.release(key="job:owing")  # back to 100 of credit, of which 40 are owed, and 50 of a grant, which then ends
    ended = timezone.now() - timedelta(seconds=1)
    Grant.objects.filter(organization=owing).update(expires_at=ended)
    by = {"reason": "test", "actor": "test"}
    verbs = [
        lambda: ledger.reserve(organization=paid, microusd=10, key="job:1"),
        lambda: ledger.settle(key="job:paid", cost_microusd=60),
        lambda: ledger.deposit(organization=paid, microusd=5, key="topup:1", **by),
        lambda: ledger.withdraw(organization=paid, microusd=7, key="refund:1", **by),
        lambda: ledger.grant(organization=paid, microusd=3, key="grant:1", **by),
        ledger.expire_grants,
        ledger.collect_owed,
        lambda: ledger.reserve(organization=owing, microusd=10, key="job:2"),
    ]
    for verb in verbs:
        with ThreadPoolExecutor(1) as thread:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_advisory_xact_lock(uuid_hash_extended(organization_id, 0)) FROM ledger_account "
                    "WHERE organization_id = ANY (%s) FOR UPDATE",
                    [[paid.pk, owing.pk]],
                )
                outcome = thread.submit(alone, verb)
                deadline = time.monotonic() + 10
                while (waits := waiting()) == [] and time.monotonic() < deadline and not outcome.done():
                    time.sleep(0.005)
                assert waits == ["advisory"]
            outcome.result()
    assert ledger.balance(paid.pk) == ledger.Balance(1_000 - 60 - 10 + 5 - 7, 3, 10, 0)
    assert ledger.balance(owing.pk) == ledger.Balance(50, 0, 10, 0)
    balanced()


def waiting() -> list[str]:
    """The kinds of the locks that somebody waits for in this database."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # what a transaction has seen of the activity it keeps
        cursor.execute(
            "SELECT locktype FROM pg_locks WHERE NOT granted AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())",
        )
        return [kind for (kind,) in cursor.fetchall()]


def alone(verb: Callable[[], object]) -> object:
    """On a connection of this thread's own, given back at the end."""
    try:
        return verb()
    finally:
        connection.close()
