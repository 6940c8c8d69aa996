from apps.billing import refunds
from apps.billing.booking import Write
from apps.billing.models import Event


def refund_changed(event: Event) -> Write | None:
    refund = refunds.read(event.object_id)
    return (lambda: refunds.book(refund)) if refund else None
