"""Races on real connections: each thread has its own, and gives it back."""

import threading
from collections.abc import Callable
from typing import Any

from django.db import connection


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
