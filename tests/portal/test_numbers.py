"""The examples of the design guide's §8, exactly, and the edges between them."""

from decimal import Decimal

import pytest

from apps.core import numbers

NARROW = "\N{NO-BREAK SPACE}"


def spaced(text: str) -> str:
    return text.replace(" ", NARROW)


@pytest.mark.parametrize(
    ("microusd", "text"),
    [
        (412_800_000, "$412.80"),
        (12_480_000_000, "$12,480.00"),
        (0, "$0.00"),
        (9_999, spaced("< $0.01")),
        (1, spaced("< $0.01")),
        (10_000, "$0.01"),
        (14_999, "$0.01"),
        (15_000, "$0.02"),
        (-1_500_000, "−$1.50"),
        (None, "–"),
    ],
)
def test_money(microusd, text):
    assert numbers.money(microusd) == text


@pytest.mark.parametrize(
    ("microusd", "text"),
    [(300, "$0.0003"), (0, "$0.0000"), (1, "$0.000001"), (49, "$0.000049"), (50, "$0.0001"), (1_234_567, "$1.2346")],
)
def test_money_of_one_job(microusd, text):
    assert numbers.money_small(microusd) == text


@pytest.mark.parametrize(
    ("microusd", "text"),
    [
        (4_995_500, "$4.99"),
        (5_000_000, "$5.00"),
        (12_480_009_999, "$12,480.00"),
        (9_999, spaced("< $0.01")),
        (0, "$0.00"),
        (-1_501_000, "−$1.51"),
        (None, "–"),
    ],
)
def test_a_balance_is_never_more_than_there_is(microusd, text):
    assert numbers.balance(microusd) == text


@pytest.mark.parametrize(
    ("microusd", "text"),
    [
        (120_000, "$0.12"),
        (600_000, "$0.60"),
        (1_500, "$0.0015"),
        (12_480_000, "$12.48"),
        (1_505_000, "$1.505"),
        (1, "$0.000001"),
        (0, "–"),
    ],
)
def test_prices_are_exact(microusd, text):
    assert numbers.price(microusd) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (48_210, "48,210"),
        (999_999, "999,999"),
        (1_200_000, spaced("1.2 M")),
        (999_949_999, spaced("999.9 M")),
        (999_950_000, spaced("1.0 B")),
        (0, "0"),
        (-3, "−3"),
        (None, "–"),
    ],
)
def test_counts(value, text):
    assert numbers.count(value) == text


def test_exact_counts_never_shorten():
    assert numbers.exact(1_234_567_890) == "1,234,567,890"


def test_context_lengths():
    assert [numbers.context(each) for each in (131_072, 4096, 512, 0)] == ["131k", "4k", "512", "–"]


def test_rate():
    assert numbers.rate(1284.4) == spaced("1,284 tok/s")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.24, "240 ms"), (1.9, "1.9 s"), (0.9994, "999 ms"), (0.9996, "1.0 s"), (0, "0 ms")]
)
def test_latency(seconds, text):
    assert numbers.latency(seconds) == spaced(text)


@pytest.mark.parametrize(
    ("wh", "text"),
    [
        (0.31, "0.31 Wh"),
        (304, "304 Wh"),
        (9.994, "9.99 Wh"),
        (9.996, "10 Wh"),
        (999.4, "999 Wh"),
        (999.6, "1.00 kWh"),
        (2_460_000, "2.46 MWh"),
        (0.0042, "0.0042 Wh"),
        (0.0051, "0.0051 Wh"),
        (0.0314, "0.031 Wh"),
        (0.05, "0.05 Wh"),
        (0.0996, "0.10 Wh"),
        (0.1, "0.10 Wh"),
        (0.00042, "0.00042 Wh"),
        (0.0000001, "< 0.000001 Wh"),
        (0, "0.00 Wh"),
        (Decimal("0.31"), "0.31 Wh"),
    ],
)
def test_energy(wh, text):
    assert numbers.energy(wh) == spaced(text)


def test_carbon():
    assert [numbers.carbon(each) for each in (0.12, 118, 1_180, 0.0012, 0.0051, None)] == [
        spaced("0.12 g"),
        spaced("118 g"),
        spaced("1.18 kg"),
        spaced("0.0012 g"),
        spaced("0.0051 g"),
        "–",
    ]


@pytest.mark.parametrize(
    ("w", "text"),
    [
        (35_900_000, "35.9 MW"),
        (1_240, "1.2 kW"),
        (87.4, "87 W"),
        (999.6, "1.0 kW"),
        (0.5, "1 W"),
        (0.4, "< 1 W"),
        (0, "0 W"),
    ],
)
def test_power(w, text):
    assert numbers.power(w) == spaced(text)


def test_power_compared_has_two_decimals():
    assert numbers.power(2_460_000, places=2) == spaced("2.46 MW")


@pytest.mark.parametrize(
    ("ratio", "text"), [(0.62, "62%"), (0.0012, "0.12%"), (0.005, "0.5%"), (0, "0%"), (1, "100%"), (0.00001, "< 0.01%")]
)
def test_percent(ratio, text):
    assert numbers.percent(ratio) == spaced(text)


def test_temperature():
    assert numbers.temperature(87.6) == spaced("88 °C")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (40, "40 s"),
        (480, "8 min"),
        (6_720, "1 h 52 min"),
        (3_600, "1 h"),
        (59.6, "1 min"),
        (3_599, "1 h"),
        (0.24, "240 ms"),
        (3.14, "3.1 s"),
        (0, "0 s"),
        (90_000, "1 d 1 h"),
    ],
)
def test_duration(seconds, text):
    assert numbers.duration(seconds) == spaced(text)


def test_size():
    assert [numbers.size(each) for each in (812, 24_300, 18_200_000)] == [
        spaced("812 B"),
        spaced("24 kB"),
        spaced("18.2 MB"),
    ]


@pytest.mark.parametrize(
    ("most", "marks"),
    [
        (1, [2, 1, 0]),
        (2, [2, 1, 0]),
        (3, [3, 2, 1, 0]),
        (4, [4, 2, 0]),
        (5, [6, 4, 2, 0]),
        (7, [10, 5, 0]),
        (11, [15, 10, 5, 0]),
        (16, [20, 10, 0]),
        (21, [30, 20, 10, 0]),
        (999_999, [1_000_000, 500_000, 0]),
    ],
)
def test_marks_of_an_axis_are_whole_and_equally_far_apart(most, marks):
    assert numbers.ticks(most, least=1) == marks


def test_marks_of_what_is_measured_are_as_short():
    assert [str(mark) for mark in numbers.ticks(0.0123, least=Decimal("0.000001"))] == [
        "0.015",
        "0.010",
        "0.005",
        "0.000",
    ]
    assert numbers.ticks(0, least=Decimal("0.001")) == [Decimal("0.002"), Decimal("0.001"), 0]


def test_a_bar_fills_three_fifths_of_its_plot():
    """But where half a micro-dollar would be a mark."""
    assert [most for most in range(2, 3000) if most < numbers.ticks(most, least=1)[0] * Decimal("0.6")] == []


@pytest.mark.parametrize(
    ("microusd", "marks"),
    [
        (5, ["$0.000006", "$0.000004", "$0.000002", "0"]),
        (12_345, ["$0.015", "$0.010", "$0.005", "0"]),
        (15_001, ["$0.02", "$0.01", "0"]),
        (1_234_500_000, ["$1,500.00", "$1,000.00", "$500.00", "0"]),
    ],
)
def test_marks_in_money_have_one_number_of_decimals(microusd, marks):
    assert numbers.money_ticks(numbers.ticks(microusd, least=1)) == marks
