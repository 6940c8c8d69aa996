"""Energy from counters that grow, fall, leap and are missing: exact millijoules, and nothing that was not known."""

from hypothesis import given
from hypothesis import strategies as st

from apps.telemetry.folding import Said, fold

BEGAN = 1_800_000_000.0  # the start of a minute


def of(*readings, last=None):
    found, newest = fold(last or {}, [Said("GPU-a", BEGAN + at, **rest) for at, rest in readings])
    return {part.at - int(BEGAN): part for part in found}, newest


def test_a_window_over_a_minutes_end_is_split_by_time_and_sums():
    parts, newest = of((50, {"energy_mj": 1_000}), (65, {"energy_mj": 1_000_001}))
    assert (parts[0].energy_mj, parts[0].counted_seconds) == (666_000, 10)
    assert (parts[60].energy_mj, parts[60].counted_seconds) == (333_001, 5)
    assert newest["GPU-a"].energy_mj == 1_000_001


def test_a_counter_that_fell_counts_from_its_zero_where_that_is_believable():
    parts, _ = of((0, {"energy_mj": 900_000_000}), (5, {"energy_mj": 2_000_000}), (10, {"energy_mj": 2_500_000}))
    assert (parts[0].energy_mj, parts[0].counted_seconds, parts[0].quality) == (2_500_000, 10, "counter")


def test_what_no_gpu_can_draw_is_no_energy_and_counting_goes_on():
    for wrong in (899_999_999, 990_000_000):  # a fall by a little, a leap
        parts, _ = of(
            (0, {"energy_mj": 900_000_000}), (5, {"energy_mj": wrong}), (10, {"energy_mj": wrong + 1_000_000})
        )
        assert (parts[0].energy_mj, parts[0].counted_seconds) == (1_000_000, 5)


def test_no_reading_is_never_zero():
    parts, _ = of((0, {}), (5, {}))
    part = parts[0]
    assert (part.energy_mj, part.counted_seconds, part.quality, part.samples) == (None, 0, "", 2)
    assert (part.power_max_w, part.temperature_max_c, part.memory_max_mib) == (None, None, None)
    parts, _ = of((0, {"energy_mj": 5}), (5, {}), (10, {"energy_mj": 9}))
    assert parts[0].energy_mj is None


def test_without_a_counter_power_is_integrated_and_says_so():
    parts, _ = of((0, {"power_w": 100.0, "temperature_c": 61.0}), (10, {"power_w": 300.0, "temperature_c": -2.0}))
    part = parts[0]
    assert (part.energy_mj, part.quality) == (2_000_000, "integrated")
    assert (part.power_sum_w, part.power_samples, part.power_max_w, part.temperature_max_c) == (400.0, 2, 300.0, 61.0)
    parts, _ = of((0, {"power_w": 100.0}), (31, {"power_w": 300.0}))  # nobody knows what was in between
    assert parts[0].energy_mj is None


def test_what_is_not_later_changes_nothing():
    parts, newest = of((10, {"energy_mj": 5}), (10, {"energy_mj": 6}), (3, {"energy_mj": 9}))
    assert (parts[0].samples, parts[0].energy_mj, newest["GPU-a"].energy_mj) == (1, None, 5)


@given(st.lists(st.tuples(st.floats(0.01, 200), st.integers(0, 30_000)), min_size=1, max_size=30), st.integers(1, 29))
def test_every_millijoule_is_in_one_minute_however_the_readings_are_cut(steps, cut):
    at, counter, readings = BEGAN + 7.3, 10**9, []
    for seconds, mj in [(0.0, 0), *steps]:
        at, counter = at + seconds, counter + mj
        readings.append(Said("GPU-a", at, energy_mj=counter))
    whole, _ = fold({}, readings)
    first, newest = fold({}, readings[:cut])
    second, _ = fold(newest, readings[cut:])
    assert sum(part.energy_mj or 0 for part in whole) == counter - 10**9
    assert sum(part.energy_mj or 0 for part in first + second) == counter - 10**9
    assert abs(sum(part.counted_seconds for part in whole) - (at - readings[0].at)) < 1e-3
    assert all(part.counted_seconds <= 60.001 for part in whole)
