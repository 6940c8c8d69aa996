"""How long the log of deliveries is kept."""

from datetime import timedelta

from django.utils import timezone

from apps.webhooks.models import Message

KEPT = timedelta(days=30)


def forget_old(*, batch: int = 1000) -> int:
    """Delete messages past their time with all their deliveries, oldest first, a batch in a transaction. Returns how many."""
    before = timezone.now() - KEPT
    forgotten = 0
    while old := list(
        Message.objects.filter(created_at__lt=before).order_by("created_at").values_list("pk", flat=True)[:batch]
    ):
        Message.objects.filter(pk__in=old).delete()
        forgotten += len(old)
    return forgotten
