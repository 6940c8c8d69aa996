"""The status page and its feed, as anybody gets them."""

import html
import re
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from apps.core import numbers
from apps.operations import incidents
from apps.operations.models import Availability, Incident
from apps.operations.tasks import look
from apps.sites.models import Drain
from tests import make
from tests.portal.test_pages import assert_clean

NOW = datetime.now(UTC)


def text(answer) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", answer.content.decode())).split())


def day(model, *, ago: int, looks: int = 1440, up: int) -> None:
    Availability.objects.create(
        model=model, country="US", region="Georgia", day=NOW.date() - timedelta(days=ago), looks=looks, up=up, looked_at=NOW - timedelta(days=ago)
    )  # fmt: skip


def incident(**fields) -> Incident:
    return Incident.objects.create(
        **{"title": "Slow answers", "effect": "Requests wait longer.", "severity": "degraded", "public": True,
           "began_at": NOW - timedelta(hours=2), **fields}
    )  # fmt: skip


def test_ninety_days_of_a_model_in_a_region(db):
    model = make.model(name="acme/chat", title="Acme chat")
    make.pool(model=model)
    look()
    day(model, ago=1, up=1440)
    day(model, ago=2, up=720)
    day(model, ago=3, up=0)
    day(model, ago=120, up=0)  # too long ago to count
    answer = Client().get("/status/")
    assert_clean(answer)
    page = text(answer)
    assert "Every model takes work in each of its regions." in page
    assert "Acme chat Georgia, US Takes work 50.01%" in page
    source = answer.content.decode()
    drawn = dict(re.findall(r'<path class="d-(\w+)" d="([^"]+)"', source))
    assert {kind: path.count("M") for kind, path in drawn.items()} == {"up": 2, "partly": 1, "down": 1, "none": 86}
    assert (drawn["partly"], drawn["down"]) == ("M87.15 10v-5h.7v5z", "M86.15 10v-1.5h.7v1.5z")
    assert "up 50.01% of 4 days, below 99.9% on 2 of them" in source
    assert "0.00% 1,440" in page
    assert "50.00% 720" in page


def test_the_live_part_comes_alone(db):
    make.pool(model=make.model())
    part = Client().get("/status/", headers={"hx-request": "true"}).content.decode()
    assert '<div class="stack" id="status"' in part
    assert "<html" not in part
    assert "HX-Request" in Client().get("/status/").headers["vary"]


def test_it_says_what_takes_no_work(db):
    chat, other = make.model(name="acme/chat"), make.model(name="acme/other")
    make.pool(model=chat)
    make.pool(model=chat, ready=False, node=make.node(site=make.site(region="Texas")))
    make.pool(model=other)
    page = text(Client().get("/status/"))
    assert "Every model takes work. 1 model not in each of its regions." in page
    other.pools.update(ready=False)
    assert "1 of 2 models takes no work now." in text(Client().get("/status/"))


def test_only_public_incidents_are_told(db):
    staff = make.user(is_staff=True)
    model = make.model(title="Acme chat")
    open_one = incident(places=["US/Georgia"])
    open_one.affected.add(model)
    incidents.tell(incident=open_one, state="identified", text="A fan failed.", actor=staff, reason="x")
    secret = incident(title="Audit of keys", public=False)
    incidents.tell(incident=secret, state="identified", text="Nobody knows.", actor=staff, reason="x")
    over = incident(title="Away", began_at=NOW - timedelta(days=3))
    incidents.tell(incident=over, state="resolved", text="Back again.", actor=staff, reason="x")
    incident(title="Long ago", began_at=NOW - timedelta(days=200), ended_at=NOW - timedelta(days=199))
    page = text(Client().get("/status/"))
    assert "Slow answers. Requests wait longer. How it stands" in page
    assert "Identified. A fan failed." in page
    assert "Models: Acme chat Places: Georgia, US" in page
    assert "Away Over" in page
    feed = Client().get("/status/feed/").content.decode()
    assert "<title>Slow answers: identified</title>" in feed
    assert f"http://testserver/status/#incident-{open_one.pk}" in feed
    for hidden in ("Audit of keys", "Nobody knows", "Long ago"):
        assert hidden not in page
        assert hidden not in feed


def test_the_feed_is_in_the_language_its_reader_asks_for_and_says_so(db):
    staff = make.user(is_staff=True)
    incidents.tell(incident=incident(), state="identified", text="A fan failed.", actor=staff, reason="x")
    for asked, language, title, item in (
        ("en", "en", "Cango Portal status", "Slow answers: identified"),
        ("zh-CN", "zh-hans", "Cango Portal 状态", "Slow answers：已查明"),
    ):
        answer = Client().get("/status/feed/", headers={"accept-language": asked})
        feed = answer.content.decode()
        assert re.findall("<language>(.*?)</language>", feed) == [language]
        assert re.findall("<title>(.*?)</title>", feed) == [title, item]
        assert answer.headers["content-language"] == language
        assert {"Accept-Language", "Cookie"} <= set(answer.headers["vary"].split(", "))


def test_announced_maintenance_of_several_nodes_is_one_line(db):
    site = make.site(name="Georgia 1")
    starts = NOW + timedelta(days=2)
    for _ in range(2):
        Drain.objects.create(node=make.node(site=site), purpose="maintenance", reason="Filters", announced_at=NOW, starts_at=starts, deadline_at=starts)  # fmt: skip
    assert text(Client().get("/status/")).count("Georgia 1") == 1


def test_queries_do_not_grow_with_models_days_and_incidents(db, django_assert_num_queries):
    staff = make.user(is_staff=True)

    def more() -> None:
        model = make.model()
        make.pool(model=model)
        for ago in range(1, 6):
            day(model, ago=ago, up=1440)
        made = incident()
        made.affected.add(model)
        incidents.tell(incident=made, state="identified", text="x", actor=staff, reason="x")

    more()
    for _ in range(2):
        with django_assert_num_queries(
            9
        ):  # three of the plan with a savepoint's two, incidents with two of theirs, drains
            Client().get("/status/")
        more()
        more()


@pytest.mark.parametrize(
    ("ratio", "shown"), [(1, "100%"), (0.99999, "99.99%"), (0.5, "50.00%"), (0, "0.00%"), (None, "–")]
)
def test_uptime_is_rounded_down(ratio, shown):
    assert numbers.uptime(ratio) == shown
