"""Who hears of a batch: pages by the bell, the customer's own servers by webhook."""

from __future__ import annotations

from uuid import UUID

from apps.core.ids import public
from apps.live import bell
from apps.webhooks import services as webhooks


def reader(batch_id: object) -> str:
    """As its input file names it, which stays while the batch has not ended."""
    return f"batch:{batch_id}"


def topics(batch_id: UUID, organization_id: object) -> tuple[str, str]:
    return f"batch.{public('batch', batch_id)}", f"organization.{organization_id}"


def changed(batch_id: UUID, organization_id: object) -> None:
    """After the commit."""
    bell.ring(*topics(batch_id, organization_id))


def ended(batch_id: UUID, organization_id: UUID, state: str) -> None:
    """In the transaction that ends it: its webhook is sent once."""
    webhooks.notify(
        organization=organization_id,
        type=f"batch.{state}",
        data={"id": public("batch", batch_id)},
        key=f"batch:{batch_id}:{state}",
    )
