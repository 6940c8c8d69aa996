"""Rate limits: requests, input tokens and output tokens of any 60 seconds, and requests at the same time.

A window is counted in Valkey in slots of a quarter of a second, one hash for each limit; all limits of a request are one
script, so they are exact across processes and a request counts in all of them or in none. A request counts from its
admission, with the most tokens it can read and write; at its end what it did not use comes back. So a limit is never
passed, streams or not.

While Valkey is away each process counts for itself, with its share of every limit (WEB_PROCESSES): together they still
stay below it.
"""

from apps.keys.rates.counting import (
    RENEW_SECONDS,
    UNUSABLE,
    correct,
    correct_async,
    end_async,
    give_back,
    give_back_async,
    look_async,
    renew_async,
    take,
    take_async,
)
from apps.keys.rates.limit import OF, Limit, limits
from apps.keys.rates.window import RateLimited, TooManyAtOnce, Window, headers

__all__ = [
    "OF",
    "RENEW_SECONDS",
    "UNUSABLE",
    "Limit",
    "RateLimited",
    "TooManyAtOnce",
    "Window",
    "correct",
    "correct_async",
    "end_async",
    "give_back",
    "give_back_async",
    "headers",
    "limits",
    "look_async",
    "renew_async",
    "take",
    "take_async",
]
