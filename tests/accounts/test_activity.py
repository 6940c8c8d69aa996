"""When a member was last active: written seldom, by what a person does in one organization, and never in the way of a page."""

import json
import re
from datetime import UTC, datetime, timedelta
from importlib import import_module
from threading import Barrier

import pytest
import time_machine
from django.apps import apps
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.accounts import activity
from apps.accounts.models import Membership
from apps.accounts.times import ago
from apps.keys.models import APIKey
from tests import make
from tests.threads import run_in_threads

NOW = datetime(2026, 11, 28, 14, 30, 5, tzinfo=UTC)
MEMBERS = "/settings/members/"


def writes(captured: CaptureQueriesContext) -> int:
    return sum('UPDATE "accounts_membership"' in query["sql"] for query in captured)


@pytest.fixture
def lena(db):
    return make.user(email="lena@meridian.example", time_zone="Asia/Shanghai")


@pytest.fixture
def own(lena):
    return make.organization(owner=lena)


@pytest.fixture
def browser(lena):
    client = Client()
    client.force_login(lena)
    return client


def at(organization) -> datetime | None:
    return organization.memberships.get().last_active_at


def test_written_once_in_five_minutes_in_the_organization_of_the_session(own, browser, lena):
    other = make.organization(owner=lena, name="Other")
    for after, expected, wrote in (
        (0, 0, 1),
        (1, 0, 0),
        (300, 0, 0),  # five minutes are not over
        (301, 301, 1),
        (302, 301, 0),
    ):
        with time_machine.travel(NOW + timedelta(seconds=after), tick=False), CaptureQueriesContext(connection) as seen:
            assert browser.get(MEMBERS).status_code == 200
        assert (at(own), writes(seen)) == (NOW + timedelta(seconds=expected), wrote)
    assert at(other) is None


@pytest.mark.parametrize("path", ["/models/", "/status/"])
def test_what_a_page_that_was_left_open_fetches_by_itself_is_no_activity(own, browser, path):
    with time_machine.travel(NOW, tick=False):
        html = browser.get(path).content.decode()
    headers = json.loads(
        re.search(r'hx-trigger="every \d+s" hx-headers=\'([^\']+)\' hx-disinherit="hx-headers"', html)[1]
    )
    with time_machine.travel(NOW + timedelta(hours=1), tick=False):
        assert browser.get(path, headers={**headers, "hx-request": "true"}).status_code == 200
        assert at(own) == NOW
        browser.get(path, headers={"hx-request": "true"})  # a filter that somebody chose
        assert at(own) == NOW + timedelta(hours=1)


def test_a_key_and_staff_pages_are_no_activity(own, lena):
    lena.is_staff = lena.is_superuser = True
    lena.save()
    _, secret = make.api_key(own, user=lena)
    assert Client().get("/api/v1/jobs", headers={"authorization": f"Bearer {secret}"}).status_code == 200
    client = Client()
    client.force_login(lena)
    assert client.get("/admin/").status_code == 200
    assert at(own) is None
    assert Client().get("/models/").status_code == 200  # a visitor
    assert at(own) is None
    client.get("/models/")
    assert at(own) is not None


def test_a_database_that_takes_no_writes_still_answers(own, browser, caplog):
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION READ ONLY")
        assert browser.get(MEMBERS).status_code == 200
        transaction.set_rollback(True)
    assert at(own) is None
    assert "a member's last activity was not written" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_side_by_side_one_writes_and_nobody_waits_for_a_lock():
    lena = make.user()
    own = make.organization(owner=lena)
    together = Barrier(6)

    def request(_: int) -> datetime | None:
        membership = Membership.objects.get(user=lena)
        together.wait(10)
        activity.seen(membership)
        return membership.last_active_at

    wrote = [moment for moment in run_in_threads(6, request) if moment]
    assert wrote == [at(own)]

    Membership.objects.update(last_active_at=None)
    with transaction.atomic():  # somebody is changing the role
        Membership.objects.select_for_update(no_key=True).get(user=lena)
        assert run_in_threads(1, lambda _: activity.seen(Membership.objects.get(user=lena))) == [None]
    assert at(own) is None


def test_the_page_says_how_long_ago_in_the_readers_zone(own, browser, lena):
    sam, never = make.user(email="sam@meridian.example"), make.user(email="ida@meridian.example")
    Membership.objects.create(organization=own, user=sam, role="viewer", last_active_at=NOW - timedelta(minutes=119))
    Membership.objects.create(organization=own, user=never, role="viewer")
    key, _ = make.api_key(own, user=sam)
    older, _ = make.api_key(own, user=sam)
    APIKey.objects.filter(pk=key.pk).update(last_used_at=NOW - timedelta(minutes=14, seconds=50))
    APIKey.objects.filter(pk=older.pk).update(last_used_at=NOW - timedelta(days=2))
    with time_machine.travel(NOW, tick=False):
        page = browser.get(MEMBERS).content.decode()
    assert re.findall(r'data-label="Last active">(.*?)</td>', page) == [
        '<time datetime="2026-11-28T22:30:05+08:00" title="28 Nov 2026, 22:30:05 CST">just now</time>',
        '<time datetime="2026-11-28T20:31:05+08:00" title="28 Nov 2026, 20:31:05 CST">1\xa0h ago</time>'
        '<span class="sub">with a key: <time datetime="2026-11-28T22:15:15+08:00" title="28 Nov 2026, 22:15:15 CST">14\xa0min ago</time></span>',
        '<span class="dim">never</span>',
    ]


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (timedelta(seconds=299), "just now"),
        (timedelta(minutes=5), "5\xa0min ago"),
        (timedelta(minutes=59, seconds=59), "59\xa0min ago"),
        (timedelta(hours=1), "1\xa0h ago"),
        (timedelta(hours=23, minutes=59), "23\xa0h ago"),
        (timedelta(days=1), "27 Nov 2026"),
    ],
)
def test_words(before, words):
    with time_machine.travel(NOW, tick=False):
        assert ago(NOW - before) == words


def test_sign_ins_before_it_was_kept(own, lena):
    """The migration: of people in one organization, who signed in after they joined."""
    several, early = make.user(last_login=NOW), make.user(last_login=NOW - timedelta(days=99))
    for user, organizations in ((several, 2), (early, 1)):
        for _ in range(organizations):
            make.organization(owner=user)
    lena.last_login = NOW
    lena.save()
    Membership.objects.update(created_at=NOW - timedelta(days=1))
    migration = import_module("apps.accounts.migrations.0014_last_active_of_sign_ins")
    with connection.cursor() as cursor:
        cursor.execute(migration.KNOWN)
    assert dict(apps.get_model("accounts.Membership").objects.values_list("user__email", "last_active_at")) == {
        "lena@meridian.example": NOW,
        several.email: None,
        early.email: None,
    }
