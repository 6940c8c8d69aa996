"""Who hears of money that moved: open pages by the bell, the customer's own servers by webhook. After the commit."""

from functools import partial
from uuid import UUID

from django.db import transaction

from apps.billing.models import TopUp
from apps.live import bell
from apps.webhooks import services as webhooks


def balance(organization_id: UUID, *topics: str) -> None:
    """The organization's balance has changed, and what else these topics name."""
    transaction.on_commit(partial(bell.ring, f"organization.{organization_id}", *topics), robust=True)


def top_up(row: TopUp) -> None:
    """A top-up has ended: paid, failed or expired. Its webhook is sent once, however often this is called."""
    balance(row.organization_id, f"topup.{row.public_id}")
    if row.state in (TopUp.State.PAID, TopUp.State.FAILED):
        webhooks.notify(
            organization=row.organization_id,
            type=f"top_up.{row.state}",
            data={
                "id": row.public_id,
                "amount_cents": row.amount_cents,
                "tax_cents": row.tax_cents,
                "automatic": row.source == TopUp.Source.AUTOMATIC,
                "failure": row.failure or None,
            },
            key=f"top_up:{row.pk}:{row.state}",
        )
