"""Amounts as people and Stripe write them: USD, whole cents."""

import re
from decimal import Decimal

from django.conf import settings
from django.utils.translation import gettext

from apps.core.errors import InvalidRequest
from apps.core.money import MICROUSD_PER_CENT

PLAIN = re.compile(r"[0-9]+(\.[0-9]*)?", re.ASCII)
LONGEST = 20  # characters: past that it is huge, whatever it is


def microusd(cents: int) -> int:
    return cents * MICROUSD_PER_CENT


def dollars(cents: int) -> str:
    return f"${Decimal(cents) / 100:,.2f}"


def cents(amount: object, *, param: str = "amount") -> int:
    """A positive amount in USD, given as text, int or Decimal, as integer cents. Raises InvalidRequest naming `param`."""
    text = str(amount).strip() if isinstance(amount, str | int | Decimal) and not isinstance(amount, bool) else ""
    if not text:
        raise InvalidRequest(gettext("Enter an amount in USD, such as 25 or 25.00."), param=param)
    if text.startswith("-") and PLAIN.fullmatch(text[1:]):
        raise InvalidRequest(gettext("The amount is negative. Enter one above zero. Nothing was charged."), param=param)
    if len(text) > LONGEST and PLAIN.fullmatch(text):
        raise InvalidRequest(gettext("The amount is too large. Nothing was charged."), param=param)
    if not PLAIN.fullmatch(text):
        raise InvalidRequest(gettext("This is not an amount in USD. Enter one such as 25 or 25.00."), param=param)
    value = Decimal(text) * 100
    if value != value.to_integral_value():
        raise InvalidRequest(
            gettext("The amount has a fraction of a cent. Enter whole cents, such as 25.50."), param=param
        )
    if value == 0:
        raise InvalidRequest(gettext("The amount is zero. Enter one above zero. Nothing was charged."), param=param)
    return int(value)


def top_up_cents(amount: object, *, currency: str = "usd", param: str = "amount") -> int:
    """An amount of credit that may be bought. Raises InvalidRequest naming the field."""
    if currency.lower() != "usd":
        raise InvalidRequest(gettext("Credit is sold in USD only. Nothing was charged."), param="currency")
    found = cents(amount, param=param)
    if found < settings.TOP_UP_MIN_CENTS:
        least = dollars(settings.TOP_UP_MIN_CENTS)
        raise InvalidRequest(
            gettext("The smallest amount is %(least)s. Nothing was charged.") % {"least": least}, param=param
        )
    if found > settings.TOP_UP_MAX_CENTS:
        most = dollars(settings.TOP_UP_MAX_CENTS)
        raise InvalidRequest(
            gettext("The largest amount is %(most)s. Write to us for more. Nothing was charged.") % {"most": most},
            param=param,
        )
    return found
