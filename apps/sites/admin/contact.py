"""How long ago a node or a feed said something."""

from __future__ import annotations

from datetime import timedelta

SUSPECT, LOST = timedelta(seconds=6), timedelta(seconds=10)  # as placement and the leases of interactive work have it


def ago(silent: timedelta) -> str:
    """`3 s ago`, `5 min ago`, `2 days ago`."""
    seconds = max(int(silent.total_seconds()), 0)
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
