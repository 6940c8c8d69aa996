"""Two open transactions on one organization, each pair of movements, the first one committed or rolled back."""

import itertools
import threading

import psycopg
import pytest
from django.db import connection, transaction

from apps.ledger import budgets
from apps.ledger import services as ledger
from apps.ledger.models import Hold, Transfer
from apps.ledger.services import InsufficientCredit, PaymentOwed
from cango_portal import database
from tests import make
from tests.ledger.books import balanced

BY = {"reason": "test", "actor": "test"}
MOVEMENTS = {
    "reserve": lambda organization, n: ledger.reserve(organization=organization, microusd=60, key=f"job:{n}"),
    "settle": lambda organization, n: ledger.settle(key="job:open", cost_microusd=15),
    "charge": lambda organization, n: ledger.charge(key="job:open", cost_microusd=15, part="1"),
    "release": lambda organization, n: ledger.release(key="job:open"),
    "deposit": lambda organization, n: ledger.deposit(organization=organization, microusd=50, key="topup", **BY),
    "withdraw": lambda organization, n: ledger.withdraw(organization=organization, microusd=60, key="refund", **BY),
    "claw back": lambda organization, n: ledger.claw_back(organization=organization, microusd=90, key="dispute", **BY),
    "grant": lambda organization, n: ledger.grant(organization=organization, microusd=9, key="gift", **BY),
}


def state(organization):
    return (
        ledger.balance(organization.pk),
        sorted(Transfer.objects.values_list("key", "amount_microusd")),
        sorted(Hold.objects.values_list("key", "state", "credit_charged_microusd", "promotional_charged_microusd")),
        budgets.budget_of_organization(organization).total_used_microusd,
    )


def tried(movement, organization, n):
    try:
        movement(organization, n)
    except (InsufficientCredit, PaymentOwed):
        return


def fresh():
    """$0.0001 free, of which 20 promotional micro-dollars are, and 30 held."""
    from tests import emptying

    with connection.cursor() as cursor:
        cursor.execute(emptying.statements())
    organization = make.organization()
    ledger.deposit(organization=organization, microusd=110, key="start", **BY)
    ledger.grant(organization=organization, microusd=20, key="promotional", **BY)
    ledger.reserve(organization=organization, microusd=30, key="job:open")
    return organization


def in_line(*steps):
    organization = fresh()
    for n, step in steps:
        tried(MOVEMENTS[step], organization, n)
    return state(organization)


def waits(pid: int) -> bool:
    with psycopg.connect(database.conninfo(), autocommit=True) as watcher:
        row = watcher.execute("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone()
    return bool(row and row[0])


@pytest.mark.parametrize("commits", [True, False], ids=["first commits", "first rolls back"])
@pytest.mark.parametrize("first", MOVEMENTS)
def test_two_transactions_come_out_as_if_one_had_waited(transactional_db, first, commits):
    for second, movement in MOVEMENTS.items():
        expected = in_line((1, first), (2, second)) if commits else in_line((2, second))
        organization = fresh()
        pid: list[int] = []
        ready, finished = threading.Event(), threading.Event()
        crashed: list[Exception] = []

        def behind(
            movement=movement, organization=organization, pid=pid, ready=ready, finished=finished, crashed=crashed
        ):
            try:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_backend_pid()")
                    pid.append(cursor.fetchone()[0])
                ready.set()
                tried(movement, organization, 2)
            except Exception as error:
                crashed.append(error)
            finally:
                connection.close()
                ready.set()
                finished.set()

        thread = threading.Thread(target=behind)
        try:
            with transaction.atomic():
                tried(MOVEMENTS[first], organization, 1)
                thread.start()
                ready.wait(10)
                for _ in itertools.count():
                    if finished.is_set() or waits(pid[0]):
                        break
                if not commits:
                    transaction.set_rollback(True)
        finally:
            thread.join(10)
        assert crashed == []
        assert state(organization) == expected, (first, second)
        balanced()
