"""The overview's topic: output falls to zero by itself, is not read at every bell, and only the parts that changed are sent."""

import itertools
import re
from datetime import UTC, datetime, timedelta

import pytest
from asgiref.sync import sync_to_async

from apps.live import bell
from apps.portal import output, topics
from tests import make
from tests.live.sockets import closed, connected  # noqa: F401 - a fixture


@pytest.fixture
def owner(transactional_db, monkeypatch):
    monkeypatch.setattr(topics.OverviewTopic, "per_second", 20)
    return make.user()


@pytest.fixture
def organization(owner):
    return make.organization(owner=owner)


@pytest.fixture
def readings(monkeypatch):
    """When the output was read."""
    times, read = [], output.read

    def counted(organization_id, *, now):
        times.append(now)
        return read(organization_id, now=now)

    monkeypatch.setattr(output, "read", counted)
    return times


def ended(organization, tokens: int, *, seconds: float):
    """A job that wrote them within a second, so many seconds ago."""
    at = datetime.now(UTC) - timedelta(seconds=seconds)
    began = at - timedelta(seconds=3)
    return make.job(
        organization=organization, model=make.model(kind="chat"), state="succeeded", completion_tokens=tokens,
        created_at=began, started_at=began, first_token_at=began, finished_at=at,
    )  # fmt: skip


def shown(html: str) -> tuple[str, str]:
    found = re.search(
        r'Output now</dt><dd class="value">(.+?)<small>tok/s</small></dd><dd class="note"><span>(.+?)</span>', html
    )
    assert found is not None, html
    return found[1], found[2]


async def test_output_falls_to_zero_without_a_bell(owner, organization, monkeypatch):
    monkeypatch.setattr(topics, "OUTPUT_SECONDS", 0.2)
    monkeypatch.setattr(bell, "FLOOR_SECONDS", 60)
    await sync_to_async(ended)(organization, 6000, seconds=52)
    async with connected(owner, "/ws/organization/") as socket:
        await socket.say(sub={"overview": 0})
        message = await socket.hear()
        assert shown(message["html"]) == ("100", "in the last minute, running requests included")
        assert 'aria-label="Output over the last ten minutes, between 0\xa0tok/s and 600\xa0tok/s"' in message["html"]
        assert 'id="latest"' in message["html"]
        while True:
            message = await socket.hear(seconds=12)
            assert 'id="latest"' not in message["html"]  # it is as it was
            if shown(message["html"]) == ("0", "No output in the last minute"):
                break
        assert '<svg class="spark"' in message["html"]  # of the ten minutes


async def test_it_is_read_once_in_some_seconds_however_often_the_bell_rings(owner, organization, monkeypatch, readings):
    monkeypatch.setattr(topics, "OUTPUT_SECONDS", 3)
    async with connected(owner, "/ws/organization/") as socket:
        await socket.say(sub={"overview": 0})
        assert shown((await socket.hear())["html"]) == ("0", "No output in the last minute")
        assert len(readings) == 1
        for count in range(3):
            await sync_to_async(ended)(organization, 600, seconds=0)
            await bell.ring_async(f"organization.{organization.pk}")
            html = (await socket.hear())["html"]
            assert f'Requests today</dt><dd class="value">{count + 1}</dd>' in html  # at once
        assert len(readings) == 1
        while shown(html)[0] != "30":  # what came too soon is read without another bell
            html = (await socket.hear(seconds=10))["html"]
        assert min(after - before for before, after in itertools.pairwise(readings)) >= timedelta(seconds=3)


async def test_where_nothing_moves_nothing_is_read(owner, organization, monkeypatch, readings):
    monkeypatch.setattr(topics, "OUTPUT_SECONDS", 0.1)
    await sync_to_async(ended)(organization, 600, seconds=700)
    async with connected(owner, "/ws/organization/") as socket:
        await socket.say(sub={"overview": 0})
        html = (await socket.hear())["html"]
        assert shown(html) == ("0", "No output in the last minute")
        assert "spark" not in html
        assert await socket.quiet(1.5)
        assert len(readings) <= 2  # the first, and one for what rang before it
