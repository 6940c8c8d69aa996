import logging
from uuid import UUID

from celery import shared_task
from kombu.exceptions import OperationalError

from apps.dispatch import forgetting, receipts
from apps.files import services as files
from cango_portal import database, valkey

log = logging.getLogger(__name__)


@shared_task(name="dispatch.forget_receipts")
def forget_receipts() -> None:
    while database.run(receipts.forget()) == receipts.FORGOTTEN_AT_ONCE:
        pass


@shared_task(name="dispatch.forget_texts")
def forget_texts(thorough: bool = False, organization: str | None = None) -> None:
    """`thorough`: whatever its age, as it is needed when an organization keeps less than before or a worker was long away."""
    forgotten = forgetting.sweep(thorough=thorough, organization=UUID(organization) if organization else None)
    if forgotten.files:
        while files.expire(batch=500) == 500:
            pass


def forget_soon(organization_id: UUID) -> None:
    """It keeps text for less time than before. Where the broker is away, the thorough sweep of the hour does it."""
    try:
        forget_texts.apply_async(kwargs={"thorough": True, "organization": str(organization_id)}, retry=False)
    except (OperationalError, *valkey.Away):
        log.warning("broker away, texts wait for the sweep")
