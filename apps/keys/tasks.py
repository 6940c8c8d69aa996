"""What a worker does for keys. Each may run late, twice, or beside itself."""

from celery import shared_task

from apps.keys import expiry


@shared_task(name="keys.warn_of_expiry")
def warn_of_expiry() -> None:
    expiry.warn()
