"""Every millijoule goes to exactly one place."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.runner import counters, nvml
from apps.runner.counters import GPUCounter
from apps.runner.energy import Share, attribute, split
from apps.runner.meter import Meter

SECOND = 1_000_000
shares = st.dictionaries(
    st.integers(0, 1000), st.builds(Share, active_us=st.integers(0, 10**7), units=st.integers(0, 10**6)), max_size=40
)


@given(
    energy=st.integers(0, 10**9), idle=st.integers(0, 10**6), fixed=st.integers(0, 10**6),
    window=st.integers(1, 10**7), busy=st.integers(0, 10**7), shares=shares,
)  # fmt: skip
def test_the_parts_sum_to_the_whole(
    energy: int, idle: int, fixed: int, window: int, busy: int, shares: dict[int, Share]
) -> None:
    parts, rest = attribute(
        energy_mj=energy, idle_mw=idle, fixed_mw=fixed, window_us=window, busy_us=min(busy, window), shares=shares
    )
    assert sum(parts.values()) + rest == energy
    assert parts.keys() == shares.keys()
    assert min([rest, *parts.values()]) >= 0


def test_the_reference_vectors() -> None:
    """sites.md E1 and E2, in millijoules."""
    parts, idle = attribute(
        energy_mj=5_600_000, idle_mw=117_000, fixed_mw=477_000, window_us=10 * SECOND, busy_us=10 * SECOND,
        shares={"A": Share(10 * SECOND, 5000), "B": Share(5 * SECOND, 2500), "C": Share(5 * SECOND, 500)},
    )  # fmt: skip
    assert (parts, idle) == ({"A": 2_903_750, "B": 1_451_875, "C": 1_244_375}, 0)
    parts, idle = attribute(
        energy_mj=3_000_000, idle_mw=117_000, fixed_mw=477_000, window_us=10 * SECOND, busy_us=4 * SECOND,
        shares={"A": Share(4 * SECOND, 4000)},
    )  # fmt: skip
    assert (parts, idle) == ({"A": 2_298_000}, 702_000)


@pytest.mark.story
@given(
    windows=st.lists(
        st.tuples(st.integers(0, 10**7), st.integers(1, 10**7), st.integers(0, 10**7), shares), min_size=1, max_size=20
    ),
    idle=st.integers(0, 10**6), fixed=st.integers(0, 10**6),
)  # fmt: skip
def test_over_any_windows_jobs_and_idle_sum_to_the_counter(
    windows: list[tuple[int, int, int, dict[int, Share]]], idle: int, fixed: int
) -> None:
    """Exactly in millijoules; in watt-hours, as they are shown, to 1e-9."""
    used: dict[int, int] = {}
    rest = 0
    for energy, window, busy, active in windows:
        parts, left = attribute(
            energy_mj=energy, idle_mw=idle, fixed_mw=fixed, window_us=window, busy_us=min(busy, window), shares=active
        )
        rest += left
        for key, part in parts.items():
            used[key] = used.get(key, 0) + part
    counter = sum(energy for energy, *_ in windows)
    assert sum(used.values()) + rest == counter
    shown = sum(part / 3_600_000 for part in used.values()) + rest / 3_600_000
    assert shown == pytest.approx(counter / 3_600_000, rel=1e-9)


def test_the_largest_remainder_gets_the_odd_one() -> None:
    assert split(10, {"a": 1, "b": 1, "c": 1}) == {"a": 4, "b": 3, "c": 3}
    assert split(5, {"a": 6, "b": 3, "c": 1}) == {"a": 3, "b": 2, "c": 0}


class Script:
    quality = "counter"

    def __init__(self, *readings: int | None) -> None:
        self.readings = list(readings)

    async def read(self) -> int | None:
        return self.readings.pop(0)


async def opened(*readings: int | None) -> Meter:
    meter = Meter(Script(*readings))  # type: ignore[arg-type]
    await meter.start()
    await meter.stop()  # no ticks: the test closes the windows
    return meter


async def test_attempts_and_idle_sum_to_the_counter() -> None:
    meter = await opened(1000, 1500, 2600, 2700, 2900)
    await meter.close_window()
    work = {"a": 0, "b": 0}
    meter.begin("a", lambda: work["a"])
    meter.begin("b", lambda: work["b"])
    work |= {"a": 30, "b": 10}
    await asyncio.sleep(0.002)
    first, second = await meter.end("a"), await meter.end("b")
    assert first
    assert second
    assert (first.quality, second.quality) == ("counter", "counter")
    assert first.gpu_energy_mj > second.gpu_energy_mj > 0
    await meter.close_window()
    assert first.gpu_energy_mj + second.gpu_energy_mj + meter.idle_mj == 1900 == meter.total_mj
    assert meter.idle_mj >= 700  # before them and after them


async def test_no_reading_is_not_zero() -> None:
    meter = await opened(1000, None, 3000)
    meter.begin("a", lambda: 5)
    assert await meter.end("a") is None
    await meter.close_window()
    assert meter.idle_mj == meter.total_mj == 2000  # nobody's, and still counted


async def test_cpu_time_is_modelled_and_never_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    used = {1: 2.0}
    monkeypatch.setattr(counters, "cpu_seconds", used.get)
    counter = counters.CPUCounter(lambda: list(used) + ([9] if used.get(2) == 5.0 else []))
    watt = counters.CPU_CORE_W * 1000
    assert await counter.read() == 2 * watt
    used[1] = 3.0
    assert await counter.read() == 3 * watt
    del used[1]
    used[2] = 0.5  # started again under another number
    assert await counter.read() == 3.5 * watt
    used[2] = 5.0
    assert await counter.read() is None  # a process that cannot be read


class Nvml(counters.Sampler):
    def __init__(self, *readings: dict[str, int] | None) -> None:
        super().__init__()
        self.readings = list(readings)

    async def read(self) -> dict[str, int] | None:
        return self.readings.pop(0)


async def test_a_driver_that_was_loaded_again_counts_on() -> None:
    counter = GPUCounter(Nvml({"a": 100, "b": 10}, {"a": 150, "b": 20}, {"a": 7, "b": 25}, None, {"a": 8}), ["a", "b"])
    assert [await counter.read() for _ in range(5)] == [0, 60, 72, None, None]


class FakeNvml:
    """Stands in for libnvidia-ml: two GPUs, the second without an energy counter."""

    def nvmlInitWithFlags(self, flags: Any) -> int:
        return 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = 2
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, handle: Any) -> int:
        handle._obj.contents = type(handle._obj)._type_()
        handle._obj.index = index.value
        return 0

    def nvmlDeviceGetUUID(self, handle: Any, buffer: Any, size: Any) -> int:
        buffer.value = f"GPU-{handle.index}".encode()
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any, energy: Any) -> int:
        energy._obj.value = 123_456
        return 3 if handle.index else 0  # not supported


def test_gpus_are_known_by_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    import pynvml

    monkeypatch.setattr(pynvml, "nvmlLib", FakeNvml())
    found = nvml.devices()
    assert {uuid: nvml.energy_mj(handle) for uuid, handle in found.items()} == {"GPU-0": 123_456, "GPU-1": None}


async def test_the_sampler_answers_without_a_gpu_and_is_replaced_when_it_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = counters.Sampler()
    sampler.present = True
    first, second = await asyncio.gather(sampler.read(), sampler.read())
    assert first == second
    assert json.dumps(first)
    process = sampler.process
    assert process
    monkeypatch.setattr(counters, "ANSWER_SECONDS", 0.05)
    import os
    import signal

    os.kill(process.pid, signal.SIGSTOP)
    assert await sampler.read() is None
    assert process.returncode is not None
    monkeypatch.undo()
    assert await sampler.read() == first
    await sampler.stop()
