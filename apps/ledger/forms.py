"""Amounts that people type, and the form of a budget's limits."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from django import forms
from django.utils.translation import gettext, gettext_lazy

from apps.core.money import MICROUSD_PER_CENT
from apps.ledger.budgets import Period
from apps.ledger.limits import OFFERED, TITLES, limits_of
from apps.ledger.models import Budget

MOST_CENTS = 1_000_000_000  # ten million dollars
DOLLARS = re.compile(
    r"(?P<sign>[-\u2212\u2013]?)\s*\$?\s*(?P<sign_after>[-\u2212\u2013]?)"
    r"(?P<whole>[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+)(?:\.(?P<part>[0-9]*))?",
    re.ASCII,
)
CENTS = 2  # decimals
DIGITS = 12  # of whole dollars: more are huge, whatever they are


class USDField(forms.Field):
    """Dollars as people write them ("25", "25.50", "$1,000") as integer cents; None where left empty.

    `zero` allows 0, which is an amount for a limit and none to pay.
    """

    widget = forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off", "spellcheck": "false"})

    def __init__(self, *, zero: bool = False, most_cents: int = MOST_CENTS, **options: Any) -> None:
        self.zero = zero
        self.most_cents = most_cents
        options.setdefault("error_messages", {}).setdefault(
            "required", gettext("Enter an amount in USD, such as 25 or 25.50.")
        )
        super().__init__(**options)

    def to_python(self, value: Any) -> int | None:
        text = str(value or "").strip()
        if not text:
            return None
        found = DOLLARS.fullmatch(text)
        if found is None:
            raise forms.ValidationError(gettext("This is not an amount in USD. Enter one such as 25 or 25.50."))
        if found["sign"] or found["sign_after"]:
            raise forms.ValidationError(
                gettext("The amount is negative. Enter zero or more.")
                if self.zero
                else gettext("The amount is negative. Enter one above zero.")
            )
        part = (found["part"] or "").rstrip("0")
        if len(part) > CENTS:
            raise forms.ValidationError(
                gettext("The amount has a fraction of a cent. Enter whole cents, such as 25.50.")
            )
        whole = found["whole"].replace(",", "").lstrip("0")
        if len(whole) > DIGITS:
            raise forms.ValidationError(self.too_large)
        cents = int(whole or 0) * 100 + int(part.ljust(CENTS, "0"))
        if cents == 0 and not self.zero:
            raise forms.ValidationError(gettext("The amount is zero. Enter one above zero."))
        if cents > self.most_cents:
            raise forms.ValidationError(self.too_large)
        return cents

    @property
    def too_large(self) -> str:
        return gettext("The amount is too large. The most is $%(most)s.") % {"most": f"{self.most_cents / 100:,.0f}"}

    def has_changed(self, initial: Any, data: Any) -> bool:
        return str(initial or "") != str(data or "")


def written(cents: int | None) -> str:
    """An amount as it stands in a field."""
    if cents is None:
        return ""
    return f"{cents // 100}" if cents % 100 == 0 else f"{cents // 100}.{cents % 100:02}"


HELP = {
    "total": gettext_lazy("For as long as the key lives. Empty is no limit."),
    "daily": gettext_lazy("Begins anew at 00:00 UTC. Empty is no limit."),
    "weekly": gettext_lazy("Begins anew on Monday, 00:00 UTC. Empty is no limit."),
    "monthly": gettext_lazy("Begins anew on the first, 00:00 UTC. Empty is no limit."),
}


def limit_fields(periods: Iterable[Period]) -> dict[str, USDField]:
    return {
        period: USDField(
            label=gettext("%(period)s, in USD") % {"period": TITLES[period]},
            required=False,
            zero=True,
            help_text=HELP[period],
        )
        for period in periods
    }


class LimitsForm(forms.Form):
    """The limits on offer for a budget, with those it has."""

    def __init__(self, data: Any = None, *, budget: Budget) -> None:
        has = limits_of(budget)
        self.periods = OFFERED[budget.kind]
        super().__init__(data, initial={period: written(_cents(has[period])) for period in self.periods})
        self.fields.update(limit_fields(self.periods))

    @property
    def limits(self) -> dict[Period, int | None]:
        """In micro-USD."""
        return limits_in(self.cleaned_data, self.periods)


def limits_in(cleaned: dict[str, Any], periods: Iterable[Period]) -> dict[Period, int | None]:
    return {period: None if cleaned.get(period) is None else cleaned[period] * MICROUSD_PER_CENT for period in periods}


def _cents(microusd: int | None) -> int | None:
    """Staff may set a limit of less than a cent: shown rounded up."""
    return None if microusd is None else -(-microusd // MICROUSD_PER_CENT)
