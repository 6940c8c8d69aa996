from apps.billing import top_ups
from apps.billing.booking import Write
from apps.billing.models import Event


def session_changed(event: Event) -> Write | None:
    """Paid, expired, or completed and still waiting for the bank: what the session says now, not what the event said."""
    payment = top_ups.read_session(event.object_id)
    return (lambda: top_ups.book(payment)) if payment else None


def session_failed(event: Event) -> Write | None:
    """The bank refused a payment of the delayed kind. Stripe's session says only "unpaid", so the event tells which."""
    payment = top_ups.read_session(event.object_id)
    return (lambda: top_ups.book(payment, refused=True)) if payment else None


def payment_changed(event: Event) -> Write | None:
    payment = top_ups.read_payment(event.object_id)
    return (lambda: top_ups.book(payment)) if payment else None
