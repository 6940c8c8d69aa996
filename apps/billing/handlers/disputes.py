from apps.billing import disputes, top_ups
from apps.billing.booking import Write
from apps.billing.models import Event


def dispute_changed(event: Event) -> Write | None:
    dispute = disputes.read(event.object_id)
    return (lambda: disputes.book(dispute)) if dispute else None


def warned(event: Event) -> Write | None:
    intent_id = event.related("payment_intent")
    payment = top_ups.read_payment(intent_id) if intent_id else None
    return (lambda: disputes.warn(payment)) if payment else None
