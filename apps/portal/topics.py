"""What the overview listens to beside `organization` and `running`: its figures of the day and the latest jobs."""

from __future__ import annotations

import asyncio
from uuid import UUID

from channels.db import database_sync_to_async
from django.template.loader import render_to_string
from django.utils import timezone

from apps.accounts.models import Organization
from apps.live.topics import Message, Topic
from apps.portal import selectors
from apps.portal.context import balance


class OverviewTopic(Topic):
    """`overview`: both parts anew, at most once in a second."""

    per_second = 1
    said = ""

    async def allowed(self) -> bool:
        return True

    async def watch(self) -> None:
        await self.watch_bell([f"organization.{self.viewer.organization_id}"])

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)  # none of it is urgent, and every job of the organization rings

    async def news(self, at: int) -> list[Message]:
        version, html = await database_sync_to_async(parts)(self.viewer.organization_id)
        said = html.replace(str(version), "")
        if said == self.said or version <= at:
            return []
        self.said = said
        return [self.html(version, html)]


def parts(organization_id: UUID) -> tuple[int, str]:
    organization = Organization.objects.get(pk=organization_id)
    overview = selectors.overview(organization)
    context = {
        "overview": overview,
        "today": selectors.today(organization, now=timezone.now()),
        "balance": balance(organization),
    }
    return overview.at, render_to_string("portal/_overview.html", context)
