"""The ledger for code that holds Django's connection. Doors run the plans of `statements` themselves.

Every verb that moves money is safe to repeat with the same key; those that return a bool say False then. They raise
LookupError for an organization without an account, and ValueError for amounts that are not positive integers.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from apps.accounts.models import Organization
from apps.core.sql import Plan, Statement
from apps.ledger import statements
from apps.ledger.models import Account, Budget
from apps.ledger.statements import BudgetExceeded, InsufficientCredit, PaymentOwed, Settlement
from cango_portal import database

__all__ = [
    "Balance",
    "BudgetExceeded",
    "InsufficientCredit",
    "PaymentOwed",
    "Settlement",
    "balance",
    "charge",
    "claw_back",
    "collect_owed",
    "deposit",
    "expire_grants",
    "grant",
    "open_account",
    "post",
    "release",
    "reserve",
    "settle",
    "shut",
    "withdraw",
]


@dataclass(frozen=True, slots=True)
class Balance:
    """An organization's four balances, in micro-USD. Promotional credit that has expired does not count."""

    credit_microusd: int
    promotional_microusd: int
    held_microusd: int
    receivable_microusd: int

    @property
    def available_microusd(self) -> int:
        return self.credit_microusd + self.promotional_microusd

    @property
    def total_microusd(self) -> int:
        """What belongs to the customer: free and held together."""
        return self.available_microusd + self.held_microusd


def balance_of(organization_id: UUID) -> Plan[Balance]:
    rows = yield Statement(statements.BALANCE, {"organization": organization_id})
    return Balance(**rows[0]) if rows else Balance(0, 0, 0, 0)


def balance(organization_id: UUID) -> Balance:
    return database.run(balance_of(organization_id))


def open_account(*, organization: Organization) -> None:
    database.run(statements.open_account(organization.pk))


def shut(*, organization: Organization) -> None:
    """No hold of it opens any more: one that waits for the account is refused. In a transaction, and last in it.

    Holds that are open stay so: ask for them after this.
    """
    Account.objects.select_for_update().get(organization=organization)
    Budget.objects.filter(organization=organization, kind=Budget.Kind.ORGANIZATION).update(total_limit_microusd=0)


def grant(
    *,
    organization: Organization,
    microusd: int,
    key: str,
    reason: str,
    actor: str,
    promotional: bool = True,
    expires_at: datetime | None = None,
) -> bool:
    """Give credit. Promotional credit is spent first and may expire; the other kind is like paid credit."""
    plan = (
        statements.grant(
            organization_id=organization.pk,
            microusd=microusd,
            key=key,
            reason=reason,
            actor=actor,
            expires_at=expires_at,
        )
        if promotional
        else statements.deposit(
            organization_id=organization.pk,
            microusd=microusd,
            key=key,
            reason=reason,
            actor=actor,
            source="credits_granted",
        )
    )
    return database.run(plan)


def deposit(
    *,
    organization: Organization,
    microusd: int,
    key: str,
    reason: str,
    actor: str,
    source: str = "stripe_clearing",
) -> bool:
    """Paid credit from a platform account; what is owed is paid back from it first."""
    return database.run(
        statements.deposit(
            organization_id=organization.pk, microusd=microusd, key=key, reason=reason, actor=actor, source=source
        )
    )


def withdraw(
    *, organization: Organization, microusd: int, key: str, reason: str, actor: str, to: str = "refunds"
) -> bool:
    """Free paid credit to a platform account. Raises InsufficientCredit; then nothing was moved."""
    return database.run(
        statements.withdraw(
            organization_id=organization.pk, microusd=microusd, key=key, reason=reason, actor=actor, to=to
        )
    )


def claw_back(
    *, organization: Organization, microusd: int, key: str, reason: str, actor: str, to: str = "disputes"
) -> bool:
    """To a platform account from free paid credit; what is short becomes owed, and nothing new runs until it is paid."""
    return database.run(
        statements.claw_back(
            organization_id=organization.pk, microusd=microusd, key=key, reason=reason, actor=actor, to=to
        )
    )


def post(
    *, organization: Organization, debit: str, credit: str, microusd: int, key: str, reason: str, actor: str
) -> bool:
    """Between two platform accounts: the amount leaves `debit` and arrives at `credit`."""
    return database.run(
        statements.post(
            organization_id=organization.pk,
            debit=debit,
            credit=credit,
            microusd=microusd,
            key=key,
            reason=reason,
            actor=actor,
        )
    )


def reserve(*, organization: Organization, microusd: int, key: str, budgets: Iterable[int] = ()) -> UUID:
    """Hold credit and budgets. Raises PaymentOwed, InsufficientCredit or BudgetExceeded; then nothing was held."""
    return database.run(statements.reserve(organization.pk, microusd, key, tuple(budgets)))


def charge(*, key: str, cost_microusd: int, part: str) -> Settlement:
    """Charge a part of a hold that stays open."""
    return database.run(statements.charge(key, cost_microusd, part))


def settle(*, key: str, cost_microusd: int) -> Settlement:
    return database.run(statements.settle(key, cost_microusd))


def release(*, key: str) -> Settlement:
    return database.run(statements.release(key))


def expire_grants() -> int:
    """Sweep what expired grants have left; the micro-USD moved."""
    return sum(database.run(statements.expire(grant)) for grant in database.run(statements.expiring()))


def collect_owed() -> int:
    """Pay back what is owed where credit has come free again; the micro-USD moved."""
    return sum(database.run(statements.collect(organization)) for organization in database.run(statements.owing()))
