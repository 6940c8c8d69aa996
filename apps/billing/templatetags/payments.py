"""Amounts of payments, and what the lists of them need."""

from django import template
from django.utils.translation import gettext_lazy, pgettext_lazy

from apps.billing.models import Invoice
from apps.billing.selectors import invoice_key
from apps.core import numbers
from apps.core.money import MICROUSD_PER_CENT

register = template.Library()

INVOICE_STATES = {
    "open": pgettext_lazy("invoice", "Open"),
    "paid": gettext_lazy("Paid"),
    "uncollectible": gettext_lazy("Not paid"),
    "void": gettext_lazy("Void"),
}


@register.filter
def cents(value: int | None) -> str:
    """Two decimals, and "$0.00" only for nothing."""
    return numbers.NONE if value is None else numbers.dollars(value * MICROUSD_PER_CENT, 2)


@register.filter
def signed(microusd: int, places: int) -> str:
    """A change, with its sign and so many decimals: one number of them in a column (`Page.decimals`)."""
    if not microusd:
        return numbers.NONE
    return f"{'+' if microusd > 0 else numbers.MINUS}{numbers.dollars(abs(microusd), places)}"


@register.filter
def key(invoice: Invoice) -> str:
    return invoice_key(invoice)


@register.filter
def invoice_state(state: str) -> str:
    return str(INVOICE_STATES.get(state, state))
