"""When waiting work starts, by the pace of the last minutes: exact, and nothing where nobody knows."""

from collections import Counter

import pytest

from apps.scheduling import expecting, starts
from apps.scheduling.starts import Started

NOW = 1_800_000_004.0  # four seconds into a step
STANDARD, FLEXIBLE, BATCH = starts.LANES


def moved(seconds: float, **counts: int) -> Started:
    """By lane, at the pool "a"; with `_b` at "b"."""
    return Started(seconds, Counter({(name.removesuffix("_b"), "b" if name.endswith("_b") else "a"): count for name, count in counts.items()}))  # fmt: skip


@pytest.mark.parametrize(
    ("lane", "ahead", "started", "expected"),
    [
        (STANDARD, {}, moved(300), None),  # no starts
        (STANDARD, {}, moved(300, standard=1), None),  # one: nobody knows how far apart they are
        (STANDARD, {}, moved(29.9, standard=50), None),  # not watched for long enough
        (STANDARD, {}, moved(30, standard=2), 15),
        (STANDARD, {STANDARD: 9}, moved(30, standard=2), 150),
        (STANDARD, {STANDARD: 3}, moved(60, standard=8), 30),  # a burst is spread over what it was waited for
        (STANDARD, {STANDARD: 3}, moved(60, standard=8, standard_b=80), 30),  # where it may not run
        (STANDARD, {STANDARD: 3, FLEXIBLE: 70}, moved(60, standard=8, flexible=80), 30),  # who goes behind
        (FLEXIBLE, {STANDARD: 10}, moved(300, standard=58, flexible=2), 150),  # its lane gets one start of thirty
        (FLEXIBLE, {STANDARD: 40}, moved(300, flexible=20), 615),  # what came before it now had not been there
        (FLEXIBLE, {STANDARD: 1, FLEXIBLE: 1}, moved(300, standard=9), None),  # its own lane stood still
        (BATCH, {STANDARD: 1, FLEXIBLE: 1, BATCH: 1}, moved(90, standard=3, flexible=3, batch=3), 60),
        (starts.SHARDS, {starts.SHARDS: 1}, moved(60, shards=4, standard=90), 30),  # their slots are their own
    ],
)
def test_the_slower_of_two_paces(lane, ahead, started, expected):
    assert expecting.seconds(lane, ahead, started, {"a"}) == expected
    assert expecting.seconds(lane, ahead, started, set()) is None  # no pool is ready


def test_only_what_was_watched_while_work_waited_counts(valkey):
    model = 7_000_001
    starts.record(NOW - 25, Counter({(model, STANDARD, "a"): 5}), set())  # nothing was left waiting
    starts.record(NOW - 15, Counter({(model, STANDARD, "a"): 2}), {(model, STANDARD)})
    starts.record(NOW - 14.5, Counter({(model, STANDARD, "a"): 1, (model, FLEXIBLE, "b"): 4}), set())
    starts.record(NOW, Counter(), {(model, STANDARD), (model, FLEXIBLE)})
    found = starts.read(NOW, [(model, STANDARD), (model, FLEXIBLE), (model + 1, STANDARD)])
    assert found == {
        (model, STANDARD): Started(14, Counter({(STANDARD, "a"): 3, (FLEXIBLE, "b"): 4})),
        (model, FLEXIBLE): Started(4, Counter()),
        (model + 1, STANDARD): Started(0, Counter()),
    }
    key = starts.key(model, int((NOW - 15) // 10))
    assert 300 < valkey.ttl(key) <= 320
    later = (int((NOW - 15) // 10) + starts.STEPS) * 10.0
    assert starts.read(later - 0.1, [(model, STANDARD)])[model, STANDARD].at({"a"}, (STANDARD,)) == 3
    assert starts.read(later, [(model, STANDARD)])[model, STANDARD] == Started(10, Counter())


def test_without_redis_nothing_is_known_and_nothing_fails(settings, monkeypatch):
    from cango_portal import valkey

    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    valkey.client.cache_clear()
    try:
        starts.record(NOW, Counter({(1, STANDARD, "a"): 5}), {(1, STANDARD)})
        assert starts.read(NOW, [(1, STANDARD)]) == {}
    finally:
        valkey.client.cache_clear()
