import logging
from uuid import UUID

from celery import current_app, shared_task
from kombu.exceptions import OperationalError

from apps.batches import checking, finalizing, sweeping, trying

log = logging.getLogger(__name__)


@shared_task(name="batches.go_on")
def go_on(batch_id: str) -> None:
    """Whatever a batch's state says is next. The broker may deliver this twice, late, or never: the row decides."""
    checking.check(UUID(batch_id))
    finalizing.finalize(UUID(batch_id))


@shared_task(name="batches.check_draft")
def check_draft(draft_id: str) -> None:
    """The broker may deliver this twice, late, or never: the row decides, and the sweep sends again."""
    trying.check(UUID(draft_id))


@shared_task(name="batches.sweep")
def sweep() -> None:
    due = [(go_on.name, batch_id) for batch_id in sweeping.sweep()]
    due += [(check_draft.name, draft_id) for draft_id in trying.due()]
    trying.forget()
    for name, each in due:
        try:
            current_app.send_task(name, args=(str(each),), retry=False)
        except OperationalError:
            log.warning("broker away, batches wait for the next sweep")
            return
