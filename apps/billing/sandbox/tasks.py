"""What the double does by itself in a running portal: it delivers its events, and its clock goes on."""

from celery import shared_task
from django.conf import settings

from apps.billing.sandbox import delivery, idempotency, rows, sessions, subscriptions


@shared_task(name=delivery.TASK)
def deliver(event_id: str) -> None:
    if settings.SANDBOX_MONEY:
        delivery.deliver(event_id)


@shared_task(name="billing.sandbox_sweep")
def sweep() -> None:
    """Events whose task got lost, or whose pause is over."""
    for event_id in delivery.due() if settings.SANDBOX_MONEY else []:
        delivery.deliver(event_id)


@shared_task(name="billing.sandbox_go_on")
def go_on() -> None:
    """Pages that nobody paid, periods that ended, invoices to try again, old idempotency keys."""
    if not settings.SANDBOX_MONEY:
        return
    with rows.writing():
        sessions.expire_old()
        subscriptions.go_on()
        idempotency.forget()
