"""What a key may do, on which models, where its work may run, from where and until when it is used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext

from apps.accounts import rights
from apps.accounts.models import Organization
from apps.accounts.rights import Right
from apps.accounts.scopes import USUAL, Scope, holds
from apps.catalog.models import Model
from apps.core import places
from apps.core.errors import InvalidRequest, NotAllowed
from apps.core.places import Rule
from apps.keys import addresses
from apps.keys.models import APIKey
from apps.sites.models import Site

# What a member may give a key, by role: no more than the role may do itself.
NEEDS = {
    Scope.INFERENCE.value: {Right.KEYS, Right.WORK},
    Scope.BATCHES.value: {Right.KEYS, Right.WORK},
    Scope.USAGE.value: {Right.KEYS},
    Scope.WEBHOOKS.value: {Right.KEYS, Right.WEBHOOKS},
    Scope.MANAGE.value: {Right.KEYS, Right.EVERY_KEY, Right.WEBHOOKS, Right.MEMBERS, Right.SETTINGS},
}
BY_ROLE = {
    role: frozenset(scope for scope, needed in NEEDS.items() if needed <= held) for role, held in rights.BY_ROLE.items()
}


class BeyondPermit(NotAllowed):
    """Nobody gives a key more than they have themselves. Nothing was changed."""

    code = "beyond_permit"


@dataclass(frozen=True, slots=True)
class Permit:
    """None is no limit; a list is all there is."""

    scopes: tuple[str, ...] = USUAL
    allowed_models: tuple[str, ...] | None = None
    residency: Rule = None
    ip_ranges: tuple[str, ...] | None = None
    expires_at: datetime | None = None

    def columns(self) -> dict[str, Any]:
        """As the key's row holds it, and an audit event with `shown`."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def since(self, seen: Permit, *, now: Permit) -> Permit:
        """What is in force `now`, with what was changed here of what had been `seen`."""
        changed = {each.name: getattr(self, each.name) for each in fields(self)}
        return replace(now, **{name: value for name, value in changed.items() if value != getattr(seen, name)})


def of(key: APIKey) -> Permit:
    return Permit(
        scopes=tuple(key.scopes),
        allowed_models=optional(key.allowed_models),
        residency=optional(key.residency),
        ip_ranges=optional(key.ip_ranges),
        expires_at=key.expires_at,
    )


def optional(values: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)


def checked(permit: Permit, organization: Organization, *, before: Permit | None = None) -> Permit:
    """The permit in the form it is kept. Raises InvalidRequest, whose `param` is the field and whose words the remedy.

    What stood in `before` may stay, a model no longer on offer or a time that has passed among it.
    """
    old = before or Permit(scopes=())
    return replace(
        permit,
        scopes=scopes(permit.scopes),
        allowed_models=models_checked(permit.allowed_models, old.allowed_models or ()),
        residency=residency_checked(permit.residency, organization.residency),
        ip_ranges=None if permit.ip_ranges is None else some(addresses.ranges(permit.ip_ranges), "ip_ranges", "range"),
        expires_at=permit.expires_at if permit.expires_at == old.expires_at else future(permit.expires_at),
    )


def scopes(given: Iterable[str]) -> tuple[str, ...]:
    """Each once, in the order people are shown."""
    asked = list(given)
    unknown = next((scope for scope in asked if scope not in Scope.values), None)
    if unknown is not None:
        raise InvalidRequest(
            gettext("There is no scope '%(scope)s'. There are %(scopes)s.")
            % {"scope": unknown[:40], "scopes": ", ".join(Scope.values)},
            param="scopes",
            code="invalid_value",
        )
    if not asked:
        raise InvalidRequest(
            gettext("Choose what the key may do: at least one scope."), param="scopes", code="invalid_value"
        )
    return tuple(scope for scope in Scope.values if scope in asked)


def some(values: tuple[str, ...], param: str, what: str) -> tuple[str, ...]:
    if not values:
        raise InvalidRequest(
            f"An empty list would allow nothing. Name at least one {what}, or leave it out for no limit.",
            param=param,
            code="invalid_value",
        )
    return values


def models_checked(given: tuple[str, ...] | None, known: tuple[str, ...]) -> tuple[str, ...] | None:
    if given is None:
        return None
    names = tuple(sorted(set(some(given, "allowed_models", "model"))))
    asked = [name for name in names if "\0" not in name]
    known = (*known, *Model.objects.filter(listed=True, name__in=asked).values_list("name", flat=True))
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        raise InvalidRequest(
            gettext("There is no model '%(model)s'. GET /v1/models lists those on offer.") % {"model": unknown[:100]},
            param="allowed_models",
            code="invalid_value",
        )
    return names


def residency_checked(given: Rule, around: Iterable[str] | None, *, param: str = "residency") -> Rule:
    """Countries by their two letters, and what is known of them: regions and sites. `around` is the organization's rule."""
    if given is None:
        return None
    rule = places.fewest(some(given, param, "place"))
    unknown = next((each for each in rule if not (is_country(each) or each in known_places())), None)
    if unknown is not None:
        raise InvalidRequest(
            gettext(
                "“%(place)s” is no place. Name a country by its two letters, such as US, or a region or site of ours, "
                "such as US/Georgia."
            )
            % {"place": unknown[:100]},
            param=param,
            code="invalid_value",
        )
    outside = next((each for each in rule if not places.narrowed((each,), around)), None)
    if outside is not None:
        raise InvalidRequest(
            gettext(
                "“%(place)s” is outside the places your organization allows: %(places)s. A key can only narrow them; an "
                "owner can change them."
            )
            % {"place": outside, "places": ", ".join(around or ()) or "no place"},
            param=param,
            code="invalid_value",
        )
    return rule


def is_country(place: str) -> bool:
    """The form of ISO 3166-1 alpha-2; a country without a site of ours is a rule that waits for one."""
    return len(place) == len("US") and place.isascii() and place.isalpha() and place.isupper()


def known_places() -> set[str]:
    sites = Site.objects.values_list("country", "region", "code")
    return {places.place(*each[:length]) for each in sites for length in (1, 2, 3)}


def future(at: datetime | None) -> datetime | None:
    if at is not None and at <= timezone.now():
        raise InvalidRequest(
            gettext("%(time)s UTC has passed. Choose a later time, or leave it out for a key without an end.")
            % {"time": f"{at:%Y-%m-%d %H:%M}"},
            param="expires_at",
            code="invalid_value",
        )
    return at


def given_by_role(permit: Permit, role: str, *, before: Permit | None = None) -> None:
    """Raises BeyondPermit where a member of this role may not give such a scope. One the key has may stay."""
    beyond = set(permit.scopes) - BY_ROLE[role] - set(before.scopes if before else ())
    if beyond:
        raise BeyondPermit(
            gettext("Your role may not give a key the scope %(scopes)s. Leave it out, or ask an owner.")
            % {"scopes": (" " + gettext("or") + " ").join(sorted(beyond))},
            param="scopes",
        )


def given_by_key(permit: Permit, giver: Permit) -> None:
    """Raises BeyondPermit, which names the first field in which `permit` allows more than the key that gives it."""
    wider = {
        "scopes": all(holds(frozenset(giver.scopes), scope) for scope in permit.scopes),
        "allowed_models": giver.allowed_models is None
        or (permit.allowed_models is not None and set(permit.allowed_models) <= set(giver.allowed_models)),
        "residency": places.within(permit.residency, giver.residency),
        "ip_ranges": addresses.within(permit.ip_ranges, giver.ip_ranges),
        "expires_at": giver.expires_at is None
        or (permit.expires_at is not None and permit.expires_at <= giver.expires_at),
    }
    for name, fits in wider.items():
        if not fits:
            raise beyond(name)


def beyond(name: str) -> BeyondPermit:
    return BeyondPermit(
        f"A key cannot give another key more than it has itself, and '{name}' would. Narrow it, or do this on the "
        "API keys page.",
        param=name,
    )
