from celery import shared_task

from apps.dispatch import receipts
from cango_portal import database


@shared_task(name="dispatch.forget_receipts")
def forget_receipts() -> None:
    while database.run(receipts.forget()) == receipts.FORGOTTEN_AT_ONCE:
        pass
