"""Any story a ledger may live through, against a plain model of what it should say. After each step all invariants hold."""

import contextlib
import sys
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, Phase, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test

from apps.accounts.models import Organization
from apps.ledger import budgets
from apps.ledger import services as ledger
from apps.ledger.models import Grant, Hold
from apps.ledger.services import BudgetExceeded, InsufficientCredit, PaymentOwed
from tests import emptying, make
from tests.ledger.books import balanced

BY = {"reason": "story", "actor": "story"}
AMOUNTS = st.integers(1, 60)
# pytest tests/ledger/test_story.py --hypothesis-profile=long: some twenty minutes.
settings.register_profile("long")
LONG = "--hypothesis-profile=long" in sys.argv


class Crash(Exception):
    """The process dies before its commit."""


def together(a: date, b: date) -> tuple[bool, bool]:
    """In one week, in one month."""
    return a.isocalendar()[:2] == b.isocalendar()[:2], (a.year, a.month) == (b.year, b.month)


class Story(RuleBasedStateMachine):
    """The oracle keeps plain numbers: what is spendable, held, owed; what each grant and hold should have."""

    holds = Bundle("holds")

    def __init__(self) -> None:
        super().__init__()
        self.organization: Organization = make.organization()
        self.budget = budgets.budget_of_key(self.organization, "key")
        self.credit = self.owed = 0
        self.grants: dict[str, int] = {}
        self.expired: set[str] = set()
        self.open: dict[str, tuple[int, list[tuple[str, int]], int]] = {}  # key: paid part, grant parts, charged so far
        self.calls: list = []
        self.totals: Counter[str] = Counter()
        self.count = 0

    def teardown(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(emptying.statements())

    def key(self, kind: str) -> str:
        self.count += 1
        return f"{kind}:{self.count}"

    def did(self, call, *, expected=None):
        """Make a call, and remember it for a repetition."""
        outcome = call()
        self.calls.append(call)
        if expected is not None:
            assert outcome == expected
        return outcome

    def pay(self, amount: int) -> None:
        repaid = min(self.owed, amount)
        self.owed -= repaid
        self.credit += amount - repaid

    def free(self) -> list[str]:
        """Grants that can be spent, in order."""
        rows = Grant.objects.filter(key__in=set(self.grants) - self.expired)
        last = datetime.max.replace(tzinfo=UTC)
        return [g.key for g in sorted(rows, key=lambda g: (g.expires_at or last, g.created_at, g.pk))]

    @rule(amount=AMOUNTS)
    def deposit(self, amount):
        key = self.key("topup")
        self.did(lambda: ledger.deposit(organization=self.organization, microusd=amount, key=key, **BY), expected=True)
        self.pay(amount)
        self.totals["paid"] += amount

    @rule(amount=AMOUNTS, days=st.sampled_from([None, 3, 30]))
    def grant(self, amount, days):
        key = self.key("grant")
        expires_at = days and datetime.now(UTC) + timedelta(days=days)
        self.did(
            lambda: ledger.grant(
                organization=self.organization, microusd=amount, key=key, expires_at=expires_at or None, **BY
            ),
            expected=True,
        )
        self.grants[key] = amount

    @rule(target=holds, amount=st.integers(0, 80))
    def reserve(self, amount):
        key = self.key("job")
        used = {w.period: w for w in budgets.windows(self.refreshed(), datetime.now(UTC))}
        spendable = self.credit + sum(self.grants[name] for name in self.free())
        refused = (
            PaymentOwed
            if self.owed
            else InsufficientCredit
            if spendable < amount
            else BudgetExceeded
            if any(w.left_microusd is not None and w.used_microusd + amount > w.limit_microusd for w in used.values())
            else None
        )

        def call():
            return ledger.reserve(organization=self.organization, microusd=amount, key=key, budgets=[self.budget.pk])

        if refused:
            with pytest.raises(refused):
                call()
            return key
        self.did(call)
        parts, left = [], amount
        for name in self.free():
            part = min(left, self.grants[name])
            if part:
                parts.append((name, part))
                self.grants[name] -= part
                left -= part
        self.credit -= left
        self.open[key] = (left, parts, 0)
        return key

    @rule(hold=holds, cost=st.integers(0, 90))
    def charge_a_part(self, hold, cost):
        assume(hold in self.open)
        part = f"{self.count}"
        self.count += 1
        paid, parts, charged = self.open[hold]
        now = min(cost, paid + sum(p for _, p in parts) - charged)
        self.did(lambda: ledger.charge(key=hold, cost_microusd=cost, part=part).charged_microusd >= 0, expected=True)
        self.open[hold] = (paid, parts, charged + now)
        self.totals["charged"] += now
        self.totals["overrun"] += cost - now

    @rule(hold=consumes(holds), cost=st.integers(0, 90))
    def settle(self, hold, cost):
        assume(hold in self.open)
        paid, parts, charged = self.open.pop(hold)
        amount = paid + sum(p for _, p in parts)
        now = min(cost, amount - charged)
        outcome = self.did(lambda: ledger.settle(key=hold, cost_microusd=cost))
        assert outcome == ledger.Settlement(now, amount - charged - now, cost - now)
        self.totals["charged"] += now
        self.totals["overrun"] += cost - now
        left = charged + now
        for name, part in parts:
            taken = min(left, part)
            left -= taken
            self.grants[name] += part - taken
        self.credit += paid - left

    @rule(amount=AMOUNTS)
    def refund(self, amount):
        key = self.key("refund")

        def call():
            return ledger.withdraw(organization=self.organization, microusd=amount, key=key, **BY)

        if amount > self.credit:
            with pytest.raises(InsufficientCredit):
                call()
            return
        self.did(call, expected=True)
        self.credit -= amount

    @rule(amount=AMOUNTS)
    def dispute(self, amount):
        key = self.key("dispute")
        self.did(
            lambda: ledger.claw_back(organization=self.organization, microusd=amount, key=key, **BY), expected=True
        )
        taken = min(self.credit, amount)
        self.credit -= taken
        self.owed += amount - taken

    @rule(amount=AMOUNTS)
    def dispute_won(self, amount):
        key = self.key("back")
        self.did(
            lambda: ledger.deposit(organization=self.organization, microusd=amount, key=key, source="disputes", **BY),
            expected=True,
        )
        self.pay(amount)

    @rule(data=st.data())
    def a_grant_ends(self, data):
        candidates = sorted(
            Grant.objects.filter(key__in=self.grants, expires_at__isnull=False).values_list("key", flat=True)
        )
        assume(candidates)
        key = data.draw(st.sampled_from(candidates))
        Grant.objects.filter(key=key).update(expires_at=datetime.now(UTC) - timedelta(seconds=1))
        self.expired.add(key)

    @rule()
    def sweep(self):
        expected = sum(self.grants[key] for key in self.expired)
        assert ledger.expire_grants() == expected
        for key in self.expired:
            self.grants[key] = 0
        repaid = min(self.credit, self.owed)
        assert ledger.collect_owed() == repaid
        self.credit -= repaid
        self.owed -= repaid

    @rule(limit=st.none() | st.integers(0, 200), period=st.sampled_from(budgets.PERIODS))
    def limit(self, limit, period):
        budgets.set_limits(self.budget, **{period: limit})

    @rule(days=st.integers(1, 40))
    def days_go_by(self, days):
        """Rows grow older, since the clock cannot be moved. What shared a week or a month with the budget's day must share it still."""
        budget, ago = self.refreshed().day, timedelta(days=days)
        if budget:
            held = set(Hold.objects.exclude(day=None).values_list("day", flat=True))
            assume(all(together(day, budget) == together(day - ago, budget - ago) for day in held))
        with connection.cursor() as cursor:
            cursor.execute("UPDATE ledger_budget SET day = day - %s", [days])
            cursor.execute("UPDATE ledger_hold SET day = day - %s", [days])

    @rule(data=st.data())
    def an_earlier_call_comes_again(self, data):
        assume(self.calls)
        data.draw(st.sampled_from(self.calls))()

    @rule(amount=AMOUNTS)
    def the_process_dies_before_its_commit(self, amount):
        with contextlib.suppress(Crash), transaction.atomic():
            ledger.deposit(organization=self.organization, microusd=amount, key=self.key("lost"), **BY)
            ledger.claw_back(organization=self.organization, microusd=2 * amount, key=self.key("lost"), **BY)
            raise Crash

    def refreshed(self):
        self.budget.refresh_from_db()
        return self.budget

    @invariant()
    def the_balance_is_what_the_story_says(self):
        balance = ledger.balance(self.organization.pk)
        held = sum(paid + sum(p for _, p in parts) - charged for paid, parts, charged in self.open.values())
        promotional = sum(amount for key, amount in self.grants.items() if key not in self.expired)
        assert balance == ledger.Balance(self.credit, promotional, held, self.owed)

    @invariant()
    def the_books_balance(self):
        balanced()


@pytest.mark.timeout(3600 if LONG else 300)
def test_any_story(transactional_db):
    run_state_machine_as_test(
        Story,
        settings=settings(
            max_examples=2000 if LONG else 25,
            stateful_step_count=60 if LONG else 30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        ),
    )
