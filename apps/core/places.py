"""Where work may run. A place is a country, a region of it, or a site there: `US`, `US/Georgia`, `US/Georgia/ga-1`.

A rule is the places that are allowed. None allows every place, an empty one allows none.
"""

from collections.abc import Iterable

Rule = tuple[str, ...] | None


def place(country: str, region: str = "", site: str = "") -> str:
    """A site's own place, or with less the one it lies in. No part can end another's: a slash in a name counts as a dash."""
    parts = [country, region, site]
    while parts and not parts[-1]:
        parts.pop()
    return "/".join(part.replace("/", "-") or "-" for part in parts)


def inside(place: str, rule: Iterable[str] | None) -> bool:
    return rule is None or any(place == each or place.startswith(f"{each}/") for each in rule)


def narrowed(*rules: Iterable[str] | None) -> Rule:
    """What all of these allow, in as few places as they name: whoever adds a rule can only take places away."""
    found: Rule = None
    for rule in rules:
        if rule is not None:
            given = tuple(rule)
            both = given if found is None else (*filter_inside(given, found), *filter_inside(found, given))
            found = fewest(both)
    return found


def filter_inside(places: Iterable[str], rule: Iterable[str]) -> list[str]:
    return [each for each in places if inside(each, rule)]


def fewest(places: Iterable[str]) -> tuple[str, ...]:
    """Sorted, without those that lie in another of them."""
    kept: list[str] = []
    for each in sorted(set(places), key=lambda each: (each.count("/"), each)):
        if not inside(each, kept):
            kept.append(each)
    return tuple(sorted(kept))


def within(rule: Iterable[str] | None, other: Iterable[str] | None) -> bool:
    """Does `rule` allow nothing that `other` does not?"""
    if other is None:
        return True
    return rule is not None and all(inside(each, other) for each in rule)


def named(place: str) -> str:
    """A place for people, the smallest part first.

    >>> named("US/Georgia"), named("US")
    ('Georgia, US', 'US')
    """
    return ", ".join(reversed(place.split("/")))
