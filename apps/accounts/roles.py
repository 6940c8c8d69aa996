"""What each role may do, in words: one place for every page that offers, shows or explains a role."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext_lazy

from apps.accounts.models import Membership


@dataclass(frozen=True, slots=True)
class Role:
    role: Membership.Role

    @property
    def value(self) -> str:
        return self.role.value

    @property
    def label(self) -> str:
        return str(self.role.label)

    @property
    def may(self) -> str:
        return str(MAY[self.role])


MAY = {
    Membership.Role.OWNER: gettext_lazy(
        "Everything: members, payments, limits, settings, and work with every kind of API key."
    ),
    Membership.Role.ADMIN: gettext_lazy(
        "Members up to this role, settings, the audit log, webhooks, every API key, and all work. No payments or limits."
    ),
    Membership.Role.DEVELOPER: gettext_lazy(
        "Sends work, makes API keys, manages webhooks, reads jobs, usage and the balance. No payments, limits or members."
    ),
    Membership.Role.BILLING: gettext_lazy(
        "Payments, invoices, plans and limits; also sends work and reads jobs and usage. No webhooks or members."
    ),
    Membership.Role.VIEWER: gettext_lazy(
        "Reads jobs, batches, usage, the balance and who is a member. Sends no work, makes no API keys, changes nothing."
    ),
}
ROLES = [Role(role) for role in Membership.Role]
BY_VALUE = {role.value: role for role in ROLES}
