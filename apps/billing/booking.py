"""What a handler of events returns, and how it refuses."""

from collections.abc import Callable

from apps.billing.models import Event

Write = Callable[[], object]
Handler = Callable[[Event], Write | None]


class NotBooked(Exception):
    """Stripe's object and our rows disagree: nothing is booked, and the event fails with this sentence for staff."""
