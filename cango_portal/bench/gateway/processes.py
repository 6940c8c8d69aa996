"""What processes use, from /proc: seconds of processor time with their children's, and memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def fields(pid: int) -> list[str]:
    """/proc/<pid>/stat from field 3 on (proc(5)); [1] is the parent, [11:13] user and system time in ticks."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def cpu_seconds(pids: Mapping[str, int]) -> dict[str, float]:
    """By name: the process and all below it that live now."""
    own: dict[int, float] = {}
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                stat = fields(int(entry))
            except OSError:  # it ended
                continue
            parents[int(entry)] = int(stat[1])
            own[int(entry)] = (int(stat[11]) + int(stat[12])) / TICKS
    named = {pid: name for name, pid in pids.items()}
    used = dict.fromkeys(pids, 0.0)
    for pid, seconds in own.items():
        above = pid
        while above and above not in named:
            above = parents.get(above, 0)
        if above:
            used[named[above]] += seconds
    return used


def memory_bytes(pid: int) -> int:
    """Resident memory that is not shared with files."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0
