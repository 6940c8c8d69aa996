"""How many batches of an organization run: beside the navigation of every page, live, bounded, and in words for who hears it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.test import Client

from apps.batches.models import ENDED, Batch
from apps.batches.pages import listing
from apps.core.ids import uuid7
from apps.live import bell
from cango_portal import database
from tests import make
from tests.live.sockets import closed, connected  # noqa: F401 - a fixture

NOW = datetime.now(UTC)


def batches(organization, count: int, state: str = "in_progress") -> list[Batch]:
    made = [
        Batch(
            organization=organization, input_file_id=uuid7(), endpoint="/v1/chat/completions", state=state, created_at=NOW,
            expires_at=NOW + timedelta(days=1), **{f"{name}_at": NOW for name in {"in_progress", state}},
        )
        for _ in range(count)
    ]  # fmt: skip
    return Batch.objects.bulk_create(made)


def beside(html: str) -> list[tuple[str, str]]:
    """The figure and the words beside each "Batches": the sidebar's, and the menu's of small screens."""
    return re.findall(
        r'Batches<span class="count" aria-hidden="true" data-topic="batches" data-at="0" data-f="batches.count">(.*?)</span>'
        r'<span class="sr" data-f="batches.words">(.*?)</span></a>',
        html,
    )


@pytest.mark.django_db
def test_the_figure_is_of_those_that_have_not_ended_and_ends_at_99():
    owner = make.user()
    organization = make.organization(owner=owner)
    batches(make.organization(owner=make.user()), 3)
    for state in ENDED:
        batches(organization, 1, state)
    client = Client()
    client.force_login(owner)
    assert beside(client.get("/keys/").content.decode()) == [("", "")] * 2
    batches(organization, 2)
    batches(organization, 1, "finalizing")
    assert beside(client.get("/keys/").content.decode()) == [("3", "3 running")] * 2
    batches(organization, 96)
    assert beside(client.get("/keys/").content.decode()) == [("99", "99 running")] * 2
    batches(organization, 30)
    assert beside(client.get("/keys/").content.decode()) == [("99+", "99+ running")] * 2


@pytest.mark.django_db
def test_it_is_counted_by_an_index_of_those_that_run():
    organization = make.organization(owner=make.user())
    batches(organization, 5)
    with connection.cursor() as cursor:
        cursor.execute(database.PLANS)
        cursor.execute(f"EXPLAIN {listing.OPEN}", {"organization": organization.pk})
        plan = "\n".join(row[0] for row in cursor.fetchall())
        cursor.execute("RESET ALL")
    assert "batches_batch_running" in plan


async def test_it_moves_when_a_batch_begins_and_ends(transactional_db, monkeypatch):
    owner = await sync_to_async(make.user)()
    organization = await sync_to_async(make.organization)(owner=owner)
    topic = f"organization.{organization.pk}"
    async with connected(owner, "/ws/organization/") as socket:
        await socket.say(sub={"batches": 0})
        first = await socket.hear("set")
        assert (first["t"], first["set"]) == ("batches", {"count": "", "words": ""})
        await sync_to_async(batches)(organization, 2)
        await bell.ring_async(topic)
        second = await socket.hear("set")
        assert second["set"] == {"count": "2", "words": "2 running"}
        assert second["v"] > first["v"]
        await bell.ring_async(topic)  # a report of a row: as many run as before
        assert await socket.quiet(1.5)
        await Batch.objects.filter(organization=organization).aupdate(state="completed", completed_at=NOW)
        await bell.ring_async(topic)
        assert (await socket.hear("set"))["set"] == {"count": "", "words": ""}
