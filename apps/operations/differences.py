"""What a reconciliation found, in the shape that is printed, stored and shown."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

SHOWN = 1000  # items a report keeps; it counts all of them


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that does not agree. Amounts are micro-USD; `says` is the rule that should hold."""

    part: str  # ledger, jobs, stripe
    check: str
    subject: str
    organization: str
    expected: str
    found: str
    says: str


@dataclass(slots=True)
class Found:
    """Counts everything, keeps the first SHOWN of each kind. `pending` is in flight; an overrun is ours and no difference."""

    differences: int = 0
    pending: int = 0
    overruns: int = 0
    overrun_microusd: int = 0
    items: list[Item] = field(default_factory=list)
    pending_items: list[Item] = field(default_factory=list)
    overrun_items: list[Item] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=dict)

    def differs(self, item: Item) -> None:
        self.differences += 1
        keep(self.items, item)

    def waits(self, item: Item) -> None:
        self.pending += 1
        keep(self.pending_items, item)

    def overran(self, item: Item, microusd: int) -> None:
        self.overruns += 1
        self.overrun_microusd += microusd
        keep(self.overrun_items, item)

    def report(self) -> dict[str, Any]:
        return {
            "differences": self.differences,
            "pending": self.pending,
            "overruns": self.overruns,
            "overrun_microusd": self.overrun_microusd,
            "checked": self.checked,
            "totals_microusd": self.totals,
            "items": [asdict(item) for item in self.items],
            "pending_items": [asdict(item) for item in self.pending_items],
            "overrun_items": [asdict(item) for item in self.overrun_items],
        }


def keep(items: list[Item], item: Item) -> None:
    if len(items) < SHOWN:
        items.append(item)
