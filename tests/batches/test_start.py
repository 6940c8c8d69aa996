"""When a batch that has not begun is expected to start: by its first shard in line, on its page, in lists and on the socket."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.batches.models import Batch
from apps.batches.topics import StartTopic
from apps.core.ids import uuid7
from apps.jobs.models import Job
from apps.jobs.pages.start import Kept, Start
from apps.live.topics import Viewer, resolve
from apps.portal.topics import RunningTopic
from tests import make
from tests.jobs.test_start import saw

NOW = datetime.now(UTC)
WAITS = "Waiting for a free GPU"


@pytest.fixture
def owner(transactional_db):
    return make.user()


@pytest.fixture
def organization(owner):
    return make.organization(owner=owner)


@pytest.fixture
def pool(transactional_db):
    return make.pool(model=make.model(title="Demo chat"))


def waiting(organization, pool, *, shards: int = 2, **fields) -> Batch:
    made = Batch.objects.create(
        **{
            "organization": organization, "endpoint": "/v1/chat/completions", "input_file_id": uuid7(), "state": "in_progress", "model": pool.model,
            "price": pool.model.prices.get(), "total": 200, "hold_microusd": 9000, "created_at": NOW, "in_progress_at": NOW,
            "expires_at": NOW + timedelta(days=1), **fields,
        }
    )  # fmt: skip
    for _ in range(shards):
        shard = make.job(organization=organization, model=pool.model, state="queued", tier="batch", batch_id=made.pk)
        Job.objects.filter(pk=shard.pk).update(deadline_at=NOW + timedelta(days=1))
    return made


def test_on_its_page_and_in_lists(owner, organization, pool, valkey):
    client = Client()
    client.force_login(owner)
    before, mine = waiting(organization, pool), waiting(organization, pool)
    dear = waiting(organization, pool, max_power_usd_per_mwh=20.0)
    Job.objects.filter(batch_id=dear.pk).update(max_usd_per_mwh=20.0)

    def eta(batch: Batch) -> str:
        html = client.get(f"/batches/{batch.public_id}/").content.decode()
        return " ".join(re.sub("<[^>]+>", " ", re.search(r'<p class="run-eta">(.*?)</p>', html)[1]).split())

    assert eta(mine).startswith("Ends by ")
    saw(pool.model, pool, "shards", started=4)
    assert eta(before).startswith("Expected to start in about 15 s. Ends by ")
    assert eta(mine).startswith("Expected to start in about 45 s. Ends by ")
    assert eta(dear).startswith("Ends by ")
    html = client.get("/dashboard/").content.decode()
    rows = {
        row[0]: " ".join(re.sub("<[^>]+>", " ", row[1]).split())
        for row in re.findall(r'<tr [^>]*data-topic="batch.(\w+)"(.+?)</tr>', html, re.S)
    }
    assert f"{WAITS} Expected to start in about 45 s" in rows[mine.public_id]
    assert "start in" not in rows[dear.public_id]
    with CaptureQueriesContext(connection) as few:
        assert client.get("/batches/").content.decode().count(WAITS) == 2
    for _ in range(4):
        waiting(organization, pool)
    with CaptureQueriesContext(connection) as many:
        assert client.get("/batches/").content.decode().count(WAITS) == 6
    assert len(many) == len(few)
    Batch.objects.filter(pk=mine.pk).update(completed=1)  # it has begun
    assert "start in" not in eta(mine)


@pytest.mark.django_db(transaction=True)
async def test_live(owner, organization, pool, valkey):
    mine = await sync_to_async(waiting)(organization, pool)
    viewer = Viewer(owner, organization.pk, frozenset({organization.pk}))
    stranger = Viewer(owner, uuid7(), frozenset({uuid7()}))
    name = f"batch.{mine.public_id}.start"
    topic = resolve(name, viewer)
    assert isinstance(topic, StartTopic)
    assert await topic.allowed()
    assert not await StartTopic(name, stranger, batch=mine.public_id).allowed()
    listed = RunningTopic("running", viewer)
    assert [message["set"] for message in await topic.news(0)] == [{"why": WAITS, "words": ""}]
    assert "start in" not in (await listed.news(0))[0]["html"]
    assert listed.waits
    await sync_to_async(saw)(pool.model, pool, "shards", started=6)
    assert [message["set"]["words"] for message in await topic.news(0)] == ["Expected to start in about 10\xa0s."]
    assert (
        await listed.news(0) == []
    )  # every report of a batch makes the list anew: of the line it was read a moment ago
    listed.starts = Kept()
    assert "Expected to start in about 10\xa0s" in (await listed.news(0))[0]["html"]
    listed.told = {f"batch.{mine.public_id}": Start(NOW, at=timezone.now() - timedelta(seconds=1))}
    assert "Waits longer than expected, about 10\xa0s more" in (await listed.news(0))[0]["html"]
    assert await listed.news(0) == []  # and so it stays
    shards = Job.objects.filter(batch_id=mine.pk)
    await sync_to_async(shards.update)(state="running", pool=pool, fence=uuid7(), lease_expires_at=NOW)
    (begun,) = await topic.news(7)  # its phase is the same, so no part of the page comes anew
    site = await sync_to_async(lambda: pool.node.site.name)()
    assert (begun["v"], begun["set"]) == (8, {"why": f"At {site}", "words": ""})
    assert await topic.news(8) == []
    await sync_to_async(shards.update)(state="queued", pool=None, fence=None)  # its site was lost before it had a row
    assert not topic.finished
    (waits,) = await topic.news(8)
    assert waits["set"] == {"why": WAITS, "words": "Expected to start in about 10\xa0s."}
    await sync_to_async(shards.update)(state="running", pool=pool, fence=uuid7(), lease_expires_at=NOW)
    await sync_to_async(Batch.objects.update)(completed=1)
    (begun,) = await topic.news(9)
    assert begun["set"] == {"why": f"At {site}", "words": ""}
    assert topic.finished  # it never waits again
    ended = resolve(name, viewer)
    await sync_to_async(Batch.objects.update)(state="cancelling")
    assert await ended.news(8) == []
    assert ended.finished
