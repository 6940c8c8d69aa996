"""The organization's own rule of places, and the places there are to choose from."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import transaction
from django.utils.translation import gettext

from apps.accounts import audit
from apps.accounts.models import Organization, User
from apps.core import places
from apps.core.places import Rule
from apps.keys import permits
from apps.keys.models import APIKey
from apps.keys.permits import BeyondPermit
from apps.sites.models import Site


def choices(around: Iterable[str] | None = None, kept: Iterable[str] = ()) -> list[tuple[str, str]]:
    """Countries, their regions and sites, each with what people read; those inside `around`, and those of `kept`."""
    found: dict[str, str] = {}
    for country, region, code, name in Site.objects.values_list("country", "region", "code", "name"):
        found[places.place(country)] = country
        found[places.place(country, region)] = f"{region}, {country}"
        found[places.place(country, region, code)] = f"{name}, {region}, {country}"
    rule = permits.optional(around)
    offered = {place: words for place, words in found.items() if places.inside(place, rule)}
    return sorted(({place: places.named(place) for place in kept} | offered).items())


def words(rule: Iterable[str]) -> str:
    """A rule for people: `Hesse, DE; US`."""
    return "; ".join(places.named(each) for each in rule) or gettext("no place")


@transaction.atomic
def set_rule(*, organization: Organization, residency: Rule, user: User | None, by: APIKey | None = None) -> bool:
    """Where all work of the organization may run, from the next request on; None is everywhere. False where nothing differs.

    Work accepted before keeps the rule of its admission. A key only narrows it, for a wider one would widen the key too.
    Raises InvalidRequest and BeyondPermit.
    """
    rule = permits.residency_checked(residency, None)
    locked = Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
    if by is not None and not places.within(
        rule, places.narrowed(permits.optional(locked.residency), permits.of(by).residency)
    ):
        raise BeyondPermit(
            "A key can only narrow the places where the work of its organization may run, to some of its own. Nothing was "
            "changed. An owner can change them, signed in.",
            param="residency",
        )
    old, new = locked.residency, None if rule is None else list(rule)
    if old == new:
        return False
    locked.residency = organization.residency = new
    locked.save(update_fields=["residency"])
    audit.record(
        organization=locked,
        actor=user,
        action="organization.residency_changed",
        target=locked.public_id,
        data={"from": old, "to": new, **({"by_key": by.prefix} if by else {})},
    )
    return True


def left_nowhere(organization: Organization) -> list[APIKey]:
    """Keys in force whose places have none in common with the organization's."""
    keys = APIKey.objects.of(organization).active().filter(residency__isnull=False)
    return [key for key in keys if places.narrowed(organization.residency, key.residency) == ()]
