"""The ledger for code that holds Django's connection. Doors run the plans of `statements` themselves."""

from dataclasses import dataclass
from uuid import UUID

from apps.accounts.models import Organization
from apps.core.sql import Plan, Statement
from apps.ledger import statements
from apps.ledger.statements import InsufficientCredit, Settlement
from cango_portal import database

__all__ = [
    "Balance",
    "InsufficientCredit",
    "Settlement",
    "balance",
    "grant",
    "open_account",
    "release",
    "reserve",
    "settle",
]


@dataclass(frozen=True, slots=True)
class Balance:
    """An organization's four balances, in micro-USD."""

    credit_microusd: int
    promotional_microusd: int
    held_microusd: int
    receivable_microusd: int

    @property
    def available_microusd(self) -> int:
        return self.credit_microusd + self.promotional_microusd


def balance_of(organization_id: UUID) -> Plan[Balance]:
    rows = yield Statement(statements.BALANCE, {"organization": organization_id})
    return Balance(**rows[0]) if rows else Balance(0, 0, 0, 0)


def balance(organization_id: UUID) -> Balance:
    return database.run(balance_of(organization_id))


def open_account(*, organization: Organization) -> None:
    database.run(statements.open_account(organization.pk))


def grant(
    *, organization: Organization, microusd: int, key: str, reason: str, actor: str, promotional: bool = True
) -> bool:
    """Give credit, once per key. Returns False where the key was used before; raises LookupError without an account."""
    return database.run(
        statements.grant(
            organization_id=organization.pk,
            microusd=microusd,
            key=key,
            reason=reason,
            actor=actor,
            promotional=promotional,
        )
    )


def reserve(*, organization: Organization, microusd: int, key: str) -> UUID:
    return database.run(statements.reserve(organization.pk, microusd, key))


def settle(*, key: str, cost_microusd: int) -> Settlement:
    return database.run(statements.settle(key, cost_microusd))


def release(*, key: str) -> Settlement:
    return database.run(statements.release(key))
