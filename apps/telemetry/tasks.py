"""What a worker does for telemetry. Each may run late, twice, or beside itself."""

from datetime import UTC, datetime

from celery import shared_task

from apps.telemetry import meters, retention


@shared_task(name="telemetry.reconcile")
def reconcile() -> None:
    meters.reconcile()


@shared_task(name="telemetry.forget")
def forget() -> None:
    retention.forget(datetime.now(UTC))
