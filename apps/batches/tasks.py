import logging
from uuid import UUID

from celery import shared_task
from kombu.exceptions import OperationalError

from apps.batches import checking, finalizing, sweeping

log = logging.getLogger(__name__)


@shared_task(name="batches.go_on")
def go_on(batch_id: str) -> None:
    """Whatever a batch's state says is next. The broker may deliver this twice, late, or never: the row decides."""
    checking.check(UUID(batch_id))
    finalizing.finalize(UUID(batch_id))


@shared_task(name="batches.sweep")
def sweep() -> None:
    for batch_id in sweeping.sweep():
        try:
            go_on.apply_async(args=(str(batch_id),), retry=False)
        except OperationalError:
            log.warning("broker away, batches wait for the next sweep")
            return
