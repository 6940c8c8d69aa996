"""What a limit has counted, said in headers and in refusals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from apps.core.errors import PortalError
from apps.keys import figures
from apps.keys.rates.limit import Limit

METRICS = ("requests", "input_tokens", "output_tokens", "concurrent")
WORDS = tuple(figures.WORDS.values())


@dataclass(frozen=True, slots=True)
class Window:
    """What a limit has counted. `reset_ms`: until it is whole again, if nothing more comes."""

    limit: Limit
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    reset_ms: int = 0
    concurrent: int = 0

    @property
    def used(self) -> tuple[int, ...]:
        return self.requests, self.input_tokens, self.output_tokens, self.concurrent


class RateLimited(PortalError):
    """A limit has no room for this request. It counts in none of them, and nothing was accepted."""

    code, status, type = "rate_limit_exceeded", 429, "requests"

    def __init__(self, message: str, *, windows: Sequence[Window], type: str, wait_ms: int | None) -> None:
        super().__init__(message, retry_after_ms=wait_ms)
        self.windows = windows
        self.type = type  # type: ignore[misc]  # "requests" or "tokens", as the official API says
        if wait_ms is None:
            self.retryable = False  # type: ignore[misc]  # it never fits


class TooManyAtOnce(RateLimited):
    code = "concurrent_requests_exceeded"


def refusal(
    windows: Sequence[Window], window: Window, metric: int, asked: tuple[int, int, int], wait_ms: int
) -> RateLimited:
    limit, used = window.limit.figures[metric], window.used[metric]
    if METRICS[metric] == "concurrent":
        return TooManyAtOnce(
            f"{window.limit.whose} may have {limit:,} {WORDS[metric]}, and {used:,} are running. Nothing was accepted "
            "or charged. Try again when one has ended.",
            windows=windows,
            type="requests",
            wait_ms=wait_ms,
        )
    needed = asked[metric]
    begins = f"{window.limit.whose} may use {limit:,} {WORDS[metric]}"
    if needed > (limit or 0):
        how = " Ask for fewer with max_completion_tokens." if METRICS[metric] == "output_tokens" else ""
        message = f"{begins}, and this request needs up to {needed:,}. Nothing was accepted or charged.{how}"
        return RateLimited(message, windows=windows, type=type_of(metric), wait_ms=None)
    message = (
        f"{begins}: {used:,} are used and this request needs up to {needed:,}. Nothing was accepted or charged. "
        f"Try again in {duration(wait_ms)}."
    )
    return RateLimited(message, windows=windows, type=type_of(metric), wait_ms=wait_ms)


def type_of(metric: int) -> str:
    return "requests" if METRICS[metric] == "requests" else "tokens"


def headers(windows: Sequence[Window]) -> dict[str, str]:
    """The six of the official API: of the limits on requests, and of those on tokens, the one with the least left."""
    found: dict[str, str] = {}
    for name, metrics in (("requests", (0,)), ("tokens", (1, 2))):
        figures = [
            (max(limit - window.used[metric], 0), limit, window.reset_ms if window.used[metric] else 0)
            for window in windows
            for metric in metrics
            if (limit := window.limit.figures[metric]) is not None
        ]
        if figures:
            remaining, limit, reset_ms = min(figures)
            found |= {
                f"x-ratelimit-limit-{name}": str(limit),
                f"x-ratelimit-remaining-{name}": str(remaining),
                f"x-ratelimit-reset-{name}": duration(reset_ms),
            }
    return found


def duration(milliseconds: int) -> str:
    """`12ms`, `1.25s`, `6m0s`: as the official API writes them."""
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    seconds = f"{rest / 1000:.3f}".rstrip("0").rstrip(".")
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
