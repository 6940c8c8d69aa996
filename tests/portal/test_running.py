"""What runs now: batches and jobs together, on the overview and by its socket."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from asgiref.sync import sync_to_async
from django.test import Client

from apps.accounts.models import Organization
from apps.batches.models import Batch
from apps.core.ids import uuid7
from apps.jobs.models import Job
from apps.live import bell
from apps.portal import running
from tests import make
from tests.live.sockets import closed, connected  # noqa: F401 - a fixture

NOW = datetime.now(UTC)


@pytest.fixture
def owner(transactional_db):
    return make.user()


@pytest.fixture
def organization(owner) -> Organization:
    return make.organization(owner=owner)


@pytest.fixture
def model(transactional_db):
    return make.model(title="Demo chat")


def batch(organization, by, **fields) -> Batch:
    """Of 200 rows, a quarter of which came in 50 s."""
    return Batch.objects.create(
        **{
            "organization": organization, "endpoint": "/v1/chat/completions", "input_file_id": uuid7(), "state": "in_progress", "model": by,
            "price": by.prices.get(), "total": 200, "completed": 49, "failed": 1, "metadata": {"name": "Product texts"}, "hold_microusd": 9000, "charge_microusd": 5000,
            "created_at": NOW, "in_progress_at": datetime.now(UTC) - timedelta(seconds=50), "expires_at": NOW + timedelta(days=1), **fields,
        }
    )  # fmt: skip


def cells(html: str, public_id: str) -> list[str]:
    """Of its row, what a reader reads."""
    row = next(row for row in re.findall(r"<tr .+?</tr>", html, re.S) if f'id="running-{public_id}"' in row)
    return [" ".join(re.sub("<[^>]+>", " ", cell).split()) for cell in re.findall(r"<t[hd].+?</t[hd]>", row, re.S)]


def test_batches_and_jobs_stand_together(owner, organization, model):
    site = make.node(site=make.site(name="Georgia 1"))
    pool = make.pool(model=model, node=site)
    sent = batch(organization, model)
    make.job(organization=organization, model=model, pool=pool, state="running", batch_id=sent.pk)
    job = make.job(organization=organization, model=model, state="queued")
    strange = batch(make.organization(owner=make.user()), model)
    ended = batch(organization, model, state="completed", finalizing_at=NOW, completed_at=NOW)
    client = Client()
    client.force_login(owner)
    html = client.get("/dashboard/").content.decode()
    name, state, progress, rate, place, cost, left = cells(html, sent.public_id)
    assert name == "Product texts Batch, Demo chat"
    assert (state, place, cost, left) == ("Running", "Georgia 1", "$0.0050", "3 min")
    assert progress == "25% 50 of 200 rows"
    assert rate in ("1.0 rows/s", "0.9 rows/s")
    assert cells(html, job.public_id)[1] == "Queued"
    assert '<span class="aside"><span>1 queued, 1 running</span>' in html  # its shard is not one of them
    assert strange.public_id not in html
    assert ended.public_id not in html


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"state": "validating", "total": 0, "completed": 0, "failed": 0, "in_progress_at": None, "price": None, "model": None, "charge_microusd": 0},
         ["Checking", "The file is checked line by line; nothing is held before all of it is good", "–", "not placed yet", "$0.0000", "–"]),
        ({"completed": 0, "failed": 0}, ["Running", "0% 0 of 200 rows", "–", "not placed yet", "$0.0050", "–"]),
        ({"state": "finalizing", "completed": 200, "failed": 0, "finalizing_at": NOW},
         ["Settling", "100% 200 of 200 rows, The files are being written", None, "not placed yet", "$0.0050", "a few seconds"]),
    ],
)  # fmt: skip
def test_each_phase_of_a_batch_says_what_is_known(organization, model, fields, said):
    sent = batch(organization, model, **fields)
    shown = cells(running.part(running.load(organization.pk)), sent.public_id)[1:]
    assert [each for each, expected in zip(shown, said, strict=True) if expected is not None] == [
        each for each in said if each is not None
    ]


def test_many_are_counted_only_so_far(organization, model, monkeypatch):
    monkeypatch.setattr(running, "COUNTED", 2)
    for state in ("running", "queued"):
        make.job(organization=organization, model=model, state=state)
    assert running.load(organization.pk).counts == "1 queued, 1 running"
    make.job(organization=organization, model=model, state="queued")
    assert running.load(organization.pk).counts == "more than 2"


async def test_the_list_is_sent_anew_for_phases_and_not_for_figures(owner, organization, model):
    made = await sync_to_async(batch)(organization, model)
    own = Batch.objects.filter(pk=made.pk)
    async with connected(owner, "/ws/organization/") as socket:
        await socket.say(sub={"running": 0})
        message = await socket.hear("html")
        assert f'data-topic="batch.{made.public_id}"' in message["html"]
        await own.aupdate(completed=60, version=made.version + 1)
        await bell.ring_async(f"organization.{organization.pk}")
        assert await socket.quiet(1)
        await socket.say(sub={f"batch.{made.public_id}": made.version})
        message = await socket.hear("html")  # its parts, for a page of its own
        assert message["t"] == f"batch.{made.public_id}"
        await own.aupdate(completed=110, version=made.version + 2)
        await bell.ring_async(f"batch.{made.public_id}")
        message = await socket.hear("set")
        assert (message["set"]["value"], message["set"]["percent"], message["set"]["done"]) == (111, "56%", "111")
        await own.aupdate(state="completed", finalizing_at=NOW, completed_at=NOW, version=made.version + 3)
        await bell.ring_async(f"organization.{organization.pk}")
        assert "Nothing runs now." in (await socket.hear("html"))["html"]


def test_what_runs_comes_before_what_waits_and_who_is_next_before_the_rest(organization, model, monkeypatch):
    monkeypatch.setattr(running, "JOBS", 4)
    pool = make.pool(model=model)
    sent = [
        make.job(organization=organization, model=model, state=state, pool=pool if state == "running" else None)
        for state in ("running", "queued", "dispatched", "queued", "queued", "queued")
    ]
    expected = [sent[2], sent[0], sent[1], sent[3]]
    assert [page.job.pk for page in running.load(organization.pk).jobs] == [job.pk for job in expected]
    monkeypatch.setattr(running, "COUNTED", 3)  # more than are counted
    Job.objects.filter(pk=sent[1].pk).update(version=2)  # lies last in the table now
    assert [page.job.pk for page in running.load(organization.pk).jobs] == [job.pk for job in expected]
    monkeypatch.setattr(running, "JOBS", 3)
    assert [page.job.pk for page in running.load(organization.pk).jobs] == [job.pk for job in expected[:3]]


def test_batches_are_counted_beyond_those_that_are_listed(organization, model):
    for _ in range(running.BATCHES + 2):
        batch(organization, model)
    found = running.load(organization.pk)
    assert (found.counts, len(found.batches)) == ("7 running", running.BATCHES)
