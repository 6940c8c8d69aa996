"""What a worker does for telemetry. Each may run late, twice, or beside itself."""

from datetime import UTC, datetime, timedelta

from celery import shared_task
from django.conf import settings

from apps.telemetry.counting import OLDEST_SECONDS
from apps.telemetry.models import Minute, Source


@shared_task(name="telemetry.forget")
def forget() -> None:
    """Minutes older than the retention, and processes of which nothing can come any more."""
    now = datetime.now(UTC)
    Minute.objects.filter(at__lt=now - timedelta(days=settings.TELEMETRY_RETENTION_DAYS)).delete()
    Source.objects.filter(heard_at__lt=now - timedelta(seconds=2 * OLDEST_SECONDS)).delete()
