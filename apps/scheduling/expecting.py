"""When will waiting work start, at the pace of the last minutes? Pure: counts in, seconds out."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from apps.scheduling.starts import LANES, SHARDS, Started

ENOUGH_SECONDS = 30.0  # of waiting that was watched, before anything is said
ENOUGH_STARTS = 2  # one start says nothing of how far apart they are


def seconds(lane: str, ahead: Mapping[str, int], started: Started, pools: Collection[str]) -> float | None:
    """For work of a lane with so many ahead in each lane, at the pools where it may run. None: nobody knows.

    Two paces bound it. That of its own lane has what went before it lately; that of all lanes up to its own counts what
    goes before it now. The slower one is said.
    """
    own = started.at(pools, (lane,))
    if not pools or started.seconds < ENOUGH_SECONDS or own < ENOUGH_STARTS:
        return None
    sooner = (SHARDS,) if lane == SHARDS else LANES[: LANES.index(lane) + 1]
    every = started.at(pools, sooner)
    in_lane = (ahead.get(lane, 0) + 1) * started.seconds / own
    in_all = (sum(ahead.get(each, 0) for each in sooner) + 1) * started.seconds / every
    return max(in_lane, in_all)
