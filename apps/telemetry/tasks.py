"""What a worker does for telemetry. Each may run late, twice, or beside itself."""

from datetime import UTC, datetime, timedelta

from celery import shared_task
from django.conf import settings

from apps.telemetry import meters
from apps.telemetry.counting import OLDEST_SECONDS
from apps.telemetry.models import Minute, SiteMeterReading, Source


@shared_task(name="telemetry.reconcile")
def reconcile() -> None:
    meters.reconcile()


@shared_task(name="telemetry.forget")
def forget() -> None:
    """Minutes and meter readings older than the retention, and processes of which nothing can come any more."""
    now = datetime.now(UTC)
    oldest = now - timedelta(days=settings.TELEMETRY_RETENTION_DAYS)
    Minute.objects.filter(at__lt=oldest).delete()
    SiteMeterReading.objects.filter(at__lt=oldest).delete()
    Source.objects.filter(heard_at__lt=now - timedelta(seconds=2 * OLDEST_SECONDS)).delete()
