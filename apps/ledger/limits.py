"""Limits as members change them: the four windows of a budget, with an audit event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.utils.translation import gettext, gettext_lazy

from apps.accounts import audit
from apps.accounts.models import User
from apps.core import numbers
from apps.ledger import budgets
from apps.ledger.budgets import PERIODS, Period, Window
from apps.ledger.models import Budget

TITLES = {
    "total": gettext_lazy("In total"),
    "daily": gettext_lazy("A day"),
    "weekly": gettext_lazy("A week"),
    "monthly": gettext_lazy("A month"),
}
# What a limit is offered for; the ledger counts all four windows of every budget.
OFFERED: dict[str, tuple[Period, ...]] = {
    Budget.Kind.ORGANIZATION: ("daily", "monthly"),
    Budget.Kind.MEMBER: ("daily", "weekly", "monthly"),
    Budget.Kind.KEY: PERIODS,
}


@dataclass(frozen=True, slots=True)
class Spent:
    """One window as its page shows it."""

    window: Window

    @property
    def title(self) -> str:
        return str(TITLES[self.window.period])

    @property
    def percent(self) -> int | None:
        """Of the limit, rounded down: 100 only where nothing is left."""
        limit = self.window.limit_microusd
        if limit is None:
            return None
        return min(self.window.used_microusd * 100 // limit, 100) if limit else 100

    @property
    def resets_at(self) -> datetime | None:
        return self.window.ends_at

    @property
    def words(self) -> str:
        used = numbers.money(self.window.used_microusd)
        limit = self.window.limit_microusd
        return (
            gettext("%(used)s, no limit") % {"used": used}
            if limit is None
            else gettext("%(used)s of %(limit)s") % {"used": used, "limit": numbers.money(limit)}
        )


def spent(budget: Budget, now: datetime) -> list[Spent]:
    """The windows on offer, and any other that has a limit."""
    return [
        Spent(window)
        for window in budgets.windows(budget, now)
        if window.period in OFFERED[budget.kind] or window.limit_microusd is not None
    ]


def limits_of(budget: Budget) -> dict[Period, int | None]:
    return {period: getattr(budget, f"{period}_limit_microusd") for period in PERIODS}


@transaction.atomic
def change(*, budget: Budget, actor: User | None, limits: Mapping[Period, int | None], by_key: str = "") -> bool:
    """Set these limits (micro-USD, None is none) and leave the others. False, and no event, where nothing differs.

    `by_key` is the prefix of the API key that asked for it.
    """
    locked = Budget.objects.select_for_update().get(pk=budget.pk)
    old = limits_of(locked)
    new = {**old, **limits}
    if new == old:
        return False
    budgets.set_limits(locked, total=new["total"], daily=new["daily"], weekly=new["weekly"], monthly=new["monthly"])
    audit.record(
        organization=locked.organization,
        actor=actor,
        action="limits.changed",
        target=locked.title or locked.kind,
        data={
            "budget": locked.pk,
            "kind": locked.kind,
            **({"by_key": by_key} if by_key else {}),
            **{
                f"{period}_microusd": {"from": old[period], "to": new[period]}
                for period in PERIODS
                if old[period] != new[period]
            },
        },
    )
    return True
