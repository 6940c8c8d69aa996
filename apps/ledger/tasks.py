"""What the passing of time does to balances. Late or twice makes no difference: what has expired cannot be held anyway."""

from celery import shared_task

from apps.ledger import services


@shared_task(name="ledger.sweep")
def sweep() -> None:
    services.expire_grants()
    services.collect_owed()
