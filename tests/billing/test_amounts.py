from decimal import Decimal

import pytest

from apps.billing.amounts import cents, dollars, top_up_cents
from apps.core.errors import InvalidRequest


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        ("25", 2500),
        ("25.00", 2500),
        ("25.", 2500),
        (" 25.5 ", 2550),
        (Decimal("0.01"), 1),
        (7, 700),
        ("007", 700),
        ("5.10000", 510),
    ],
)
def test_whole_cents_in_usd(amount, expected):
    assert cents(amount) == expected


@pytest.mark.parametrize(
    ("amount", "says"),
    [
        ("", "Enter an amount"),
        (None, "Enter an amount"),
        (True, "Enter an amount"),
        (25.5, "Enter an amount"),
        ([], "Enter an amount"),
        ("-5", "negative"),
        (-5, "negative"),
        ("0", "zero"),
        ("0.00", "zero"),
        ("25.005", "fraction of a cent"),
        (Decimal("0.001"), "fraction of a cent"),
        ("1e3", "not an amount"),
        ("NaN", "not an amount"),
        ("Infinity", "not an amount"),
        ("25,00", "not an amount"),
        ("1,000", "not an amount"),
        ("€25", "not an amount"),
        ("٢٥", "not an amount"),
        ("25\u0000", "not an amount"),
        ("9" * 400, "too large"),
        ("1." + "0" * 400, "too large"),
    ],
)
def test_what_is_no_amount_names_the_field(amount, says):
    with pytest.raises(InvalidRequest, match=says) as refusal:
        cents(amount, param="threshold")
    assert refusal.value.param == "threshold"


def test_the_smallest_and_the_largest(settings):
    assert top_up_cents("5") == 500
    assert top_up_cents("10000") == 1_000_000
    for amount, says in (("4.99", r"smallest amount is \$5\.00"), ("10000.01", r"largest amount is \$10,000\.00")):
        with pytest.raises(InvalidRequest, match=says) as refusal:
            top_up_cents(amount)
        assert refusal.value.param == "amount"


@pytest.mark.parametrize("currency", ["eur", "EUR", "", "usdc"])
def test_only_usd(currency):
    with pytest.raises(InvalidRequest, match="USD only") as refusal:
        top_up_cents("25", currency=currency)
    assert refusal.value.param == "currency"
    assert top_up_cents("25", currency="USD") == 2500


def test_dollars():
    assert dollars(1_234_567) == "$12,345.67"
