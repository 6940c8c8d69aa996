"""How numbers are written for people: the design guide's §8, in one place for templates, sockets and exports.

Every function takes what was measured or counted (int, float or Decimal, with the unit in its name) and gives text.
None gives an en dash: "does not apply" or "not measured yet". Spaces before units do not break; minus is a true minus.
"""

from collections.abc import Sequence
from decimal import ROUND_FLOOR, ROUND_HALF_UP, Decimal

Number = int | float | Decimal

NONE = "\N{EN DASH}"
SPACE = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
MICROUSD = Decimal(1_000_000)


def _fixed(value: Decimal, places: int) -> str:
    """With thousands commas, rounded half away from zero; never "−0"."""
    rounded = value.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP)
    sign = MINUS if rounded < 0 else ""
    return f"{sign}{abs(rounded):,.{places}f}"


def _decimal(value: Number) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(str(value))


def _dollars(value: Decimal, places: int) -> str:
    text = _fixed(value, places)
    return f"{MINUS}${text[1:]}" if text.startswith(MINUS) else f"${text}"


def balance(microusd: int | None) -> str:
    """What is there to spend: two decimals, rounded down, so never more than there is."""
    if microusd is None or 0 < microusd < 10_000:
        return money(microusd)
    return money(int((Decimal(microusd) / 10_000).to_integral_value(ROUND_FLOOR)) * 10_000)


def money(microusd: int | None) -> str:
    """An invoice, an amount of a day, a column of both: two decimals; something smaller than a cent is "< $0.01", never $0.00."""
    if microusd is None:
        return NONE
    if 0 < microusd < 10_000:
        return f"<{SPACE}$0.01"
    return _dollars(Decimal(microusd) / MICROUSD, 2)


def money_small(microusd: int | None) -> str:
    """One job or one row: four decimals. What is smaller than half of the last shows all six, so it is never zero."""
    if microusd is None:
        return NONE
    return _dollars(Decimal(microusd) / MICROUSD, 6 if 0 < abs(microusd) < 50 else 4)


def dollars(microusd: int, places: int) -> str:
    """With so many decimals, as a sum needs them (see `sum_places`)."""
    return _dollars(Decimal(microusd) / MICROUSD, places)


def sum_places(*sums: tuple[int, Sequence[int]]) -> int:
    """The fewest decimals, 4 to 6, at which each (total, parts) adds up as it is shown and no amount but 0 reads as 0.

    Six are exact.
    """
    for places in (4, 5):
        one = Decimal(1).scaleb(-places)

        def shown(microusd: int, one: Decimal = one) -> Decimal:
            return (Decimal(microusd) / MICROUSD).quantize(one, rounding=ROUND_HALF_UP)

        amounts = [amount for total, parts in sums for amount in (total, *parts) if amount]
        if all(shown(amount) for amount in amounts) and all(
            shown(total) == sum((shown(part) for part in parts), Decimal(0)) for total, parts in sums
        ):
            return places
    return 6


def ticks(most: Number, *, least: Number) -> list[Decimal]:
    """The marks of an axis that holds `most`, from its upper end down to 0: two or three steps of 1, 2 or 5 of a power of
    ten, so that each is a short figure and exact. No step is below `least`, which is such a number itself.

    >>> [str(mark) for mark in ticks(5, least=1)], [str(mark) for mark in ticks(1, least=1)]
    (['6', '4', '2', '0'], ['2', '1', '0'])
    """
    highest = max(_decimal(most), _decimal(least))
    power = Decimal(1).scaleb((highest / 3).adjusted())
    step = next(step for digit in (1, 2, 5, 10) if 3 * (step := max(power * digit, _decimal(least))) >= highest)
    return [step * number for number in range(2 if 2 * step >= highest else 3, -1, -1)]


def money_ticks(marks: Sequence[Decimal]) -> list[str]:
    """Marks of `ticks` in micro-USD: each exact, with the decimals that the smallest needs, at least two.

    >>> money_ticks(ticks(9_000, least=1))
    ['$0.010', '$0.005', '0']
    """
    places = max(2, -int((marks[-2] / MICROUSD).normalize().as_tuple().exponent))
    return [_dollars(mark / MICROUSD, places) if mark else "0" for mark in marks]


def money_column(microusd: int | None) -> str:
    """Four decimals and no other number of them, as the rows of a column need it.

    >>> money_column(1218), money_column(21), money_column(0)
    ('$0.0012', '<\\xa0$0.0001', '$0.0000')
    """
    if microusd is None:
        return NONE
    return f"<{SPACE}$0.0001" if 0 < microusd < 50 else dollars(microusd, 4)


def energy_column(wh: float | None) -> str:
    """Wh with three decimals, for a column.

    >>> energy_column(0.41), energy_column(0.00004), energy_column(None)
    ('0.410\\xa0Wh', '<\\xa00.001\\xa0Wh', '–')
    """
    if wh is None:
        return NONE
    value = _decimal(wh)
    return f"<{SPACE}0.001{SPACE}Wh" if 0 < value < Decimal("0.0005") else f"{_fixed(value, 3)}{SPACE}Wh"


def price(microusd: int | Decimal | None) -> str:
    """A price for a million tokens, a page, a request: exact, with at least two decimals. None for 0: it does not apply."""
    if not microusd:
        return NONE
    value = Decimal(microusd) / MICROUSD
    return _dollars(value, 2) if microusd % 10_000 == 0 else f"${value.normalize():,f}"


def count(value: int | None) -> str:
    """Full to 999,999, then one decimal and M or B."""
    if value is None:
        return NONE
    size = abs(value)
    if size < 1_000_000:
        return _fixed(Decimal(value), 0)
    if size < 999_950_000:
        return f"{_fixed(Decimal(value) / 1_000_000, 1)}{SPACE}M"
    return f"{_fixed(Decimal(value) / 1_000_000_000, 1)}{SPACE}B"


def exact(value: int | None) -> str:
    """Every digit: for `title` and exports."""
    return NONE if value is None else _fixed(Decimal(value), 0)


def context(tokens: int | None) -> str:
    """A context length in thousands of tokens: 131k. 0 does not apply."""
    if not tokens:
        return NONE
    return exact(tokens) if tokens < 1000 else f"{tokens // 1000}k"


def rate_parts(tokens_per_second: Number | None) -> tuple[str, str]:
    """Figure and unit apart. Whole; what would round to zero and is not is "< 1".

    >>> rate_parts(1284.4), rate_parts(0.2), rate_parts(0)
    (('1,284', 'tok/s'), ('<\\xa01', 'tok/s'), ('0', 'tok/s'))
    """
    if tokens_per_second is None:
        return NONE, ""
    value = _decimal(tokens_per_second)
    return f"<{SPACE}1" if 0 < value < Decimal("0.5") else _fixed(value, 0), "tok/s"


def rate(tokens_per_second: Number | None) -> str:
    return SPACE.join(part for part in rate_parts(tokens_per_second) if part)


def latency(seconds: Number | None) -> str:
    """Milliseconds to 999, then seconds with one decimal."""
    if seconds is None:
        return NONE
    milliseconds = _decimal(seconds) * 1000
    if milliseconds < Decimal("999.5"):
        return f"{_fixed(milliseconds, 0)}{SPACE}ms"
    return f"{_fixed(_decimal(seconds), 1)}{SPACE}s"


def _scaled(value: Decimal, units: tuple[str, ...], *, small: int, large: int) -> tuple[str, str]:
    """The value in the largest unit it fills: `small` decimals under 10 of it, `large` above."""
    index = 0
    while index < len(units) - 1 and abs(value) >= Decimal("999.5"):
        value /= 1000
        index += 1
    places = small if abs(value) < Decimal("9.995") else large
    return _fixed(value, places), units[index]


def _small(value: Decimal) -> str:
    """Between 0 and a tenth: two significant digits, at least two decimals and at most six."""
    places = min(1 - value.adjusted(), 6)
    rounded = value.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP)
    if not rounded:
        return f"<{SPACE}0.000001"
    whole, _, decimals = f"{rounded:f}".partition(".")
    return f"{whole}.{decimals.rstrip('0'):0<2}"


def energy_parts(wh: Number | None) -> tuple[str, str]:
    """Figure and unit apart, for a page that greys the unit. Two decimals under 10; under 0.1 Wh two significant digits."""
    if wh is None:
        return NONE, ""
    value = _decimal(wh)
    if 0 < value < Decimal("0.1"):
        return _small(value), "Wh"
    return _scaled(value, ("Wh", "kWh", "MWh"), small=2, large=0)


def energy(wh: Number | None) -> str:
    """Wh to 999, kWh, MWh."""
    return SPACE.join(part for part in energy_parts(wh) if part)


def carbon(gco2e: Number | None) -> str:
    """Grams, kilograms, tonnes of CO₂ equivalent; two decimals under 10, two significant digits under a tenth."""
    if gco2e is None:
        return NONE
    value = _decimal(gco2e)
    if 0 < value < Decimal("0.1"):
        return f"{_small(value)}{SPACE}g"
    figure, unit = _scaled(value, ("g", "kg", "t"), small=2, large=0)
    return f"{figure}{SPACE}{unit}"


def power(w: Number | None, *, places: int = 1) -> str:
    """W, kW, MW: one decimal, two where AI load is compared; whole watts. What would round to zero and is not is "< 1 W"."""
    if w is None:
        return NONE
    value = _decimal(w)
    if 0 < value < Decimal("0.5"):
        return f"<{SPACE}1{SPACE}W"
    if abs(value) < Decimal("999.5"):
        return f"{_fixed(value, 0)}{SPACE}W"
    figure, unit = _scaled(value, ("W", "kW", "MW"), small=places, large=places)
    return f"{figure}{SPACE}{unit}"


def percent(ratio: Number | None) -> str:
    """From a ratio: whole; under 1% one or two decimals, as needed."""
    if ratio is None:
        return NONE
    value = _decimal(ratio) * 100
    if value == 0 or abs(value) >= Decimal("0.995"):
        return f"{_fixed(value, 0)}%"
    if abs(value) < Decimal("0.005"):
        return f"<{SPACE}0.01%"
    return f"{_fixed(value, 2).rstrip('0')}%"


def uptime(ratio: Number | None) -> str:
    """A share of time, with two decimals, rounded down: 100% only where nothing was missed."""
    if ratio is None:
        return NONE
    value = (_decimal(ratio) * 10_000).to_integral_value(ROUND_FLOOR) / 100
    return "100%" if value == 100 else f"{_fixed(value, 2)}%"


def basis_points(points: int) -> str:
    """Exact: a discount and a share of a price are money.

    >>> basis_points(5000), basis_points(1250), basis_points(1)
    ('50%', '12.5%', '0.01%')
    """
    return f"{(Decimal(points) / 100).normalize():,f}%"


def temperature(celsius: Number | None) -> str:
    return NONE if celsius is None else f"{_fixed(_decimal(celsius), 0)}{SPACE}°C"


def duration(seconds: Number | None) -> str:
    """One or two units: 40 s, 8 min, 1 h 52 min, 3 d 4 h. Under ten seconds one decimal, under one milliseconds."""
    if seconds is None:
        return NONE
    value = _decimal(seconds)
    if value < Decimal("9.95"):
        return "0" + SPACE + "s" if value <= 0 else latency(value)
    whole = int(value.quantize(Decimal(1), rounding=ROUND_HALF_UP))
    if whole < 60:
        return f"{whole}{SPACE}s"
    minutes = (whole + 30) // 60
    if minutes < 60:
        return f"{minutes}{SPACE}min"
    if minutes < 24 * 60:
        return _two(minutes // 60, "h", minutes % 60, "min")
    hours = (minutes + 30) // 60
    return _two(hours // 24, "d", hours % 24, "h")


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    text = f"{large}{SPACE}{large_unit}"
    return f"{text}{SPACE}{small}{SPACE}{small_unit}" if small else text


def size(n_bytes: int | None) -> str:
    """Decimal units: 812 B, 24 kB, 18.2 MB."""
    if n_bytes is None:
        return NONE
    if n_bytes < 1000:
        return f"{n_bytes}{SPACE}B"
    if n_bytes < 999_500:
        return f"{_fixed(Decimal(n_bytes) / 1000, 0)}{SPACE}kB"
    return f"{_fixed(Decimal(n_bytes) / 1_000_000, 1)}{SPACE}MB"
