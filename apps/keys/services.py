"""Issue and revoke keys; say who is calling."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from apps.accounts import audit
from apps.accounts.models import Organization, User
from apps.accounts.scopes import USUAL, Needed, Scope, holds
from apps.core.errors import NotAllowed, NotAuthenticated
from apps.core.ids import public, uuid7
from apps.core.sql import Row
from apps.keys import secrets, statements
from apps.keys.models import APIKey
from apps.ledger import budgets
from apps.webhooks import services as webhooks
from cango_portal import database


class InsufficientScope(NotAllowed):
    """The key may not do this. Nothing was accepted."""

    code = "insufficient_scope"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose work this is. With a key, `user_id` is None; from a page, `api_key_id` is.

    `scopes` are what the key may do; a member's page has them all, and asks for a role instead. `budgets` are those it spends from beside the organization's: the key's, and the one of the member who sends it or
    made the key.
    """

    organization_id: UUID
    api_key_id: UUID | None
    user_id: int | None
    budgets: tuple[int, ...] = ()
    scopes: frozenset[str] = frozenset(Scope.values)

    def may(self, needed: Needed) -> bool:
        return holds(self.scopes, needed)

    def require(self, needed: Needed) -> None:
        """Raises InsufficientScope, which names what is missing and where it is given."""
        if not self.may(needed):
            scope = needed if isinstance(needed, str) else " or ".join(needed or ())
            key = f"{settings.BASE_URL}{reverse('keys:detail', args=[self.api_key_id])}"
            raise InsufficientScope(
                f"This API key lacks the scope {scope}; it has {', '.join(sorted(self.scopes)) or 'none'}. "
                f"Nothing was accepted or charged. Give it the scope at {key}, or use another key."
            )


@transaction.atomic
def issue(
    *,
    organization: Organization,
    name: str,
    user: User | None,
    key_id: UUID | None = None,
    scopes: Iterable[str] = USUAL,
) -> tuple[APIKey, str]:
    """A new key and its secret. The secret is nowhere else: show it once.

    With `key_id`, the id on a form, a second call raises IntegrityError.
    """
    secret = secrets.new()
    key = APIKey.objects.create(
        id=key_id or uuid7(),
        organization=organization,
        created_by=user,
        budget=budgets.budget_of_key(organization, name),
        name=name,
        scopes=ordered(scopes),
        prefix=secrets.prefix(secret),
        sha256=secrets.digest(secret),
    )
    if user is not None:
        budgets.budget_of_member(organization, user)
    audit.record(
        organization=organization, actor=user, action="api_key.issued", target=str(key.pk), data={"prefix": key.prefix}
    )
    told(key, "key.created")
    return key, secret


@transaction.atomic
def revoke(*, key: APIKey, user: User | None, reason: str = "") -> None:
    """End a key, in force with the commit: no door keeps a copy. A second call changes nothing."""
    now = timezone.now()
    if APIKey.objects.filter(pk=key.pk, revoked_at__isnull=True).update(revoked_at=now):
        key.revoked_at = now
        audit.record(
            organization=key.organization,
            actor=user,
            action="api_key.revoked",
            target=str(key.pk),
            reason=reason,
            data={"prefix": key.prefix},
        )
        told(key, "key.revoked")


def ordered(scopes: Iterable[str]) -> list[str]:
    """Each once, in the order people are shown."""
    given = set(scopes)
    return [scope for scope in Scope.values if scope in given]


def told(key: APIKey, type: str) -> None:
    webhooks.notify(
        organization=key.organization_id,
        type=type,
        data={"id": public("key", key.pk), "name": key.name, "prefix": key.prefix},
        key=f"{type}:{key.pk}",
    )


def authenticate(token: str | None) -> Caller:
    """Whose key this is. Raises NotAuthenticated, with one message for unknown, revoked and mistyped keys."""
    return caller(database.run(statements.authenticate(checked(token))))


async def authenticate_async(token: str | None) -> Caller:
    return caller(await database.run_async(statements.authenticate(checked(token))))


def checked(token: str | None) -> str:
    """The digest of a well-formed token; a mistyped one never reaches the database."""
    if not token:
        raise NotAuthenticated("No API key was given. Send one in the header: Authorization: Bearer cango_…")
    if not secrets.well_formed(token):
        raise refusal()
    return secrets.digest(token)


def caller(row: Row | None) -> Caller:
    if row is None:
        raise refusal()
    return Caller(
        organization_id=row["organization_id"],
        api_key_id=row["id"],
        user_id=None,
        budgets=tuple(row["budgets"]),
        scopes=frozenset(row["scopes"]),
    )


def member(organization: Organization, user: User) -> Caller:
    """A member who sends work from a page."""
    budget = budgets.budget_of_member(organization, user)
    return Caller(organization_id=organization.pk, api_key_id=None, user_id=user.pk, budgets=(budget.pk,))


def refusal() -> NotAuthenticated:
    return NotAuthenticated("This API key is unknown, revoked or mistyped. Make a new one on the API keys page.")
