"""The second factor: optional, by an authenticator app, asked for after the password."""

from types import SimpleNamespace

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal import auth as totp

from tests import make
from tests.portal.test_pages import assert_clean

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def _one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A code is good for the half minute it was made in: that must not end between making and typing it."""
    monkeypatch.setattr(totp, "time", SimpleNamespace(time=lambda: 1_800_000_000))


def code_of(secret: str) -> str:
    (counter,) = totp.yield_hotp_counters_from_time()
    return totp.format_hotp_value(totp.hotp_value(secret, counter))


def test_switching_it_on_and_signing_in_with_it(client, db):
    user = make.user()
    make.organization(owner=user)
    client.post("/login/", {"login": user.email, "password": PASSWORD})
    asked = client.get("/settings/security/totp/activate/").headers["location"]
    assert client.post(asked, {"password": PASSWORD}).headers["location"] == "/settings/security/totp/activate/"
    page = client.get("/settings/security/totp/activate/")
    assert_clean(page)
    assert_our_words(page, "Authenticator app")
    secret = page.context["form"].secret
    assert client.post("/settings/security/totp/activate/", {"code": code_of(secret)}).status_code == 302
    assert set(Authenticator.objects.filter(user=user).values_list("type", flat=True)) == {"totp", "recovery_codes"}
    for url, heading in (
        ("/settings/security/", "Security"),
        ("/settings/security/recovery-codes/", "Recovery codes"),
        ("/settings/security/recovery-codes/generate/", "Make new recovery codes?"),
        ("/settings/security/totp/deactivate/", "Switch off the authenticator app?"),
    ):
        answer = client.get(url)
        assert_clean(answer)
        assert_our_words(answer, heading)
    recovery = Authenticator.objects.get(type="recovery_codes").wrap().get_unused_codes()[0]

    client.post("/logout/")
    assert client.post("/login/", {"login": user.email, "password": PASSWORD}).headers["location"] == "/login/code/"
    assert "_auth_user_id" not in client.session
    assert_clean(client.get("/login/code/"))
    wrong = client.post("/login/code/", {"code": "000000"})
    assert b"<title>Error: Second factor" in wrong.content
    assert client.post("/login/code/", {"code": recovery}).headers["location"] == "/dashboard/"
    assert "_auth_user_id" in client.session


def test_it_asks_for_the_password_again(client, db):
    user = make.user()
    make.organization(owner=user)
    client.force_login(user)
    answer = client.get("/settings/security/totp/activate/")
    assert answer.headers["location"].startswith("/login/again/")
    assert_clean(client.get(answer.headers["location"]))


def test_switching_it_off(client, db):
    user = make.user()
    make.organization(owner=user)
    client.post("/login/", {"login": user.email, "password": PASSWORD})
    page = client.get("/settings/security/")
    assert_our_words(page, "Security")
    assert b"Set up the app" in page.content
    asked = client.get("/settings/security/totp/activate/").headers["location"]
    client.post(asked, {"password": PASSWORD})
    page = client.get("/settings/security/totp/activate/")
    refused = client.post("/settings/security/totp/activate/", {"code": "000000"})
    assert b"The app was not set up." in refused.content
    code = code_of(refused.context["form"].secret)
    assert client.post("/settings/security/totp/activate/", {"code": code}).status_code == 302
    assert client.post("/settings/security/recovery-codes/generate/").status_code == 302
    assert client.post("/settings/security/totp/deactivate/").status_code == 302
    assert not Authenticator.objects.filter(user=user).exists()


def assert_our_words(answer, heading: str) -> None:
    """Sentence case, and none of the library's own words."""
    main = answer.content.decode().split("<main")[1]
    assert f"<h1>{heading}</h1>" in main
    for word in ("Two-Factor", "Authenticator App", "Recovery Codes", "Deactivate", "Generate", "Are you sure"):
        assert word not in main
