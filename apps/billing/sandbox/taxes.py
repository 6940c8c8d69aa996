"""The double's own, very simple tax: 20 % where we would be registered, none elsewhere; a tax id changes nothing.

Stripe Tax knows rates, thresholds and reverse charge; what has to be right here is only that totals add up.
"""

from apps.billing.sandbox.rows import Data

PERCENT = 20
COUNTRIES = ("AT", "DE", "ES", "FR", "GB", "IE", "IT", "NL", "PL", "SE")


def cents(subtotal: int, *, enabled: bool, country: str | None, behavior: str = "exclusive") -> int:
    """The tax on top of a subtotal, rounded half up. Away from zero also where a proration is negative."""
    if not enabled or country not in COUNTRIES or behavior == "inclusive":
        return 0
    tax = (abs(subtotal) * PERCENT + 50) // 100
    return tax if subtotal >= 0 else -tax


def automatic(enabled: bool) -> Data:
    return {
        "disabled_reason": None,
        "enabled": enabled,
        "liability": {"type": "self"} if enabled else None,
        "provider": "stripe" if enabled else None,
        "status": "complete" if enabled else None,
    }
