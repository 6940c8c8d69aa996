"""What guards a person's account, in the trail of each organization it opens: its owners see who signs in by what."""

from typing import Any

from allauth.account import signals as account
from allauth.mfa import signals as mfa
from allauth.mfa.models import Authenticator
from django.http import HttpRequest

from apps.accounts import audit
from apps.accounts.models import Organization, User

NOUNS = {
    Authenticator.Type.WEBAUTHN.value: "passkey",
    Authenticator.Type.TOTP.value: "authenticator_app",
    Authenticator.Type.RECOVERY_CODES.value: "recovery_codes",
}


def witnessed(user: User, action: str, data: dict[str, Any] | None = None) -> None:
    """One event in each organization of the person; without one it is the portal's."""
    organizations: list[Organization | None] = list(Organization.objects.filter(memberships__user=user).order_by("pk"))
    for organization in organizations or [None]:
        audit.record(organization=organization, actor=user, action=action, data=data)


def named(authenticator: Authenticator) -> dict[str, Any]:
    return {"name": authenticator.wrap().name} if authenticator.type == Authenticator.Type.WEBAUTHN else {}


def added(*, user: User, authenticator: Authenticator, **_: Any) -> None:
    witnessed(user, f"{NOUNS[authenticator.type]}.added", named(authenticator))


def removed(*, user: User, authenticator: Authenticator, **_: Any) -> None:
    witnessed(user, f"{NOUNS[authenticator.type]}.removed", named(authenticator))


def replaced(*, user: User, authenticator: Authenticator, **_: Any) -> None:
    witnessed(user, f"{NOUNS[authenticator.type]}.replaced")


def password_changed(*, request: HttpRequest, user: User, **_: Any) -> None:
    witnessed(user, "password.changed")


def listen() -> None:
    """allauth tells what it did by signals alone."""
    mfa.authenticator_added.connect(added)
    mfa.authenticator_removed.connect(removed)
    mfa.authenticator_reset.connect(replaced)
    for signal in (account.password_changed, account.password_set, account.password_reset):
        signal.connect(password_changed)
