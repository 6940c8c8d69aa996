"""API keys in the browser: shown once, revoked at once, never another organization's."""

import re

import pytest
from django.test import Client

from apps.accounts.models import AuditEvent, Membership
from apps.core.errors import NotAuthenticated
from apps.core.ids import uuid7
from apps.keys import services
from apps.keys.forms import new_ticket
from apps.keys.models import APIKey
from tests import make
from tests.threads import run_in_threads


@pytest.fixture
def owner(db):
    user = make.user()
    user.organization = make.organization(owner=user)
    return user


@pytest.fixture
def browser(owner) -> Client:
    client = Client()
    client.force_login(owner)
    return client


def developer_of(organization):
    user = make.user()
    Membership.objects.create(organization=organization, user=user, role=Membership.Role.DEVELOPER)
    client = Client()
    client.force_login(user)
    return user, client


def secret_in(page: str) -> str:
    return page.split('<code id="secret">')[1].split("</code>", maxsplit=1)[0]


def test_a_secret_is_shown_once(owner, browser):
    make.model(kind="chat", name="cango/demo-chat")
    answer = browser.post("/keys/new/", {"name": "catalog sync", "scopes": ["inference"]})
    secret = secret_in(answer.content.decode())
    assert services.authenticate(secret).organization_id == owner.organization.pk
    assert "no-store" in answer.headers["cache-control"]
    assert b"/v1/chat/completions" in answer.content
    key = APIKey.objects.get()
    assert (key.name, key.created_by) == ("catalog sync", owner)
    for url in ("/keys/", "/keys/new/", f"/keys/{key.pk}/revoke/"):
        page = browser.get(url).content.decode()
        assert secret not in page
        assert secret[len(key.prefix) :] not in page
    assert key.prefix in browser.get("/keys/").content.decode()


def test_a_key_needs_a_name(browser):
    answer = browser.post("/keys/new/", {"name": "", "scopes": ["inference"]})
    assert answer.status_code == 422
    assert b"<title>Error: Create key" in answer.content
    assert b'<a href="#id_name">Enter a name for the key.</a>' in answer.content
    assert not APIKey.objects.exists()


def test_revoking_asks_first_and_is_in_force_at_once(owner, browser):
    key, secret = services.issue(organization=owner.organization, name="old", user=owner)
    assert b"Revoke \xe2\x80\x9cold\xe2\x80\x9d?" in browser.get(f"/keys/{key.pk}/revoke/").content
    assert services.authenticate(secret)
    assert browser.post(f"/keys/{key.pk}/revoke/").headers["location"] == "/keys/"
    with pytest.raises(NotAuthenticated):
        services.authenticate(secret)
    assert AuditEvent.objects.filter(action="api_key.revoked", actor=owner).count() == 1
    browser.post(f"/keys/{key.pk}/revoke/")
    assert AuditEvent.objects.filter(action="api_key.revoked").count() == 1


@pytest.mark.parametrize("method", ["get", "post"])
def test_keys_of_another_organization_do_not_exist(browser, method):
    stranger = make.user()
    key, secret = services.issue(organization=make.organization(owner=stranger), name="theirs", user=stranger)
    assert getattr(browser, method)(f"/keys/{key.pk}/revoke/").status_code == 404
    assert getattr(browser, method)(f"/keys/{uuid7()}/revoke/").status_code == 404
    assert services.authenticate(secret)
    assert b"theirs" not in browser.get("/keys/").content


@pytest.mark.parametrize("url", ["/keys/", "/keys/new/", "/keys/00000000-0000-7000-8000-000000000000/revoke/"])
def test_visitors_sign_in_first(client, db, url):
    assert client.get(url).headers["location"] == f"/login/?next={url}"
    assert client.post(url).status_code in (302, 405)
    assert not APIKey.objects.exists()


def test_a_developer_revokes_own_keys_only(owner):
    colleagues, secret = services.issue(organization=owner.organization, name="the owner's", user=owner)
    user, client = developer_of(owner.organization)
    client.post("/keys/new/", {"name": "mine", "scopes": ["inference"]})
    mine = APIKey.objects.get(created_by=user)
    page = client.get("/keys/").content.decode()
    assert f"/keys/{mine.pk}/revoke/" in page
    assert f"/keys/{colleagues.pk}/revoke/" not in page
    for method in (client.get, client.post):
        refused = method(f"/keys/{colleagues.pk}/revoke/")
        assert refused.status_code == 403
        assert b"created by someone else" in refused.content
    assert services.authenticate(secret)
    client.post(f"/keys/{mine.pk}/revoke/")
    mine.refresh_from_db()
    assert mine.revoked_at


def test_an_owner_revokes_any_key(owner, browser):
    user, _ = developer_of(owner.organization)
    key, secret = services.issue(organization=owner.organization, name="a developer's", user=user)
    browser.post(f"/keys/{key.pk}/revoke/")
    with pytest.raises(NotAuthenticated):
        services.authenticate(secret)


def test_forms_need_their_token(owner):
    client = Client(enforce_csrf_checks=True)
    client.force_login(owner)
    answer = client.post("/keys/new/", {"name": "forged", "scopes": ["inference"]})
    assert answer.status_code == 403
    assert b"This form is too old" in answer.content
    assert not APIKey.objects.exists()


def ticket_in(page: str) -> str:
    return re.search(r'name="ticket" value="([^"]+)"', page)[1]


def test_a_reload_makes_no_second_key(owner, browser):
    sent = {
        "name": "catalog sync",
        "scopes": ["inference"],
        "ticket": ticket_in(browser.get("/keys/new/").content.decode()),
    }
    secret = secret_in(browser.post("/keys/new/", sent).content.decode())
    for _ in range(2):
        answer = browser.post("/keys/new/", sent)
        html = answer.content.decode()
        assert answer.status_code == 200
        assert "This key was made already" in html
        assert "Its secret was shown once" in html
        assert 'href="/keys/"' in html
        assert secret not in html
        assert 'id="secret"' not in html
    assert APIKey.objects.get().name == "catalog sync"
    assert AuditEvent.objects.filter(action="api_key.issued").count() == 1


def test_a_form_of_its_own_makes_a_key_of_its_own(owner, browser):
    for _ in range(2):
        secret_in(browser.post("/keys/new/", {"name": "n", "scopes": ["inference"], "ticket": ticket_in(browser.get("/keys/new/").content.decode())}).content.decode())  # fmt: skip
    secret_in(
        browser.post(
            "/keys/new/", {"name": "n", "scopes": ["inference"], "ticket": f"{uuid7()}:forged"}
        ).content.decode()
    )
    assert APIKey.objects.count() == 3


def test_a_corrected_form_keeps_its_ticket(browser):
    ticket = ticket_in(browser.get("/keys/new/").content.decode())
    assert (
        ticket_in(browser.post("/keys/new/", {"name": "", "scopes": ["inference"], "ticket": ticket}).content.decode())
        == ticket
    )


def test_a_form_sent_twice_at_once_makes_one_key(transactional_db):
    user = make.user()
    make.organization(owner=user)
    ticket = new_ticket()

    def send(_: int) -> int:
        client = Client()
        client.force_login(user)
        return client.post("/keys/new/", {"name": "n", "scopes": ["inference"], "ticket": ticket}).content.count(
            b'id="secret"'
        )

    assert sum(run_in_threads(4, send)) == 1
    assert APIKey.objects.count() == 1


def test_head_is_answered_where_get_is(owner, browser):
    key, _ = services.issue(organization=owner.organization, name="old", user=owner)
    for url in ("/keys/", "/keys/new/", f"/keys/{key.pk}/revoke/"):
        assert (browser.head(url).status_code, browser.head(url).content) == (200, b"")
    assert APIKey.objects.active().count() == 1
