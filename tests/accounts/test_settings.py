"""The person's own pages: name, zone, which mails, sessions and their end."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from allauth.usersessions.models import UserSession
from django.conf import settings
from django.core import mail
from django.test import Client

from apps.accounts import agents
from apps.accounts.mails import Mail
from apps.accounts.models import User
from apps.accounts.views import sessions_of
from apps.accounts.zones import zone
from apps.keys import expiry
from tests import make

PASSWORD = "correct horse battery"


@pytest.fixture
def person(db):
    user = make.user(name="Lena Ott")
    make.organization(owner=user)
    client = Client()
    client.force_login(user)
    return user, client


def test_times_are_those_of_the_readers_zone(person):
    user, client = person
    organization = user.organizations.get()
    make.job(organization=organization, model=make.model(), state="succeeded",
             created_at=datetime(2026, 11, 20, 23, 30, tzinfo=UTC), finished_at=datetime(2026, 11, 20, 23, 31, tzinfo=UTC))  # fmt: skip
    assert b"23:30:00" in client.get("/dashboard/").content
    wrong = client.post("/settings/account/", {"name": "Lena", "time_zone": "Mars/Olympus"})
    assert wrong.status_code == 422
    user.refresh_from_db()
    assert (user.name, user.time_zone) == ("Lena Ott", "UTC")
    done = client.post("/settings/account/", {"name": "Lena", "time_zone": "Asia/Shanghai"})
    assert done.headers["location"] == "/settings/account/"
    user.refresh_from_db()
    assert (user.name, user.time_zone) == ("Lena", "Asia/Shanghai")
    page = client.get("/dashboard/").content.decode()
    assert "07:30:00" in page
    assert "21 Nov 2026, 07:30:00 CST" in page
    staff = make.user(is_staff=True, is_superuser=True, time_zone="Asia/Shanghai")
    client.force_login(staff)
    assert "23:30" in client.get("/admin/jobs/job/").content.decode()  # operators talk of one time
    assert zone("Mars/Olympus").key == "UTC"


def test_no_template_says_utc_after_a_time_of_the_readers_zone():
    wrong = [
        path.name
        for path in (settings.ROOT / "templates").rglob("*.html")
        if re.search(r"\{\{ [\w.]+\|date:[^}]*\}\}(</time>)? UTC", path.read_text())
    ]
    assert wrong == []


def test_what_is_not_wanted_is_not_sent(person):
    user, client = person
    page = client.get("/settings/notifications/").content.decode()
    assert page.count(" checked") == len(Mail)
    assert client.post("/settings/notifications/", {"wanted": ["keys"]}).status_code == 302
    user.refresh_from_db()
    assert user.declined_mails == ["budgets", "batches", "webhooks"]
    assert client.post("/settings/notifications/", {"wanted": ["spam"]}).status_code == 422
    user.refresh_from_db()
    assert user.declined_mails == ["budgets", "batches", "webhooks"]
    key, _ = make.api_key(user.organizations.get(), user=user, expires_at=datetime.now(UTC) + timedelta(hours=20))
    assert expiry.readers_of(key) == [user]
    User.objects.filter(pk=user.pk).update(declined_mails=["keys"])
    assert expiry.readers_of(key) == []
    assert mail.outbox == []


def test_a_session_is_ended_from_another(person):
    user, here = person
    there, third, stranger = Client(headers={"user-agent": "Firefox"}), Client(), Client()
    for client in (there, third):
        client.post("/login/", {"login": user.email, "password": PASSWORD})
        assert client.get("/dashboard/").status_code == 200
    stranger.force_login(make.user())
    page = here.get("/settings/security/").content.decode()
    assert "3 signed in" in page
    assert page.count("this one") == 1
    session = UserSession.objects.get(user=user, user_agent="Firefox")
    stranger.post("/settings/security/sessions/", {"session": session.pk})  # not theirs
    assert there.get("/dashboard/").status_code == 200
    here.post("/settings/security/sessions/", {"session": session.pk})
    assert there.get("/dashboard/").headers["location"].startswith("/login/")
    assert third.get("/dashboard/").status_code == 200
    here.post("/settings/security/sessions/", {})
    assert third.get("/dashboard/").status_code == 302
    assert here.get("/dashboard/").status_code == 200
    assert here.get("/settings/security/sessions/").status_code == 405
    own = UserSession.objects.get(user=user)
    assert here.post("/settings/security/sessions/", {"session": own.pk}).headers["location"] == "/login/"


def test_sessions_are_listed_in_two_queries_and_ended_ones_are_not(person, django_assert_num_queries):
    user, _ = person
    for count in (2, 5):
        for _number in range(count):
            Client().post("/login/", {"login": user.email, "password": PASSWORD})
        with django_assert_num_queries(2):
            assert len(sessions_of(user)) >= count
    user.set_password("another horse battery")
    user.save()
    assert sessions_of(user) == []


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox 140 on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36 Edg/141.0", "Edge 141 on Windows"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 26_0 like Mac OS X) AppleWebKit/605.1.15 Version/26.0 Mobile/15E148 Safari/604.1", "Safari 26 on iPhone"),
        ("curl/8.5.0", "curl/8.5.0"),
        ("", "Unknown"),
    ],
)  # fmt: skip
def test_browsers_in_words(agent, words):
    assert agents.words(agent) == words
