"""make bench-ledger: reserve + settle pairs a second, beside the least SQL that could do it, in the same run.

The floor is what nobody can go below who writes a journal: for each of the two steps one transaction with a conditional
UPDATE of the account and one INSERT of a posting, over the same connections, on the same server, with fsync on. Rounds of
both alternate, on one hot organization and on a hundred; the medians' ratio is the result. At the end the books are audited.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cango_portal.launcher.servers import Servers, remove

HOLD_MICROUSD = 700
CREDIT_MICROUSD = 10**12
CLIENTS = 8

FLOOR_TABLES = """
CREATE TABLE floor_account (id int PRIMARY KEY, available bigint NOT NULL CHECK (available >= 0), held bigint NOT NULL CHECK (held >= 0));
CREATE TABLE floor_posting (key text PRIMARY KEY, account int NOT NULL, debit text NOT NULL, credit text NOT NULL, amount bigint NOT NULL CHECK (amount > 0), at timestamptz NOT NULL DEFAULT clock_timestamp());
"""
FLOOR_RESERVE = """
WITH posting AS (INSERT INTO floor_posting (key, account, debit, credit, amount) VALUES (%(key)s, %(account)s, 'available', 'held', %(amount)s))
UPDATE floor_account SET available = available - %(amount)s, held = held + %(amount)s WHERE id = %(account)s AND available >= %(amount)s
"""
FLOOR_SETTLE = """
WITH posting AS (INSERT INTO floor_posting (key, account, debit, credit, amount) VALUES (%(key)s, %(account)s, 'held', 'revenue', %(cost)s))
UPDATE floor_account SET available = available + %(amount)s - %(cost)s, held = held - %(amount)s WHERE id = %(account)s
"""


@dataclass(frozen=True, slots=True)
class Result:
    organizations: int
    ledger_pairs_per_second: float
    floor_pairs_per_second: float
    ratio: float
    rounds: list[tuple[float, float]]


def main() -> int:
    options = argparse.ArgumentParser(prog="make bench-ledger", description=__doc__)
    options.add_argument("--seconds", type=float, default=4, help="length of one round")
    options.add_argument("--rounds", type=int, default=5, help="rounds of each kind")
    options.add_argument("--json", type=Path, default=None, help="also write the result here")
    given = options.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="cango-bench-"))
    directory.chmod(0o711)
    servers = Servers(directory)
    try:
        servers.start()
        os.environ |= {
            **servers.environment,
            "DJANGO_SETTINGS_MODULE": "cango_portal.settings",
            "PORTAL_VAR": str(directory),
            "LOG_LEVEL": "WARNING",
        }
        return measure(given.seconds, given.rounds, given.json)
    finally:
        servers.stop()
        remove(directory)


def measure(seconds: float, rounds: int, report: Path | None) -> int:
    import django

    django.setup()
    from django.core.management import call_command

    from apps.ledger import auditing

    call_command("migrate", verbosity=0)
    sys.stdout.write(
        f"{CLIENTS} client processes, {rounds} rounds of {seconds:g} s each, alternating; PostgreSQL with fsync on\n"
        f"{'organizations':>13} {'ledger, pairs/s':>16} {'floor, pairs/s':>15} {'ratio':>6}\n"
    )
    results = []
    for count in (1, 100):
        accounts, floor = opened(count)
        pairs = []
        for _ in range(rounds):
            pairs.append((paced(seconds, ledger_pair, accounts), paced(seconds, floor_pair, floor)))
        ours, least = (statistics.median(column) for column in zip(*pairs, strict=True))
        result = Result(count, round(ours), round(least), round(ours / least, 2), pairs)
        results.append(result)
        sys.stdout.write(f"{count:>13} {ours:>16,.0f} {least:>15,.0f} {result.ratio:>6.2f}\n")
        sys.stdout.flush()
    wrong = list(auditing.audit())
    sys.stdout.write(f"audit of the books afterwards: {len(wrong)} violations\n")
    if report:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(
            json.dumps({"results": [asdict(each) for each in results], "violations": len(wrong)}, indent=2)
        )
    return 1 if wrong else 0


def opened(count: int) -> tuple[list[tuple[uuid.UUID, int]], list[int]]:
    """Organizations with credit and a key's budget, and as many floor accounts."""
    from django.db import connection

    from apps.accounts.models import Organization
    from apps.ledger import budgets
    from apps.ledger import services as ledger

    accounts = []
    for number in range(count):
        organization = Organization.objects.create(name=f"Bench {number}")
        ledger.open_account(organization=organization)
        ledger.deposit(
            organization=organization, microusd=CREDIT_MICROUSD, key=f"bench:{organization.pk}", reason="", actor=""
        )
        accounts.append((organization.pk, budgets.budget_of_key(organization, "bench").pk))
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS floor_account, floor_posting")
        cursor.execute(FLOOR_TABLES)
        cursor.executemany(
            "INSERT INTO floor_account VALUES (%s, %s, 0)", [(number, CREDIT_MICROUSD) for number in range(count)]
        )
    return accounts, list(range(count))


def ledger_pair(connection: Any, account: tuple[uuid.UUID, int], cost: int) -> None:
    from apps.core import sql
    from apps.ledger import statements

    organization, budget = account
    key = f"bench:{uuid.uuid4()}"
    with connection.transaction(), connection.cursor() as cursor:
        sql.run(cursor, statements.reserve(organization, HOLD_MICROUSD, key, (budget,)))
    with connection.transaction(), connection.cursor() as cursor:
        sql.run(cursor, statements.settle(key, cost))


def floor_pair(connection: Any, account: int, cost: int) -> None:
    key = f"bench:{uuid.uuid4()}"
    params = {"account": account, "amount": HOLD_MICROUSD, "cost": cost}
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(FLOOR_RESERVE, {**params, "key": f"reserve:{key}"})
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(FLOOR_SETTLE, {**params, "key": f"settle:{key}"})


def paced(seconds: float, pair: Callable[[Any, Any, int], None], accounts: list[Any]) -> float:
    """Pairs a second over all clients: processes, each with a connection of its own, that take the accounts in turn."""
    import psycopg
    from django.db import connections

    from cango_portal import database

    connections.close_all()
    fork = multiprocessing.get_context("fork")
    barrier, stop, done = fork.Barrier(CLIENTS + 1), fork.Event(), fork.Array("q", CLIENTS)

    def client(number: int) -> None:
        with psycopg.connect(database.conninfo(), autocommit=True) as connection:
            barrier.wait()
            turn = number
            while not stop.is_set():
                pair(connection, accounts[turn % len(accounts)], 100 + turn % HOLD_MICROUSD // 2)
                turn += CLIENTS
                done[number] += 1

    clients = [fork.Process(target=client, args=(number,)) for number in range(CLIENTS)]
    for process in clients:
        process.start()
    barrier.wait()
    began = time.perf_counter()
    time.sleep(seconds)
    stop.set()
    for process in clients:
        process.join()
    if any(process.exitcode for process in clients):
        raise SystemExit("A client failed; its error stands above.")
    pairs: int = sum(done[:])
    return pairs / (time.perf_counter() - began)


if __name__ == "__main__":
    sys.exit(main())
