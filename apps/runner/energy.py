"""Whose energy was it? Pure: integers in, integers out, and every millijoule goes to exactly one place.

Within a window the energy of a replica is split in three: what it would have drawn idle goes to nobody; what it draws
because *something* runs is shared by active time; the rest by work done. For a cost that is fixed while anything runs
and linear in tokens this is the Shapley value (fit: ML.ENERGY v3, Llama 3.1 8B on one H100).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

K = TypeVar("K", bound=Hashable)

# Work units. A prompt token costs about a tenth of a generated one (decode dominates, ML.ENERGY); a page of OCR is set
# to a thousand tokens. Both only matter between jobs that share a window.
COMPLETION_UNITS, PROMPT_UNITS, PAGE_UNITS = 10, 1, 10_000


@dataclass(frozen=True, slots=True)
class Share:
    """What one attempt did in a window: the microseconds it was active and the work units it finished."""

    active_us: int
    units: int


def units(*, prompt_tokens: int, completion_tokens: int, pages: int) -> int:
    return COMPLETION_UNITS * completion_tokens + PROMPT_UNITS * prompt_tokens + PAGE_UNITS * pages


def attribute(
    *, energy_mj: int, idle_mw: int, fixed_mw: int, window_us: int, busy_us: int, shares: Mapping[K, Share]
) -> tuple[dict[K, int], int]:
    """Split `energy_mj` of one window. Returns each attempt's millijoules and the idle rest; their sum is `energy_mj`.

    `idle_mw` is drawn while nothing runs, `fixed_mw` while anything does. `busy_us` of the window's `window_us` some
    attempt was active. Without an active attempt all of it is idle.
    """
    active = sum(share.active_us for share in shares.values())
    if energy_mj <= 0 or active <= 0:
        return dict.fromkeys(shares, 0), max(energy_mj, 0)
    idle = min(energy_mj, idle_mw * max(window_us - busy_us, 0) // 1_000_000)  # mW · s = mJ
    fixed = min(energy_mj - idle, fixed_mw * busy_us // 1_000_000)
    by_time = split(fixed, {key: share.active_us for key, share in shares.items()})
    work = {key: share.units for key, share in shares.items()}
    if not any(work.values()):  # nothing finished in this window: who was there pays
        work = {key: share.active_us for key, share in shares.items()}
    by_work = split(energy_mj - idle - fixed, work)
    return {key: by_time[key] + by_work[key] for key in shares}, idle


def split(total: int, weights: Mapping[K, int]) -> dict[K, int]:
    """Share `total` in proportion to `weights` (some above 0) by largest remainder: the parts sum to `total` exactly."""
    whole = sum(weights.values())
    parts = {key: total * weight // whole for key, weight in weights.items()}
    left = total - sum(parts.values())
    for key in sorted(weights, key=lambda key: -(total * weights[key] % whole))[:left]:
        parts[key] += 1
    return parts
