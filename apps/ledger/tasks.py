"""What the passing of time does to balances. Late or twice makes no difference: what has expired cannot be held anyway."""

from celery import shared_task

from apps.ledger import services, spending
from cango_portal import database


@shared_task(name="ledger.sweep")
def sweep() -> None:
    services.expire_grants()
    services.collect_owed()


@shared_task(name="ledger.sum_charges")
def sum_charges() -> None:
    """A day of hours in each transaction."""
    while database.run(spending.fill()):
        pass
