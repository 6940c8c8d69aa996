"""What the page after a payment listens to: `topup.<id>`, until the payment is confirmed or has failed."""

from __future__ import annotations

from uuid import UUID

from channels.db import database_sync_to_async
from django.template.loader import render_to_string

from apps.accounts.models import Membership
from apps.accounts.rights import Right, with_right
from apps.billing import selectors
from apps.billing.models import TopUp
from apps.core.ids import parse
from apps.core.sql import Plan, Statement
from apps.live.topics import Message, Topic, Viewer
from cango_portal import database


def clock() -> Plan[int]:
    rows = yield Statement("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS at")
    at: int = rows[0]["at"]
    return at


class TopUpTopic(Topic):
    """The part of the page that says where the payment stands, anew when that changed."""

    per_second = 4
    said = ""

    def __init__(self, name: str, viewer: Viewer, *, top_up: str) -> None:
        super().__init__(name, viewer)
        self.public_id = top_up
        self.pk = parse("topup", top_up)

    async def allowed(self) -> bool:
        return bool(await database_sync_to_async(may_watch)(self.viewer, self.pk))

    async def watch(self) -> None:
        await self.watch_bell([f"topup.{self.public_id}"])

    async def news(self, at: int) -> list[Message]:
        version = await database.run_async(clock())
        assert self.pk is not None  # or it is not allowed
        final, html = await database_sync_to_async(part)(self.pk)
        self.finished = final
        if html == self.said or version <= at:
            return []
        self.said = html
        return [self.html(version, html.replace('data-at="0"', f'data-at="{version}"', 1))]


def may_watch(viewer: Viewer, pk: UUID | None) -> bool:
    """Payers of its organization, whichever they have in use."""
    row = TopUp.objects.filter(pk=pk).first() if pk else None
    payer = Membership.objects.filter(user=viewer.user, role__in=with_right(Right.PAY))
    return row is not None and payer.filter(organization=row.organization_id).exists()


def part(pk: UUID) -> tuple[bool, str]:
    """Whether it has ended, and the part of the page."""
    row = TopUp.objects.get(pk=pk)
    return row.state != TopUp.State.OPEN, render_to_string(
        "billing/_return.html", {"top_up": row, "at": 0, **selectors.debt_of(row)}
    )
