from datetime import timedelta

from celery import shared_task
from django.utils import timezone

from apps.operations import availability, reconciling
from cango_portal import database

NIGHTLY_DAYS = 35  # of jobs and payments, so that each is compared many times; the ledger always whole


@shared_task(name="operations.look")
def look() -> None:
    """What the status page shows of each minute; twice in one minute counts once."""
    database.run(availability.look())


@shared_task(name="operations.reconcile")
def reconcile() -> None:
    """Differences are logged as an error and kept for the admin's page."""
    reconciling.run(since=timezone.now() - timedelta(days=NIGHTLY_DAYS))
