"""Races on real connections: each thread has its own, and gives it back."""

import threading
import time
from collections.abc import Callable
from typing import Any

from django.db import connection, transaction

from apps.core.sql import Plan
from cango_portal import database


def run_in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Call `work(n)` in `count` threads that start together. Returns results, or the exceptions they raised."""
    barrier = threading.Barrier(count)
    outcomes: list[Any] = [None] * count

    def one(n: int) -> None:
        barrier.wait()
        try:
            outcomes[n] = work(n)
        except Exception as error:
            outcomes[n] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def one_after_the_other(first: Plan[Any], second: Plan[Any]) -> list[Any]:
    """Two plans at once: the second begins when the first has written, which commits when the second waits for it."""
    wrote = threading.Event()

    def work(n: int) -> Any:
        with transaction.atomic():
            if n == 1:
                assert wrote.wait(10)
                return database.run(second)
            outcome = database.run(first)
            wrote.set()
            until_somebody_waits()
            return outcome

    return run_in_threads(2, work)


def until_somebody_waits() -> None:
    """Until another transaction waits for a lock; ten seconds at most."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            if cursor.fetchone()[0]:
                return
        time.sleep(0.01)
