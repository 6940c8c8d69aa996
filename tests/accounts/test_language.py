"""The language of pages, mails and live parts: what was chosen in this browser, else by the person, else what the browser asks for."""

from datetime import timedelta

import pytest
from django.core import mail
from django.test import Client
from django.utils import timezone

from apps.accounts import languages
from apps.accounts.letters import letter
from apps.accounts.mails import Mail
from apps.accounts.models import User
from tests import make

CHINESE = {"accept-language": "zh-CN,zh;q=0.9,en;q=0.5"}


@pytest.fixture
def signed_in(db) -> Client:
    client = Client()
    client.force_login(make.user())
    return client


def test_a_newcomer_reads_what_the_browser_asks_for(db):
    page = Client(headers=CHINESE).get("/login/")
    assert '<html lang="zh-hans"' in page.content.decode()
    assert "<h1>登录</h1>" in page.content.decode()
    assert page.headers["content-language"] == "zh-hans"
    assert {"Accept-Language", "Cookie"} <= set(page.headers["vary"].split(", "))
    english = Client(headers={"accept-language": "fr,de;q=0.5"}).get("/login/").content.decode()
    assert '<html lang="en"' in english
    assert "<h1>Sign in</h1>" in english
    assert 'id="words"' not in english


def test_a_choice_is_kept_in_the_browser_and_with_the_person(signed_in):
    answer = signed_in.post("/language/", {"language": "zh-hans", "next": "/settings/account/"})
    assert (answer.status_code, answer.headers["location"]) == (302, "/settings/account/")
    assert answer.cookies["language"].value == "zh-hans"
    assert User.objects.get().language == "zh-hans"
    elsewhere = Client(headers={"accept-language": "en"})
    elsewhere.force_login(User.objects.get())
    assert "<h1>您的账户</h1>" in elsewhere.get("/settings/account/").content.decode()
    signed_in.post("/language/", {"language": "en", "next": "https://elsewhere.example/"})
    assert User.objects.get().language == "en"
    assert "<h1>Your account</h1>" in signed_in.get("/settings/account/").content.decode()


def test_no_other_language_and_no_other_host(signed_in):
    answer = signed_in.post("/language/", {"language": "tlh", "next": "https://elsewhere.example/"})
    assert answer.headers["location"] == "/"
    assert "language" not in answer.cookies
    assert User.objects.get().language == ""
    assert signed_in.get("/language/").status_code == 405


def test_programs_read_english(signed_in):
    User.objects.update(language="zh-hans")
    refused = signed_in.get("/api/v1/jobs/job_01kb0000000000000000000000", headers=CHINESE)
    assert refused.status_code == 403
    assert refused.json()["error"]["message"].isascii()


def test_who_signs_up_on_a_chinese_page_gets_chinese_mails(db):
    Client(headers=CHINESE).post("/signup/", {"email": "li@example.org", "password1": "correct horse battery"})
    user = User.objects.get()
    assert user.language == "zh-hans"
    key, _ = make.api_key(make.organization(), name="夜间", expires_at=timezone.now() + timedelta(days=7))
    message = letter(user, "keys/mail/expiring.txt", kind=Mail.KEYS, key=key, days=7)
    assert message.subject == "API 密钥“夜间”将在 7 天后结束"
    assert "此类邮件的发送条件：API 密钥将在 7 天或 1 天后到期。" in message.body
    assert '<html lang="zh-hans">' in str(message.alternatives[0][0])
    assert len(mail.outbox) == 1


def test_a_choice_made_in_this_browser_goes_first_then_the_person_then_what_the_browser_asks_for():
    asked = "zh-CN,en;q=0.5"
    assert languages.of(User(language="en"), {"language": "zh-hans"}, asked) == "zh-hans"
    assert languages.of(User(language="zh-hans"), {"language": "en"}, asked) == "en"
    assert languages.of(User(language="en"), {"language": "yy"}, asked) == "en"
    assert languages.of(User(), {"language": "zh-hans"}, "en") == "zh-hans"
    assert languages.of(User(language="xx"), {"language": "yy"}, asked) == "zh-hans"
    assert languages.of(None, {}, "") == "en"


def test_who_chooses_before_the_sign_in_reads_that_after_it(db):
    """A sign-up has kept English with the person, whom nobody asked."""
    user = make.user(language="en")
    client = Client()
    client.post("/language/", {"language": "zh-hans", "next": "/login/"})
    client.force_login(user)
    assert "<h1>您的账户</h1>" in client.get("/settings/account/").content.decode()
    client.post("/language/", {"language": "en", "next": "/"})
    assert "<h1>Your account</h1>" in client.get("/settings/account/").content.decode()


def sign_in(client: Client, user: User) -> None:
    answer = client.post("/login/", {"login": user.email, "password": "correct horse battery"})
    assert answer.status_code == 302, answer.content.decode()


@pytest.mark.parametrize(
    ("kept", "chosen", "before", "after"),
    [
        ("en", False, "zh-hans", "zh-hans"),  # a sign-up kept English, whom nobody asked
        ("", False, "zh-hans", "zh-hans"),
        ("en", True, "zh-hans", "en"),
        ("zh-hans", True, "en", "zh-hans"),
        ("zh-hans", False, None, "zh-hans"),
        ("", False, None, "en"),
    ],
)
def test_a_language_chosen_before_the_sign_in_is_that_of_the_mails(db, kept, chosen, before, after):
    user = make.user(language=kept, language_chosen=chosen)
    client = Client()
    if before:
        client.post("/language/", {"language": before, "next": "/login/"})
    sign_in(client, user)
    user.refresh_from_db()
    assert (user.language, user.language_chosen) == (after, chosen or before is not None)
    message = letter(user, "keys/mail/expiring.txt", kind=Mail.KEYS, key=make.api_key(make.organization())[0], days=7)
    assert f'<html lang="{after}">' in str(message.alternatives[0][0])


def test_a_language_chosen_before_the_sign_up_is_that_of_the_mails(db):
    client = Client(headers={"accept-language": "en"})
    client.post("/language/", {"language": "zh-hans", "next": "/signup/"})
    client.post("/signup/", {"email": "li@example.org", "password1": "correct horse battery"})
    user = User.objects.get()
    assert (user.language, user.language_chosen) == ("zh-hans", True)
    assert not mail.outbox[0].subject.isascii()


def test_who_signed_up_without_choosing_may_still_choose(db):
    Client(headers=CHINESE).post("/signup/", {"email": "li@example.org", "password1": "correct horse battery"})
    user = User.objects.get()
    assert (user.language, user.language_chosen) == ("zh-hans", False)
    client = Client()
    client.force_login(user)
    client.post("/language/", {"language": "zh-hans", "next": "/"})
    user.refresh_from_db()
    assert user.language_chosen
