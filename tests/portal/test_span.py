"""The overview of today, of 7 and of 30 days: in the address, from the sums of hours, and the same sums as the usage page's."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.test import Client

from apps.core.ids import uuid7
from apps.jobs import rollup
from apps.live import bell
from apps.portal import selectors, topics
from apps.portal.span import Span
from cango_portal import database
from tests import make
from tests.live.sockets import closed, connected  # noqa: F401 - a fixture

NOW = datetime.now(UTC)
MIDNIGHT = NOW.replace(hour=0, minute=0, second=0, microsecond=0)


def ended(organization, model, at: datetime, charge_microusd: int, **fields):
    """A job that ended then, with an id of then."""
    key = uuid7()
    own = type(key)(int=int(at.timestamp() * 1000) << 80 | key.int & (1 << 80) - 1)
    return make.job(
        organization=organization, model=model, id=own, state="succeeded", created_at=at, finished_at=at, prompt_tokens=400,
        completion_tokens=600, energy_wh=0.25, energy_quality="counter", hold_microusd=charge_microusd,
        charge_microusd=charge_microusd, **fields,
    )  # fmt: skip


@pytest.fixture
def shop(db):
    """Jobs now, at the edges of each span, and just before them."""
    owner = make.user()
    organization = make.organization(owner=owner, credit_microusd=400_000_000)
    model = make.model(name="acme/first")
    pool = make.pool(model=model)
    for days, dollars in ((0, 1), (6, 20), (7, 300), (29, 4_000), (30, 50_000)):
        ended(organization, model, MIDNIGHT - timedelta(days=days), dollars * 1_000_000, pool=pool)
    client = Client()
    client.force_login(owner)
    return organization, client


SPANS = {"today": ("$1.00", 1), "7d": ("$21.00", 2), "30d": ("$4,321.00", 4)}


def value(html: str, id: str) -> str:
    found = re.search(rf'id="{id}"><dt>[^<]*</dt><dd class="value"[^>]*>(.*?)</dd>', html)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("name", SPANS)
def test_the_figures_are_those_of_the_usage_page(name, summed, shop):
    _, client = shop
    if summed:
        while database.run(rollup.fill()):
            pass
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM jobs_usagehour")
            assert cursor.fetchone()[0] >= 4
    spend, requests = SPANS[name]
    html = client.get(f"/dashboard/?range={name}").content.decode()
    usage = client.get(f"/usage/?range={name}").content.decode()
    assert value(html, "figure-spend") == spend
    assert f'<dt>Spend</dt><dd class="value">{spend}</dd>' in usage
    assert value(html, "figure-requests") == str(requests)
    assert re.search(rf'<dt>Requests</dt><dd class="value"[^>]*>{requests}</dd>', usage)
    legend = re.search(r'id="spend".*?<span class="num">(.*?)</span>', html, re.DOTALL)
    assert legend is not None
    assert legend[1] == spend
    assert f'href="/usage/?range={name}"' in html
    assert "$54,321.00" not in html


def test_the_address_says_which_and_an_unknown_one_is_today(shop):
    _, client = shop
    for query, chosen in (("", "Today"), ("?range=7d", "7 days"), ("?range=30d", "30 days"), ("?range=1000d", "Today")):
        html = client.get(f"/dashboard/{query}").content.decode()
        nav = re.search(r'<nav class="seg" aria-label="Period">(.*?)</nav>', html)
        assert nav is not None
        assert re.findall(r'<a href="([^"]*)"( aria-current="true")?>([^<]*)</a>', nav[1]) == [
            (f"/dashboard/{asked}", ' aria-current="true"' if label == chosen else "", label)
            for asked, label in (("", "Today"), ("?range=7d", "7 days"), ("?range=30d", "30 days"))
        ]


def test_days_have_a_bar_each_and_today_has_hours(shop):
    _, client = shop
    week = client.get("/dashboard/?range=7d").content.decode()
    card = week[week.index('id="spend"') : week.index('id="where"')]
    assert "Spend by day" in card
    assert len(re.findall(r'<tr><th scope="row">', card)) == 7
    assert "USD, last 7 days" in card
    assert "share of tokens, last 7 days" in week
    today = client.get("/dashboard/").content.decode()
    assert "Spend by hour" in today
    assert "USD, today" in today


def test_only_todays_spend_is_filled_by_the_topic_of_money(shop):
    _, client = shop
    assert 'data-f="organization.spend">$1.00' in client.get("/dashboard/").content.decode()
    week = client.get("/dashboard/?range=7d").content.decode()
    assert "organization.spend" not in week
    assert 'data-topic="overview.7d"' in week


@pytest.fixture
def renamed(transactional_db):
    """Tables, which have their names again at the end."""
    now: dict[str, str] = {}

    def rename(table: str, name: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table} RENAME TO {name}")
        now[name] = now.pop(table, table)

    yield rename
    for name, table in list(now.items()):
        if name != table:
            rename(name, table)


async def test_figures_of_days_are_live(transactional_db, monkeypatch):
    monkeypatch.setattr(topics, "OUTPUT_SECONDS", 0.2)
    owner = await sync_to_async(make.user)()
    organization = await sync_to_async(make.organization)(owner=owner)
    model = await sync_to_async(make.model)()
    await sync_to_async(ended)(organization, model, MIDNIGHT - timedelta(days=3), 2_000_000)
    async with connected(owner, "/ws/organization/") as socket:
        await socket.say(sub={"overview.7d": 0})
        assert value((await socket.hear("html"))["html"], "figure-spend") == "$2.00"
        await sync_to_async(ended)(organization, model, NOW, 3_000_000)
        await bell.ring_async(f"organization.{organization.pk}")
        message = await socket.hear("html")
        assert message["t"] == "overview.7d"
        assert value(message["html"], "figure-spend") == "$5.00"


def test_energy_stands_against_a_week_as_long_at_most(shop):
    organization, _ = shop
    usual = [selectors.figures(organization, span=Span(name), now=NOW).usual_wh_per_ktok for name in SPANS]
    assert usual == [pytest.approx(0.25), pytest.approx(0.25), None]


async def test_a_part_that_cannot_be_read_keeps_what_it_shows_and_the_others_move(transactional_db, renamed):
    owner = await sync_to_async(make.user)()
    organization = await sync_to_async(make.organization)(owner=owner)
    model = await sync_to_async(make.model)()
    await sync_to_async(ended)(organization, model, NOW, 2_000_000)
    async with connected(owner, "/ws/organization/") as socket:
        await socket.say(sub={"overview": 0})
        assert 'id="latest"' in (await socket.hear("html"))["html"]
        await sync_to_async(renamed)("jobs_refusal", "gone")
        await sync_to_async(ended)(organization, model, NOW, 3_000_000)
        await bell.ring_async(f"organization.{organization.pk}")
        message = await socket.hear("html")
        assert value(message["html"], "figure-spend") == "$5.00"
        assert 'id="latest"' not in message["html"]
        await sync_to_async(renamed)("gone", "jobs_refusal")
        await bell.ring_async(f"organization.{organization.pk}")
        assert 'id="latest"' in (await socket.hear("html"))["html"]
