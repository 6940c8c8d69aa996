"""What a usage costs, to the micro-dollar, and that no usage costs more than its hold."""

from dataclasses import replace
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.catalog.models import Tier
from apps.catalog.prices import STANDARD, Price, Terms

PRICE = Price(
    id=1,
    input_microusd_per_mtok=120_000,
    cached_input_microusd_per_mtok=30_000,
    output_microusd_per_mtok=360_000,
    request_microusd=7,
    page_microusd=1_500,
    batch_basis_points=5_000,
    flexible_basis_points=7_000,
)
USAGE = {"prompt_tokens": 1_234, "cached_prompt_tokens": 200, "completion_tokens": 89, "pages": 3}


def lines(price: Price, terms: Terms = STANDARD, **usage: int) -> dict[str, int]:
    return {line.name: line.microusd for line in price.lines(**{**USAGE, **usage}, terms=terms)}


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        # 1,034 × 0.12 = 124.08; 200 × 0.03 = 6; 89 × 0.36 = 32.04
        (Terms(), {"request": 7, "input": 125, "cached_input": 6, "output": 33, "pages": 4_500}),
        # × 0.7: 4.9; 86.856; 4.2; 22.428; 3,150
        (Terms("flexible"), {"request": 5, "input": 87, "cached_input": 5, "output": 23, "pages": 3_150}),
        # × 0.5: 3.5; 62.04; 3; 16.02; 2,250
        (Terms("batch"), {"request": 4, "input": 63, "cached_input": 3, "output": 17, "pages": 2_250}),
        # × 0.875: 6.125; 108.57; 5.25; 28.035; 3,937.5
        (Terms("standard", 1_250), {"request": 7, "input": 109, "cached_input": 6, "output": 29, "pages": 3_938}),
        # × 0.7 × 0.875: 4.2875; 75.999; 3.675; 19.6245; 2,756.25
        (Terms("flexible", 1_250), {"request": 5, "input": 76, "cached_input": 4, "output": 20, "pages": 2_757}),
        # × 0.5 × 0.0001: nothing that was used is free
        (Terms("batch", 9_999), {"request": 1, "input": 1, "cached_input": 1, "output": 1, "pages": 1}),
    ],
)
def test_each_line_is_rounded_up_once_after_tier_and_discount(terms: Terms, expected: dict[str, int]) -> None:
    assert lines(PRICE, terms) == expected
    assert PRICE.charge_microusd(**USAGE, terms=terms) == sum(expected.values())


def test_without_a_cached_price_cached_input_is_input_and_one_line() -> None:
    price = replace(PRICE, cached_input_microusd_per_mtok=None)
    assert lines(price) == {"request": 7, "input": 149, "output": 33, "pages": 4_500}  # 1,234 × 0.12 = 148.08
    assert lines(price, cached_prompt_tokens=0) == lines(price)
    assert price.cached_input == 120_000


def test_cached_input_may_be_free() -> None:
    price = replace(PRICE, cached_input_microusd_per_mtok=0)
    assert lines(price) == {"request": 7, "input": 125, "output": 33, "pages": 4_500}
    assert price.charge_microusd(prompt_tokens=200, cached_prompt_tokens=200, completion_tokens=0, pages=0) == 7


def test_no_usage_costs_the_request_alone() -> None:
    assert PRICE.charge_microusd(prompt_tokens=0, completion_tokens=0, pages=0) == 7
    free = replace(PRICE, request_microusd=0)
    assert free.charge_microusd(prompt_tokens=0, completion_tokens=0, pages=0) == 0


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        (PRICE, 7 + 121 + 37 + 1_500),  # 1,000 × 0.12 = 120, and one for a prompt that comes as two lines
        (replace(PRICE, cached_input_microusd_per_mtok=None), 7 + 120 + 37 + 1_500),
        (replace(PRICE, cached_input_microusd_per_mtok=0), 7 + 120 + 37 + 1_500),
        (replace(PRICE, cached_input_microusd_per_mtok=200_000), 7 + 201 + 37 + 1_500),  # the dearer of the two
    ],
)
def test_the_hold_takes_no_token_for_cached(price: Price, expected: int) -> None:
    assert price.ceiling_microusd(prompt_tokens=1_000, completion_tokens=101, pages=1) == expected


def test_two_lines_of_a_prompt_reach_the_hold_exactly() -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 0, "pages": 0}  # 12 as one line; 11.88 and 0.03 as two
    assert PRICE.charge_microusd(**usage, cached_prompt_tokens=1) == 7 + 13
    assert PRICE.ceiling_microusd(**usage) == 7 + 13


amounts = st.one_of(st.integers(0, 3), st.integers(0, 10**12))
tokens = st.one_of(st.integers(0, 3), st.integers(0, 2**31 - 1))
price_versions = st.builds(
    Price,
    id=st.just(1),
    input_microusd_per_mtok=amounts,
    cached_input_microusd_per_mtok=st.none() | amounts,
    output_microusd_per_mtok=amounts,
    request_microusd=amounts,
    page_microusd=amounts,
    batch_basis_points=st.integers(1, 10_000),
    flexible_basis_points=st.integers(1, 10_000),
)
terms = st.builds(Terms, tier=st.sampled_from(Tier.values), discount_basis_points=st.integers(0, 9_999))


@settings(max_examples=500)
@given(price=price_versions, terms=terms, data=st.data())
def test_no_usage_within_the_ceilings_costs_more_than_the_hold(price: Price, terms: Terms, data: st.DataObject) -> None:
    most = [data.draw(tokens) for _ in range(3)]
    prompt, completion, pages = (data.draw(st.integers(0, each)) for each in most)
    cached = data.draw(st.integers(0, prompt))
    charge = price.charge_microusd(
        prompt_tokens=prompt, cached_prompt_tokens=cached, completion_tokens=completion, pages=pages, terms=terms
    )
    ceiling = price.ceiling_microusd(prompt_tokens=most[0], completion_tokens=most[1], pages=most[2], terms=terms)
    assert 0 <= charge <= ceiling


@settings(max_examples=300)
@given(price=price_versions, terms=terms, units=tokens)
def test_a_line_is_what_exact_arithmetic_says_rounded_up(price: Price, terms: Terms, units: int) -> None:
    share = Fraction(price.tier_basis_points(terms.tier) * (10_000 - terms.discount_basis_points), 10**8)
    for line in price.lines(prompt_tokens=units, completion_tokens=units, pages=units, terms=terms):
        assert line.microusd == ceil(line.units * line.price_microusd * share / line.per)


@settings(max_examples=200)
@given(price=price_versions, units=tokens, off=st.integers(0, 9_998), tier=st.sampled_from(Tier.values))
def test_a_larger_discount_or_a_cheaper_tier_never_costs_more(price: Price, units: int, off: int, tier: str) -> None:
    usage = {"prompt_tokens": units, "completion_tokens": units, "pages": units}
    assert price.charge_microusd(**usage, terms=Terms(tier, off + 1)) <= price.charge_microusd(
        **usage, terms=Terms(tier, off)
    )
    assert price.charge_microusd(**usage, terms=Terms(tier, off)) <= price.charge_microusd(
        **usage, terms=Terms("standard", off)
    )
