"""What a worker does for sites. It may run late, twice, or beside itself."""

from datetime import UTC, datetime, timedelta

from celery import shared_task
from django.conf import settings

from apps.sites import feeds


@shared_task(name="sites.read_feeds")
def read_feeds() -> None:
    feeds.read_all()


@shared_task(name="sites.forget_feeds")
def forget_feeds() -> None:
    feeds.forget(timedelta(days=settings.TELEMETRY_RETENTION_DAYS), datetime.now(UTC))
