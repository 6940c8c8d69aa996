"""Work stays where the customer said."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.core import places
from apps.scheduling.placement import OUTSIDE, rank
from tests.scheduling.test_placement import pool

COUNTRIES = ("US", "DE", "NO")
REGIONS = ("Georgia", "Texas", "Hesse", "A/B", "US")
SITES = ("ga-1", "ga-10", "ga", "us")
PLACES = [
    places.place(*parts)
    for country in COUNTRIES
    for parts in (
        (country,),
        *((country, region) for region in REGIONS),
        *((country, region, site) for region in REGIONS for site in SITES),
    )
]
rules = st.none() | st.lists(st.sampled_from(PLACES), max_size=4).map(tuple)


@given(st.sampled_from(PLACES), rules, rules)
def test_two_rules_allow_what_both_allow(place, one, other):
    both = places.narrowed(one, other)
    assert places.inside(place, both) == (places.inside(place, one) and places.inside(place, other))
    assert places.within(both, one)
    assert places.within(both, other)
    assert places.narrowed(both, one) == both


def test_a_place_is_not_the_one_whose_name_it_begins_with():
    assert not places.inside("US/Georgia/ga-10", ("US/Georgia/ga-1",))
    assert not places.inside("US/Georgia", ("US/Georgia/ga-1",))
    assert not places.inside("US/Georgian/x", ("US/Georgia",))
    assert places.place("US", "A/B", "s") == "US/A-B/s"
    assert not places.inside(places.place("US", "A/B", "s"), ("US/A",))
    assert places.narrowed(("US",), ("DE", "US/Georgia")) == ("US/Georgia",)
    assert places.narrowed(("US",), ("DE",)) == ()


def test_a_pool_outside_is_refused_first_and_named_last():
    ranked = rank(
        [
            pool("cheap", 1, country="DE", site_code="cheap"),
            pool("broken", 50, ready=False, reason="engine restarting", site_code="broken"),
            pool("good", 90, site_code="good"),
            pool("silent", 2, country="DE", silent_seconds=60.0),
        ],
        ["US"],
    )
    assert [(each.pool.code, each.refusal) for each in ranked] == [
        ("good", ""),
        ("broken", "engine restarting"),
        ("cheap", OUTSIDE),
        ("silent", OUTSIDE),
    ]
    assert [each.refusal for each in rank([pool("good")], [])] == [OUTSIDE]


@pytest.mark.story
@pytest.mark.parametrize(
    "placements", [20_000, pytest.param(1_000_000, marks=[pytest.mark.whole, pytest.mark.timeout(900)])]
)
def test_no_random_placement_is_outside(placements):
    """By another reading of the rule than the code's: part by part. 10 pools a fleet, so the outcome is never trivial."""
    chance = random.Random(4)
    outside = inside = nowhere = 0
    while outside + inside + nowhere < placements:
        fleet = [
            pool(
                f"p{n}",
                chance.random() * 100,
                ready=chance.random() < 0.8,
                country=chance.choice(COUNTRIES),
                region=chance.choice(REGIONS),
                site_code=chance.choice(SITES),
            )
            for n in range(10)
        ]
        for _ in range(200):
            rule = chance.sample(PLACES, chance.randint(0, 4))
            best = rank(fleet, rule)[0]
            if best.refusal:
                nowhere += 1
                continue
            where = (best.pool.country, best.pool.region.replace("/", "-"), best.pool.site_code)
            if any(where[: len(parts)] == tuple(parts) for parts in (each.split("/") for each in rule)):
                inside += 1
            else:
                outside += 1
    assert outside == 0
    assert inside > placements // 10
    assert nowhere > placements // 10
