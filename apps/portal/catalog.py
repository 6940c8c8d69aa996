"""The catalog's page: which models it lists, and in which order, by what its address says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from django.utils.translation import gettext_lazy

from apps.catalog.models import Model
from apps.core import places
from apps.portal.selectors import ABILITIES, Listing

LAST = float("inf")  # what is not known comes behind what is


def _price(listing: Listing) -> float:
    """Of a million tokens in and one out; what is sold by the page has none to compare."""
    price = listing.offer.price
    return LAST if price.page_microusd else price.input_microusd_per_mtok + price.output_microusd_per_mtok


def _slowness(listing: Listing) -> float:
    """Only a chat's speed is shown."""
    return -(listing.measured.tokens_per_second or 0) if listing.offer.kind == Model.Kind.CHAT else 0


def _energy(listing: Listing) -> float:
    wh = listing.measured.energy_wh
    return LAST if wh is None or listing.offer.price.page_microusd else wh


SORTS: dict[str, tuple[Any, Callable[[Listing], float]]] = {
    "": (gettext_lazy("Most used"), lambda listing: -listing.measured.jobs),
    "price": (gettext_lazy("Lowest price"), _price),
    "speed": (gettext_lazy("Fastest"), _slowness),
    "energy": (gettext_lazy("Least energy"), _energy),
}


class Catalog:
    """`asked` is the address's query; what it names that is not there is as if it named nothing."""

    def __init__(self, listings: list[Listing], asked: Mapping[str, str]) -> None:
        self.all = listings
        self.query = asked.get("q", "").strip()
        self.kind = asked.get("kind", "")
        self.region = asked.get("region", "") if asked.get("region", "") in dict(self.regions) else ""
        self.sort = asked.get("sort", "") if asked.get("sort", "") in SORTS else ""

    @cached_property
    def kinds(self) -> list[tuple[str, Any]]:
        """Kinds of models and what some can do, each where a model is of it."""
        kinds = [(value, label) for value, label in Model.Kind.choices if any(x.offer.kind == value for x in self.all)]
        able = [
            (name, label) for name, label in ABILITIES.items() if any(name in x.offer.capabilities for x in self.all)
        ]
        return [*kinds, *able]

    @cached_property
    def regions(self) -> list[tuple[str, str]]:
        found = {places.place(each.country, each.region): each for listing in self.all for each in listing.places}
        return sorted((value, f"{each.region}, {each.country}") for value, each in found.items())

    @property
    def sorts(self) -> list[tuple[str, Any]]:
        return [(value, label) for value, (label, _) in SORTS.items()]

    @cached_property
    def listings(self) -> list[Listing]:
        words = self.query.lower().split()
        found = [
            listing
            for listing in self.all
            if (not self.kind or self.kind in (listing.offer.kind, *listing.offer.capabilities))
            and all(word in f"{listing.offer.name} {listing.offer.title}".lower() for word in words)
            and (not self.region or any(places.place(x.country, x.region) == self.region for x in listing.places))
        ]
        return sorted(found, key=lambda listing: (SORTS[self.sort][1](listing), listing.offer.name))

    @cached_property
    def widths(self) -> dict[str, str]:
        """By the name of a model the width of its bar of energy, the largest of those listed 100; none for one sold by the page."""
        known = {each.offer.name: _energy(each) for each in self.listings if _energy(each) != LAST}
        most = max(known.values(), default=0)
        return {name: f"{100 * wh / most:.2f}" for name, wh in known.items()} if most else {}
