"""What each role may do, in words: one place for every page that offers, shows or explains a role."""

from __future__ import annotations

from dataclasses import dataclass

from apps.accounts.models import Membership


@dataclass(frozen=True, slots=True)
class Role:
    value: str
    label: str
    may: str


MAY = {
    Membership.Role.OWNER: "Everything: members, payments, limits, settings, and work with every kind of API key.",
    Membership.Role.DEVELOPER: "Sends work, makes API keys, manages webhooks, reads jobs, usage and the balance. No payments, limits or members.",
    Membership.Role.BILLING: "Payments, invoices, plans and limits; also sends work and reads jobs and usage. No webhooks or members.",
}
ROLES = [Role(role.value, str(role.label), MAY[role]) for role in Membership.Role]
BY_VALUE = {role.value: role for role in ROLES}
