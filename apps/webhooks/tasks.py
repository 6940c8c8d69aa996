"""Celery entry points. A worker process sends in one thread at a time: slow servers of customers never take them all."""

import threading

from celery import shared_task

from apps.webhooks import sending
from apps.webhooks.retention import forget_old

_wanted = threading.Event()
_sending = threading.Lock()


@shared_task(name="webhooks.deliver")
def deliver() -> None:
    """Queued after commits and by beat. Whoever comes while another thread sends leaves it the work."""
    _wanted.set()
    while _wanted.is_set() and _sending.acquire(blocking=False):
        try:
            _wanted.clear()
            sending.send_due()
        finally:
            _sending.release()


@shared_task(name="webhooks.forget")
def forget() -> None:
    forget_old()
