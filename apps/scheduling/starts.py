"""How many queued jobs started lately, by model, lane and pool: what an expected start is made of.

Hot state in Redis, written by the dispatcher once a round and gone after some minutes. A step of `STEP_SECONDS` is one hash
`starts:<model>:<step>` of counts by `<lane>:<pool>`; a field without a pool says that work of the lane was left waiting. Only
such steps say how fast a lane moves: where nothing had to wait, starts come as fast as work does.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from apps.scheduling import slots
from cango_portal import valkey

STEP_SECONDS = 10
STEPS = 30  # that are read, with the one that is not over: five minutes
SHARDS = "shards"  # the lane of batches' shards; the others are the tiers
LANES = ("standard", "flexible", "batch")  # who goes first


@dataclass(frozen=True, slots=True)
class Started:
    """What happened in the steps in which work of a lane was left waiting: for how long that was, and what started by lane and pool."""

    seconds: float = 0.0
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def at(self, pools: Iterable[str], lanes: Iterable[str]) -> int:
        chosen = set(pools)
        return sum(count for (lane, pool), count in self.counts.items() if pool in chosen and lane in lanes)


def lane(tier: str, *, shard: bool) -> str:
    return SHARDS if shard else tier


def key(model_id: int, step: int) -> str:
    return f"starts:{model_id}:{step}"


def record(now: float, started: Counter[tuple[int, str, str]], left: set[tuple[int, str]]) -> None:
    """`started`: (model, lane, pool) and how many; `left`: (model, lane) with work that found no slot. An estimate is nothing to fail for."""
    step = int(now // STEP_SECONDS)
    with contextlib.suppress(*slots.UNUSABLE), valkey.client().pipeline(transaction=False) as pipe:
        for (model_id, of, pool), count in started.items():
            pipe.hincrby(key(model_id, step), f"{of}:{pool}", count)
        for model_id, of in left:
            pipe.hset(key(model_id, step), f"{of}:", "1")
        for model_id in {model_id for model_id, _, _ in started} | {model_id for model_id, _ in left}:
            pipe.expire(key(model_id, step), (STEPS + 2) * STEP_SECONDS)
        pipe.execute()


def read(now: float, wanted: Iterable[tuple[int, str]]) -> dict[tuple[int, str], Started]:
    """By (model, lane). What cannot be read is not there."""
    asked = set(wanted)
    models = sorted({model_id for model_id, _ in asked})
    step = int(now // STEP_SECONDS)
    steps = range(step - STEPS + 1, step + 1)
    try:
        with valkey.client().pipeline(transaction=False) as pipe:
            for model_id in models:
                for each in steps:
                    pipe.hgetall(key(model_id, each))
            answers = iter(pipe.execute())
    except slots.UNUSABLE:
        return {}
    found = {model_id: [(each, next(answers)) for each in steps] for model_id in models}
    return {(model_id, of): _of(now, of, found[model_id]) for model_id, of in asked}


def _of(now: float, of: str, steps: list[tuple[int, dict[str, str]]]) -> Started:
    seconds, counts = 0.0, Counter[tuple[str, str]]()
    for step, fields in steps:
        if f"{of}:" not in fields:
            continue
        seconds += min(STEP_SECONDS, now - step * STEP_SECONDS)
        for name, count in fields.items():
            which, _, pool = name.partition(":")
            if pool:
                counts[which, pool] += int(count)
    return Started(seconds, counts)
