"""From what GPUs said to minutes: energy from differences of counters, watts, temperatures. Pure.

A window lies between two readings of one GPU. Its energy is the counter's difference, split over the minutes it touches by
time, to the millijoule; where a GPU has no counter it is the mean of the two powers times the time. A counter that fell
counts from its own zero where that is believable; what no GPU can draw (a fall by a little, a leap) is no energy, and the
time stays uncounted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

MINUTE = 60
# No GPU draws so much; a counter that says it did was set back or is wrong. GB300 modules: 2.7 kW with their CPU.
MOST_GPU_W = 4000
SLACK_SECONDS = 1.0  # between a counter's own moments and the node's
LONGEST_INTEGRATED_SECONDS = 30.0  # between two powers nothing is known of the time
LONGEST_SECONDS = 72 * 3600.0  # a runner that was gone for longer begins anew

Quality = Literal["counter", "integrated"]


@dataclass(frozen=True, slots=True)
class Said:
    """One GPU at one moment, Unix seconds. None is no reading."""

    uuid: str
    at: float
    energy_mj: int | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    utilization: float | None = None
    memory_used_mib: int | None = None
    reasons: tuple[str, ...] = ()


@dataclass(slots=True)
class Part:
    """What some readings add to one GPU's minute, which begins at `at`."""

    uuid: str
    at: int
    energy_mj: int | None = None
    counted_seconds: float = 0.0
    quality: str = ""
    samples: int = 0
    power_samples: int = 0
    power_sum_w: float = 0.0
    power_max_w: float | None = None
    temperature_max_c: float | None = None
    utilization_samples: int = 0
    utilization_sum: float = 0.0
    memory_max_mib: int | None = None
    reasons: set[str] = field(default_factory=set)

    def count(self, said: Said) -> None:
        self.samples += 1
        if said.power_w is not None:
            self.power_samples += 1
            self.power_sum_w += said.power_w
            self.power_max_w = max(said.power_w, self.power_max_w or 0.0)
        if said.temperature_c is not None:
            self.temperature_max_c = max(said.temperature_c, self.temperature_max_c or said.temperature_c)
        if said.utilization is not None:
            self.utilization_samples += 1
            self.utilization_sum += said.utilization
        if said.memory_used_mib is not None:
            self.memory_max_mib = max(said.memory_used_mib, self.memory_max_mib or 0)
        self.reasons.update(said.reasons)

    def draw(self, energy_mj: int, seconds: float, quality: Quality) -> None:
        self.energy_mj = (self.energy_mj or 0) + energy_mj
        self.counted_seconds += seconds
        if self.quality != "integrated":  # one estimated window makes the minute an estimate
            self.quality = quality


def fold(last: Mapping[str, Said], readings: Iterable[Said]) -> tuple[list[Part], dict[str, Said]]:
    """`last` is each GPU's reading before, by UUID. Returns what to add to which minutes, and the new last readings.

    A reading that is not later than the one before it changes nothing.
    """
    parts: dict[tuple[str, int], Part] = {}
    newest = dict(last)

    def part(uuid: str, at: int) -> Part:
        return parts.setdefault((uuid, at), Part(uuid, at))

    for said in readings:
        before = newest.get(said.uuid)
        if before is not None and said.at <= before.at:
            continue
        newest[said.uuid] = said
        part(said.uuid, minute_of(said.at)).count(said)
        if before is None:
            continue
        drawn = window(before, said)
        if drawn is None:
            continue
        energy_mj, quality = drawn
        for at, seconds, share in split(energy_mj, before.at, said.at):
            part(said.uuid, at).draw(share, seconds, quality)
    return [parts[key] for key in sorted(parts)], newest


def window(before: Said, now: Said) -> tuple[int, Quality] | None:
    """The energy between two readings, mJ, and how it is known. None: it is not."""
    seconds = now.at - before.at
    if seconds > LONGEST_SECONDS:
        return None
    if before.energy_mj is not None and now.energy_mj is not None:
        delta = now.energy_mj - before.energy_mj if now.energy_mj >= before.energy_mj else now.energy_mj
        return (delta, "counter") if delta <= MOST_GPU_W * 1000 * (seconds + SLACK_SECONDS) else None
    if before.power_w is not None and now.power_w is not None and seconds <= LONGEST_INTEGRATED_SECONDS:
        return round((before.power_w + now.power_w) / 2 * seconds * 1000), "integrated"
    return None


def split(energy_mj: int, since: float, until: float) -> list[tuple[int, float, int]]:
    """(minute, seconds, millijoules) of a window for each minute it touches. The millijoules sum to `energy_mj`."""
    found: list[tuple[int, float, int]] = []
    given, at = 0, minute_of(since)
    while at < until:
        end = min(float(at + MINUTE), until)
        up_to = energy_mj if end == until else int(energy_mj * (end - since) / (until - since))
        found.append((at, end - max(float(at), since), up_to - given))
        given, at = up_to, at + MINUTE
    return found


def minute_of(at: float) -> int:
    return int(at // MINUTE) * MINUTE
