"""What each type of event means to us. Types that are not here are stored and ignored.

A handler runs in a worker, in any order, any number of times. It takes from the event nothing but ids, reads the objects
afresh (network, no transaction open), and returns what to write, or None where the event is not about us:

    def refund_changed(event: Event) -> Write | None:
        refund = refunds.read(event.object_id)
        return lambda: refunds.book(refund)

The inbox runs the write in the transaction that also marks the event handled. Raise `booking.NotBooked` with a sentence for
staff where Stripe's object and our rows disagree: the event is then shown as failed and tried again.
"""

from apps.billing.booking import Handler
from apps.billing.handlers import customers, disputes, payments, refunds, subscriptions

HANDLERS: dict[str, Handler] = {
    "checkout.session.completed": payments.session_changed,
    "checkout.session.async_payment_succeeded": payments.session_changed,
    "checkout.session.async_payment_failed": payments.session_failed,
    "checkout.session.expired": payments.session_changed,
    "payment_intent.succeeded": payments.payment_changed,
    "payment_intent.payment_failed": payments.payment_changed,
    "refund.created": refunds.refund_changed,
    "refund.updated": refunds.refund_changed,
    "refund.failed": refunds.refund_changed,
    "charge.dispute.created": disputes.dispute_changed,
    "charge.dispute.updated": disputes.dispute_changed,
    "charge.dispute.closed": disputes.dispute_changed,
    "charge.dispute.funds_withdrawn": disputes.dispute_changed,
    "charge.dispute.funds_reinstated": disputes.dispute_changed,
    "radar.early_fraud_warning.created": disputes.warned,
    "customer.updated": customers.customer_changed,
    "customer.subscription.created": subscriptions.subscription_changed,
    "customer.subscription.updated": subscriptions.subscription_changed,
    "customer.subscription.deleted": subscriptions.subscription_changed,
    "invoice.finalized": subscriptions.invoice_changed,
    "invoice.paid": subscriptions.invoice_changed,
    "invoice.payment_failed": subscriptions.invoice_changed,
    "invoice.updated": subscriptions.invoice_changed,
    "invoice.voided": subscriptions.invoice_changed,
}
