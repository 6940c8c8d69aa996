from apps.billing import subscriptions
from apps.billing.booking import Write
from apps.billing.models import Event


def subscription_changed(event: Event) -> Write | None:
    subscription = subscriptions.read(event.object_id)
    return (lambda: subscriptions.book(subscription)) if subscription else None


def invoice_changed(event: Event) -> Write | None:
    """A plan's invoice, or the document of a top-up."""
    invoice = subscriptions.read_invoice(event.object_id)
    return (lambda: subscriptions.book_invoice(invoice)) if invoice else None
