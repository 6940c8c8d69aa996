"""Issue, change, replace and revoke keys; say who is calling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext

from apps.accounts import audit
from apps.accounts.models import Organization, User
from apps.accounts.rights import WHY, Right
from apps.accounts.scopes import USUAL, Needed, Scope, holds
from apps.core import places
from apps.core.errors import NotAllowed, NotAuthenticated, PortalError
from apps.core.ids import public, uuid7
from apps.core.places import Rule
from apps.core.sql import Row
from apps.core.turns import Shared
from apps.keys import expiry, figures, givers, permits, secrets, statements
from apps.keys.figures import Figures
from apps.keys.models import APIKey
from apps.keys.permits import Permit
from apps.ledger import budgets, limits
from apps.ledger.budgets import Period
from apps.ledger.models import Budget
from apps.webhooks import services as webhooks
from cango_portal import database

AGENT_LENGTH = 60
FOREVER = datetime.max.replace(tzinfo=UTC)


class InsufficientScope(NotAllowed):
    """The key may not do this. Nothing was accepted."""

    code = "insufficient_scope"


class ModelNotAllowed(NotAllowed):
    """The key names the models it is for, and this is none of them. Nothing was accepted."""

    code = "model_not_allowed"


class NowhereAllowed(NotAllowed):
    """The key's places and its organization's have none in common. Nothing was accepted."""

    code = "no_allowed_place"


class KeyExpired(NotAuthenticated):
    code = "api_key_expired"


class OrganizationClosing(NotAllowed):
    """Its owner asked for the deletion: nothing new begins."""

    code = "organization_closing"


class AddressNotAllowed(NotAuthenticated):
    """The official API answers 401 to an address it does not know, so we do."""

    code = "ip_not_allowed"


class KeyState(PortalError):
    """The key has been revoked, has expired, or was replaced already. Nothing was changed."""

    code, status = "key_state", 409


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose work this is. With a key, `user_id` is None; from a page, `api_key_id` is.

    `scopes` are what the key may do; a member's page has them all, and asks for a role instead. `budgets` are those it
    spends from beside the organization's: the key's, and the one of the member who sends it or made the key.
    `allowed_models` are names; `residency` is where the work may run, the organization's rule in it. None is no limit.
    """

    organization_id: UUID
    api_key_id: UUID | None
    user_id: int | None
    budgets: tuple[int, ...] = ()
    scopes: frozenset[str] = frozenset(Scope.values)
    allowed_models: frozenset[str] | None = None
    residency: Rule = None

    def may(self, needed: Needed) -> bool:
        return holds(self.scopes, needed)

    def maker_may(self, right: Right) -> bool:
        """Of a key, beside its scopes: what whoever made it may, as things stand now."""
        return self.api_key_id is None or givers.maker_may(APIKey.objects.get(pk=self.api_key_id), right)

    @property
    def sees_key(self) -> UUID | None:
        """Of the organization's stored work a key that may not read usage sees what it sent itself; None is all."""
        return None if self.may(Scope.USAGE) else self.api_key_id

    def may_use(self, model: str) -> bool:
        return self.allowed_models is None or model in self.allowed_models

    def require(self, needed: Needed) -> None:
        """Raises InsufficientScope, which names what is missing and where it is given."""
        if not self.may(needed):
            scope = needed if isinstance(needed, str) else " or ".join(needed or ())
            raise InsufficientScope(
                f"This API key lacks the scope {scope}; it has {', '.join(sorted(self.scopes)) or 'none'}. "
                f"Nothing was accepted or charged. Give it the scope at {page_of(self.api_key_id)}, or use another key."
            )

    def require_model(self, model: str) -> None:
        """Raises ModelNotAllowed, which names what the key is for."""
        if self.allowed_models is not None and model not in self.allowed_models:
            raise ModelNotAllowed(
                f"This API key may not use the model '{model[:100]}'; it is for {', '.join(sorted(self.allowed_models))}. "
                f"Nothing was accepted or charged. Change its models at {page_of(self.api_key_id)}, or use another key.",
                param="model",
            )

    def require_place(self, rule: Rule) -> None:
        """Raises NowhereAllowed where `rule`, this caller's with what its work brings, leaves no place."""
        if rule == ():
            raise NowhereAllowed(
                "The places allowed for this work, by its key and its organization, have none in common, so it could run "
                f"nowhere. Nothing was accepted or charged. Change the key's places at {page_of(self.api_key_id)}."
            )


def page_of(key_id: UUID | None) -> str:
    path = reverse("keys:detail", args=[key_id]) if key_id else reverse("keys:index")
    return f"{settings.BASE_URL}{path}"


@transaction.atomic
def issue(
    *,
    organization: Organization,
    name: str,
    user: User | None,
    key_id: UUID | None = None,
    permit: Permit | None = None,
    scopes: Iterable[str] | None = None,
    rates: Figures | None = None,
    spending: Mapping[Period, int | None] | None = None,
    by: APIKey | None = None,
) -> tuple[APIKey, str]:
    """A new key and its secret. The secret is nowhere else: show it once.

    `permit` was checked; `scopes` alone is short for one. That the user, or the key that issues `by`, may give it is asked
    again here. Raises NotAllowed and BeyondPermit. `spending` are limits in micro-USD. With `key_id`, the id on a form, a second call raises
    IntegrityError. A key that is issued `by` another belongs to whoever made that one, and where that one has a limit they
    spend from one budget: no key can lift its own. Rate limits for one model or tier it has from that one too.
    """
    permit = permit or Permit(scopes=tuple(USUAL if scopes is None else scopes))
    permits.scopes(permit.scopes)
    if by is not None:
        givers.calling(by, permit)
    elif user is not None:
        permits.given_by_role(permit, givers.member(organization, user).role)
    maker = by.created_by if by else user
    shared = by.budget if by and by.budget and limited(by.budget) else None
    key, secret = write(
        id=key_id or uuid7(),
        organization=organization,
        created_by=maker,
        budget=shared or budgets.budget_of_key(organization, name),
        name=name,
        permit=permit,
    )
    if maker is not None:
        budgets.budget_of_member(organization, maker)
    figures.write(key, rates or {})
    if by is not None:
        figures.copy(by, key, own=False)
    limited_to = {name: figure for name, figure in (rates or {}).items() if figure is not None}
    recorded(key, "api_key.issued", user=user, by=by, data={**shown(permit), **limited_to})
    if key.budget and spending:
        limits.change(budget=key.budget, actor=user, limits=spending, by_key=by.prefix if by else "")
        key.budget.refresh_from_db()
    told(key, "key.created")
    return key, secret


def write(*, permit: Permit, **fields: Any) -> tuple[APIKey, str]:
    secret = secrets.new()
    key = APIKey.objects.create(
        prefix=secrets.prefix(secret),
        sha256=secrets.digest(secret),
        expiry_told_days=expiry.told_by(permit.expires_at, timezone.now()),
        **permit.columns(),
        **fields,
    )
    return key, secret


def has_limit(key: APIKey) -> bool:
    """May it spend only so much?"""
    return key.budget is not None and limited(key.budget)


def limited(budget: Budget) -> bool:
    return any(limit is not None for limit in limits.limits_of(budget).values())


@transaction.atomic
def change(
    *,
    key: APIKey,
    name: str,
    permit: Permit,
    seen: Permit | None = None,
    rates: Figures | None = None,
    spending: Mapping[Period, int | None] | None = None,
    user: User | None,
    by: APIKey | None = None,
) -> bool:
    """Another name, permit or limits, checked, in force for the next request. False, and no event, where nothing differs.

    Of `permit` only what differs from the one that was `seen` is changed: a scope that was taken meanwhile does not come back.
    Of `spending`, in micro-USD, what is not named stays. Raises KeyState for a key that is not in force, and where the user or
    the key that calls may not do this any more NotAllowed and BeyondPermit.
    """
    own = None
    if by is not None:
        givers.both(by, key)
    elif user is not None:
        own = givers.member(key.organization, user)
    locked = in_force(key)
    if seen is not None:
        permit = permit.since(seen, now=permits.of(locked))
    if by is not None:
        givers.calling(by, permit)
    spends_otherwise = False
    if own and spending and not own.may(Right.PAY):
        raise NotAllowed(str(WHY[Right.PAY]))
    if locked.budget and spending:
        spends_otherwise = limits.change(
            budget=locked.budget, actor=user, limits=spending, by_key=by.prefix if by else ""
        )
    before, rates_before = permits.of(locked), figures.of(locked)
    rates = rates_before if rates is None else rates
    columns = {"name": name, **permit.columns()}
    old, new = {"name": locked.name, **before.columns(), **rates_before}, {**columns, **rates}
    changed = {field: {"from": old[field], "to": new[field]} for field in new if old[field] != new[field]}
    if not changed:
        return spends_otherwise
    if own:
        givers.of_others(own, locked)
        permits.given_by_role(permit, own.role, before=before)
    if permit.scopes != before.scopes:
        permits.scopes(permit.scopes)
    for field, value in columns.items():
        setattr(locked, field, value)
    if before.expires_at != permit.expires_at:
        locked.expiry_told_days = expiry.told_by(permit.expires_at, timezone.now())
    locked.save(update_fields=[*columns, "expiry_told_days"])
    if rates != rates_before:
        figures.write(locked, rates)
    recorded(locked, "api_key.changed", user=user, by=by, data={"changed": written(changed)})
    return True


@transaction.atomic
def replace_key(
    *,
    key: APIKey,
    overlap: timedelta,
    user: User | None,
    key_id: UUID | None = None,
    by: APIKey | None = None,
) -> tuple[APIKey, str]:
    """A new key with the same permit, rate limits and budget, and its secret; the old one works for `overlap` more at most.

    It belongs to whoever replaces, who has its secret: what a role takes from its maker's keys, it takes from this one. Without overlap the old one is revoked. Raises KeyState, IntegrityError for a form sent twice, and NotAllowed and BeyondPermit as `change`.
    """
    own = None
    if by is not None:
        givers.both(by, key)
    elif user is not None:
        own = givers.member(key.organization, user)
    old = in_force(key)
    if by is not None:
        givers.calling(by, permits.of(old))
    if own:
        givers.of_others(own, old)
    if APIKey.objects.filter(organization=old.organization, replaces=old).exists():
        raise KeyState(
            gettext("“%(name)s” was replaced before and ends at its time. Replace the newer key instead.")
            % {"name": old.name}
        )
    new, secret = write(
        id=key_id or uuid7(),
        organization=old.organization,
        created_by=by.created_by if by else user,
        budget=old.budget,
        name=old.name,
        permit=permits.of(old),
        replaces=old,
    )
    figures.copy(old, new, own=True)
    until = min(timezone.now() + overlap, old.expires_at or FOREVER)
    recorded(new, "api_key.replaced", user=user, by=by, data={"replaces": old.prefix, "until": until.isoformat()})
    if overlap:
        old.expires_at, old.expiry_told_days = until, expiry.told_by(until, timezone.now())
        old.save(update_fields=["expires_at", "expiry_told_days"])
    told(new, "key.replaced", replaces=public("key", old.pk), replaced_key_ends_at=until.isoformat())
    if not overlap:
        revoke(key=old, user=user, by=by, reason="replaced")
    return new, secret


def in_force(key: APIKey) -> APIKey:
    """The key's row, locked. Raises KeyState."""
    locked = (
        APIKey.objects.select_for_update(of=("self",))
        .select_related("organization", "created_by", "budget")
        .get(pk=key.pk)
    )
    if locked.state != "active":
        ended = (
            gettext("“%(name)s” is revoked and cannot be changed. Create another key.")
            if locked.state == "revoked"
            else gettext("“%(name)s” is expired and cannot be changed. Create another key.")
        )
        raise KeyState(ended % {"name": locked.name})
    return locked


@transaction.atomic
def revoke(*, key: APIKey, user: User | None, reason: str = "", by: APIKey | None = None) -> None:
    """End a key, in force with the commit: no door keeps a copy. A second call changes nothing."""
    now = timezone.now()
    if APIKey.objects.filter(pk=key.pk, revoked_at__isnull=True).update(revoked_at=now):
        key.revoked_at = now
        recorded(key, "api_key.revoked", user=user, by=by, reason=reason)
        told(key, "key.revoked")


def recorded(
    key: APIKey,
    action: str,
    *,
    user: User | None,
    by: APIKey | None = None,
    reason: str = "",
    data: dict[str, Any] | None = None,
) -> None:
    audit.record(
        organization=key.organization,
        actor=user,
        action=action,
        target=str(key.pk),
        reason=reason,
        data={"prefix": key.prefix, **({"by_key": by.prefix} if by else {}), **(data or {})},
    )


def shown(permit: Permit) -> dict[str, Any]:
    """What differs from a key without limits, for an audit event."""
    usual = Permit().columns()
    return {name: written(value) for name, value in permit.columns().items() if value != usual[name]}


def written(values: Any) -> Any:
    """As JSON takes it."""
    if isinstance(values, dict):
        return {name: written(value) for name, value in values.items()}
    return values.isoformat() if isinstance(values, datetime) else values


def told(key: APIKey, type: str, **more: Any) -> None:
    webhooks.notify(
        organization=key.organization_id,
        type=type,
        data={"id": public("key", key.pk), "name": key.name, "prefix": key.prefix, **more},
        key=f"{type}:{key.pk}",
    )


def authenticate(token: str | None, *, address: str | None = None, agent: str = "") -> Caller:
    """Whose key this is. Raises NotAuthenticated, with one message for unknown, revoked and mistyped keys.

    `address` is the client's, and `agent` how it calls itself.
    """
    return caller(
        database.run(statements.authenticate(checked(token), address=address, agent=first_words(agent))), address
    )


async def authenticate_async(token: str | None, *, address: str | None = None, agent: str = "") -> Caller:
    """Requests of one client at the same moment share the read."""
    return caller(await _rows((checked(token), address, first_words(agent))), address)


async def _row(of: tuple[str, str | None, str]) -> Row | None:
    sha256, address, agent = of
    return await database.run_async(statements.authenticate(sha256, address=address, agent=agent))


_rows = Shared(_row)


def first_words(agent: str) -> str:
    """`OpenAI/Python 2.9.0`, without the rest of what a browser says."""
    return "".join(each for each in agent.partition("(")[0] if each.isprintable()).strip()[:AGENT_LENGTH]


def checked(token: str | None) -> str:
    """The digest of a well-formed token; a mistyped one never reaches the database."""
    if not token:
        raise NotAuthenticated("No API key was given. Send one in the header: Authorization: Bearer cango_…")
    if not secrets.well_formed(token):
        raise refusal()
    return secrets.digest(token)


def caller(row: Row | None, address: str | None = None) -> Caller:
    if row is None:
        raise refusal()
    if row["expired"]:
        raise KeyExpired(
            f"This API key expired on {row['expires_at']:%-d %B %Y at %H:%M} UTC. Make a new one on the API keys page."
        )
    if row["closing"]:
        raise OrganizationClosing(
            "This organization is to be deleted, so its API keys have stopped. An owner can undo that on the organization's page."
        )
    if row["elsewhere"]:
        raise AddressNotAllowed(
            f"This API key may not be used from {address or 'an address that cannot be told'}: it is in none of the key's "
            f"IP ranges. Change them at {page_of(row['id'])}."
        )
    return Caller(
        organization_id=row["organization_id"],
        api_key_id=row["id"],
        user_id=None,
        budgets=tuple(row["budgets"]),
        scopes=frozenset(row["scopes"]),
        allowed_models=None if row["allowed_models"] is None else frozenset(row["allowed_models"]),
        residency=places.narrowed(row["around"], row["residency"]),
    )


def member(organization: Organization, user: User) -> Caller:
    """A member who sends work from a page."""
    budget = budgets.budget_of_member(organization, user)
    return Caller(
        organization_id=organization.pk,
        api_key_id=None,
        user_id=user.pk,
        budgets=(budget.pk,),
        residency=permits.optional(organization.residency),
    )


def refusal() -> NotAuthenticated:
    return NotAuthenticated("This API key is unknown, revoked or mistyped. Make a new one on the API keys page.")
