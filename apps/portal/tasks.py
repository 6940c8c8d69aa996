"""What a worker does for whole organizations. Each may run late, twice, or beside itself."""

from uuid import UUID

from celery import shared_task

from apps.portal import closing, exporting


@shared_task(name=exporting.TASK)
def export(export_id: str) -> None:
    exporting.run(UUID(export_id))


@shared_task(name="portal.sweep")
def sweep() -> None:
    closing.sweep()
    for export_id in exporting.sweep():
        exporting.tell_worker(export_id)
