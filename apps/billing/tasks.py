"""What a worker does for billing. Each may run late, twice, or beside itself."""

import logging

from celery import shared_task
from kombu.exceptions import OperationalError

from apps.billing import alerts, automatic, fees, inbox, refunds, top_ups
from cango_portal import valkey

log = logging.getLogger(__name__)


@shared_task(name="billing.handle_event")
def handle_event(event_id: str) -> None:
    inbox.handle(event_id)


def send(event_id: str) -> bool:
    """Queue an event. False where the broker is away; the sweep sends it again."""
    try:
        handle_event.apply_async((event_id,), retry=False)
    except (OperationalError, *valkey.Away) as error:
        log.warning("event not queued", extra={"event": event_id, "reason": type(error).__name__})
        return False
    return True


@shared_task(name="billing.sweep_events")
def sweep_events() -> None:
    for event_id in inbox.due():
        if not send(event_id):
            return


@shared_task(name="billing.fetch_missed_events")
def fetch_missed_events(days: int = inbox.MISSED_DAYS) -> None:
    found = inbox.fetch_missed(days)
    if found:
        log.warning("events had not reached us", extra={"count": found})


@shared_task(name="billing.ask_again")
def ask_again() -> None:
    automatic.ask_again()
    refunds.ask_again()
    top_ups.end_abandoned()


@shared_task(name="billing.read_fees")
def read_fees() -> None:
    fees.read()


@shared_task(name="billing.top_up_automatically")
def top_up_automatically() -> None:
    automatic.run()


@shared_task(name="billing.warn")
def warn() -> None:
    alerts.look()
    alerts.send()
