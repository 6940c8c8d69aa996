"""Limits on spending: who has one, what is left of it, when it begins anew."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Literal

from django.utils import timezone

from apps.accounts.models import Organization, User
from apps.ledger.models import Budget
from apps.ledger.statements import window_end, window_start

Period = Literal["total", "daily", "weekly", "monthly"]
PERIODS: tuple[Period, ...] = ("total", "daily", "weekly", "monthly")


@dataclass(frozen=True, slots=True)
class Window:
    """One limit of a budget as it stands: `used_microusd` is held and charged since `starts_on` (UTC).

    `ends_at` is when it begins anew, None for a total.
    """

    period: Period
    limit_microusd: int | None
    used_microusd: int
    starts_on: date
    ends_at: datetime | None

    @property
    def left_microusd(self) -> int | None:
        return None if self.limit_microusd is None else max(self.limit_microusd - self.used_microusd, 0)


def windows(budget: Budget, now: datetime) -> list[Window]:
    """The four windows `now` lies in. What was used in one that is over counts no more."""
    today = max(now.astimezone(UTC).date(), budget.day)
    return [window(budget, period, today) for period in PERIODS]


def window(budget: Budget, period: Period, today: date) -> Window:
    ends_on = window_end(period, today)
    over = window_start(period, budget.day) != window_start(period, today)
    return Window(
        period=period,
        limit_microusd=getattr(budget, f"{period}_limit_microusd"),
        used_microusd=0 if over else getattr(budget, f"{period}_used_microusd"),
        starts_on=window_start(period, today),
        ends_at=datetime.combine(ends_on, time(), UTC) if ends_on else None,
    )


def budget_of_organization(organization: Organization) -> Budget:
    return Budget.objects.get(kind=Budget.Kind.ORGANIZATION, organization=organization)


def budget_of_member(organization: Organization, user: User) -> Budget:
    """A member's budget; made at the first use. What their keys spend counts too."""
    title = user.email[: Budget._meta.get_field("title").max_length]
    found, _ = Budget.objects.get_or_create(
        kind=Budget.Kind.MEMBER, organization=organization, user=user, defaults={"title": title, "day": today()}
    )
    return found


def budget_of_key(organization: Organization, title: str) -> Budget:
    """A new budget for a new key; the key points to it."""
    return Budget.objects.create(kind=Budget.Kind.KEY, organization=organization, title=title, day=today())


def set_limits(
    budget: Budget,
    *,
    total: int | None = None,
    daily: int | None = None,
    weekly: int | None = None,
    monthly: int | None = None,
) -> None:
    """Replace all four limits (micro-USD; None is no limit), in force for the next request. Counters are not touched."""
    limits = {"total": total, "daily": daily, "weekly": weekly, "monthly": monthly}
    if any(limit is not None and limit < 0 for limit in limits.values()):
        raise ValueError("a limit is not negative")
    changes = {f"{period}_limit_microusd": limit for period, limit in limits.items()}
    Budget.objects.filter(pk=budget.pk).update(**changes)
    for name, limit in changes.items():
        setattr(budget, name, limit)


def today() -> date:
    return timezone.now().astimezone(UTC).date()
