"""The page of exports says how far one is, live, to the owners of its organization and to nobody else."""

from datetime import UTC, datetime, timedelta

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from apps.accounts.models import Membership, Organization
from apps.core.ids import public, uuid7
from apps.live import consumers
from apps.portal import exporting
from apps.portal.exports import ExportsPage
from apps.portal.models import Export
from apps.portal.topics import ExportsTopic
from tests import make
from tests.live.sockets import closed, connected  # noqa: F401 - a fixture

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def owner(transactional_db, monkeypatch):
    monkeypatch.setattr(ExportsTopic, "per_second", 20)
    monkeypatch.setattr(exporting.current_app, "send_task", lambda *args, **options: None)
    return make.user(email="lena@meridian.example")


@pytest.fixture
def organization(owner):
    return make.organization(owner=owner)


begin = sync_to_async(exporting.begin)
take = sync_to_async(exporting.take)
say = sync_to_async(exporting.say)


async def test_an_export_is_followed_to_its_end(owner, organization, settings, tmp_path):
    settings.MEDIA_ROOT, settings.UPLOADS = tmp_path / "files", tmp_path / "uploads"
    topic = f"exports.{organization.public_id}"
    async with connected(owner, "/ws/organization/") as socket:
        await socket.say(sub={topic: 0})
        message = await socket.hear()
        assert (message["k"], message["t"]) == ("html", topic)
        assert f'id="exports" data-part data-topic="{topic}" data-at="{message["v"]}"' in message["html"]
        assert "No exports yet" in message["html"]
        assert 'form="export-form"' in message["html"]
        assert "csrfmiddlewaretoken" not in message["html"]  # it would be an empty one
        export = await begin(organization=organization, user=owner)
        message = await socket.hear()
        assert "Queued <small>until a worker is free</small>" in message["html"]
        assert 'id="export-make" type="submit" form="export-form" aria-disabled="true"' in message["html"]
        taken = await take(export.pk)
        assert "Counting <small>the rows</small>" in (await socket.hear())["html"]
        await say(taken, total=1000)
        message = await socket.hear()
        assert '<progress class="big" max="1000" value="0"' in message["html"]
        await sync_to_async(Export.objects.update)(begun_at=timezone.now() - timedelta(seconds=30))
        await say(taken, part="jobs", done=250)
        message = await socket.hear()
        assert (message["k"], message["t"]) == ("set", topic)
        assert message["set"] == {
            "done": "250",
            "value": 250,
            "percent": "25%",
            "eta": "2\N{NO-BREAK SPACE}min left",
            "doing": "Writing jobs",
        }
        await say(taken, part=exporting.STORING, done=1000)
        message = await socket.hear()
        assert message["set"] == {
            "done": "1,000",
            "value": 1000,
            "percent": "100%",
            "eta": "",
            "doing": "Storing the file",
        }
        await sync_to_async(Export.objects.update)(state="waiting")
        await sync_to_async(exporting.run)(export.pk)
        messages = [await socket.hear()]
        while "download-" not in messages[-1].get("html", ""):
            messages.append(await socket.hear())
        assert f'href="/settings/organization/export/{export.public_id}.zip"' in messages[-1]["html"]
        assert 'aria-disabled="true"' not in messages[-1]["html"]
        said = await socket.hear()
        assert (said["k"], said["v"]) == ("set", messages[-1]["v"] + 1)
        assert said["set"] == {"said": "The export is done. Its file can be downloaded."}
        await sync_to_async(exporting.sweep)(timezone.now() + exporting.KEPT + timedelta(seconds=1))
        assert "the file is deleted" in (await socket.hear())["html"]


async def test_a_failed_export_says_why_and_another_can_be_made(owner, organization):
    topic = f"exports.{organization.public_id}"
    export = await begin(organization=organization, user=owner)
    async with connected(owner, "/ws/organization/") as socket:
        for number in range(exporting.TAKES):
            taken = await take(export.pk)
            await say(taken, total=10, part="jobs", done=number)
            await sync_to_async(Export.objects.update)(working_until=timezone.now() - timedelta(seconds=1))
        await socket.say(sub={topic: 0})
        html = (await socket.hear())["html"]
        assert "Try 5: the one before ended in the middle, so it was begun anew." in html
        assert await take(export.pk) is None
        html = (await socket.hear())["html"]
        assert (
            "<strong>The export failed.</strong> It was tried 5 times. The last try ended while this was being written: jobs. "
            f"Nothing that you have here was changed. Make another; if that fails too, write to us and name {export.public_id}."
        ) in html
        assert '<button class="btn btn-primary" id="export-make" type="submit" form="export-form">' in html
        assert (await socket.hear())["set"] == {"said": "The export failed."}


@pytest.mark.parametrize("role", ["admin", "developer", "billing", "viewer"])
async def test_no_other_role_hears_of_it(owner, organization, role):
    member = await sync_to_async(make.user)()
    await sync_to_async(Membership.objects.create)(user=member, organization=organization, role=role)
    async with connected(member, "/ws/organization/") as socket:
        await socket.say(sub={f"exports.{organization.public_id}": 0})
        assert await socket.closed() == consumers.NO_RIGHT


@pytest.mark.parametrize("whose", ["another's", "nobody's", "nonsense"])
async def test_nobody_hears_of_what_is_not_theirs(owner, organization, whose):
    stranger = await sync_to_async(make.user)()
    await sync_to_async(make.organization)(owner=stranger)
    ids = {"another's": organization.public_id, "nobody's": public("org", uuid7()), "nonsense": "org_1"}
    async with connected(stranger, "/ws/organization/") as socket:
        await socket.say(sub={f"exports.{ids[whose]}": 0})
        assert await socket.closed() == consumers.NO_RIGHT


async def test_who_is_an_owner_no_more_hears_no_more(owner, organization, monkeypatch):
    monkeypatch.setattr(consumers, "CHECK_SECONDS", 0.2)
    async with connected(owner, "/ws/organization/") as socket:
        await socket.say(sub={f"exports.{organization.public_id}": 0})
        assert "No exports yet" in (await socket.hear())["html"]
        await sync_to_async(Membership.objects.filter(user=owner).update)(role="admin")
        assert await socket.closed() == consumers.NO_RIGHT


async def test_an_owner_of_two_hears_of_the_one_that_is_not_in_use(owner, organization):
    second = await sync_to_async(make.organization)(owner=owner, name="Second")
    async with connected(owner, "/ws/organization/") as socket:
        await socket.say(sub={f"exports.{second.public_id}": 0})
        assert (await socket.hear())["t"] == f"exports.{second.public_id}"


def page(seconds: float, done: int, *, said: float | None = None, **fields) -> ExportsPage:
    """1,000 rows, so many of them written in so many seconds; the reader was told of an end in `said` seconds."""
    export = Export(state="running", total=1000, done=done, begun_at=NOW - timedelta(seconds=seconds), **fields)
    told = None if said is None else NOW + timedelta(seconds=said)
    return ExportsPage(Organization(), [export], now=NOW, said=told)


@pytest.mark.parametrize(
    ("seconds", "done", "said", "left"),
    [
        (9, 49, None, ""),  # neither 10 s nor 5%
        (9, 50, None, "3 min left"),  # 171 s
        (10, 1, None, "2 h 47 min left"),  # 9,990 s
        (10, 500, None, "10 s left"),
        (10, 500, 8, "10 s left"),  # 8 s, in steps of 5
        (60, 500, 20, "20 s left"),  # it would be 60: what was said holds
        (60, 500, -1, "Takes longer than expected, 1 min left"),
        (60, 0, None, ""),
        (60, 1000, None, "5 s left"),
    ],
)
def test_the_time_left(seconds, done, said, left):
    assert page(seconds, done, said=said).eta.replace("\N{NO-BREAK SPACE}", " ") == left


def test_rows_that_came_since_they_were_counted():
    found = page(60, 1003)
    assert (found.done, found.percent) == (1000, "100%")
