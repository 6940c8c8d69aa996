"""What each role may do: the one table behind pages, the API, scopes of keys, and the words of `roles`.

Reading what an organization did, has and pays is no right: every member may, but for payments and the audit log.
"""

from __future__ import annotations

from enum import StrEnum

from django.utils.translation import gettext_lazy


class Right(StrEnum):
    WORK = "work"  # send, stop and repeat jobs and batches, with their files
    KEYS = "keys"  # make API keys, and change those of one's own
    EVERY_KEY = "every_key"
    WEBHOOKS = "webhooks"
    PAY = "pay"  # payments, invoices, plans, and what may be spent
    MEMBERS = "members"  # of roles that may no more than one's own
    SETTINGS = "settings"  # name, places, how long text is kept; the audit log
    OWN = "own"  # take all data along, delete the organization


BY_ROLE: dict[str, frozenset[Right]] = {
    "owner": frozenset(Right),
    "admin": frozenset(
        {Right.WORK, Right.KEYS, Right.EVERY_KEY, Right.WEBHOOKS, Right.MEMBERS, Right.SETTINGS},
    ),
    "developer": frozenset({Right.WORK, Right.KEYS, Right.WEBHOOKS}),
    "billing": frozenset({Right.WORK, Right.KEYS, Right.PAY}),
    "viewer": frozenset(),
}

WHY = {
    Right.WORK: gettext_lazy(
        "Your role reads only. Owners and admins of your organization can change your role, so that you can send work."
    ),
    Right.KEYS: gettext_lazy(
        "Your role reads only. Owners and admins of your organization can change your role, so that you can make API keys."
    ),
    Right.EVERY_KEY: gettext_lazy(
        "This key was created by someone else in your organization. Its creator, owners and admins may change it."
    ),
    Right.WEBHOOKS: gettext_lazy(
        "Webhooks are managed by the owners, admins and developers of your organization. Owners and admins can change your role."
    ),
    Right.PAY: gettext_lazy(
        "Payments, invoices, plans and limits are for the owners of your organization and its members with the billing role. "
        "Balance, usage and limits are open to you to read. An owner can change your role."
    ),
    Right.MEMBERS: gettext_lazy("Members are managed by the owners and admins of your organization. Ask one of them."),
    Right.SETTINGS: gettext_lazy(
        "Settings and the audit log are for the owners and admins of your organization. Ask one of them."
    ),
    Right.OWN: gettext_lazy("This is for the owners of your organization. Ask one of them."),
}


def allows(role: str, right: Right) -> bool:
    return right in BY_ROLE.get(role, frozenset())


def covers(role: str, other: str) -> bool:
    """May whoever has `role` give `other`, or take it? Nobody gives or takes what they may not do themselves."""
    return BY_ROLE[other] <= BY_ROLE[role]


def with_right(right: Right) -> list[str]:
    return [role for role in BY_ROLE if allows(role, right)]


def givers(right: Right) -> list[str]:
    """The roles that can give it to another: they manage members and have it themselves."""
    return [role for role in with_right(right) if allows(role, Right.MEMBERS)]
