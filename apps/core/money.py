"""Money is an integer of micro-USD: 1 USD = 1,000,000 micro-USD. No float ever holds an amount."""

from decimal import Decimal

MICROUSD_PER_USD = 1_000_000
MICROUSD_PER_CENT = 10_000
TOKENS_PER_MTOK = 1_000_000


def cost_microusd(*, units: int, price_microusd: int, per: int = 1) -> int:
    """The price of `units` at `price_microusd` for every `per` of them, rounded up once.

    >>> cost_microusd(units=1, price_microusd=120_000, per=TOKENS_PER_MTOK)
    1
    """
    return -(-units * price_microusd // per)


def usd(microusd: int) -> Decimal:
    return Decimal(microusd) / MICROUSD_PER_USD
