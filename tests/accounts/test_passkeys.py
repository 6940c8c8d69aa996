"""What is refused of passkeys, and who hears of them. Their ceremonies are in tests/browser/test_passkeys.py."""

import json

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.webauthn.internal import auth
from django.contrib.sessions.models import Session
from django.core import mail
from django.core.exceptions import ValidationError

from apps.accounts.forms import PasskeyLoginForm
from apps.accounts.models import AuditEvent, Membership
from tests import make
from tests.portal.test_pages import assert_clean

PASSWORD = "correct horse battery"


@pytest.fixture
def passkey(db):
    """Rows as allauth writes them; no page of these tests opens the credential."""
    owner = make.user(email="lena@meridian.example")
    made = make.organization(owner=owner)
    colleague = make.user(email="max@meridian.example")
    Membership.objects.create(organization=made, user=colleague, role="owner")
    return Authenticator.objects.create(user=owner, type="webauthn", data={"name": "Phone", "credential": {}})


def sign_in(client, user):
    """With the password just now, so that nothing asks for it again."""
    client.post("/login/", {"login": user.email, "password": PASSWORD})
    client.post("/login/again/", {"password": PASSWORD})


def test_somebody_elses_is_not_there(client, passkey):
    colleague = passkey.user.memberships.get().organization.members.get(email="max@meridian.example")
    sign_in(client, colleague)
    for path in (f"/settings/security/passkeys/{passkey.pk}/", f"/settings/security/passkeys/{passkey.pk}/remove/"):
        assert client.get(path).status_code == 404
        assert client.post(path, {"name": "Mine"}).status_code == 404
    assert "Phone" not in client.get("/settings/security/").content.decode()
    assert Authenticator.objects.get().wrap().name == "Phone"
    assert (AuditEvent.objects.count(), mail.outbox) == (0, [])


def test_it_asks_who_it_is_before_anything_changes(client, passkey):
    client.force_login(passkey.user)
    for path in ("add/", f"{passkey.pk}/", f"{passkey.pk}/remove/"):
        answer = client.post(f"/settings/security/passkeys/{path}", {"name": "Other"})
        assert answer.headers["location"].startswith("/login/again/?next=")
    assert Authenticator.objects.get().wrap().name == "Phone"


@pytest.mark.parametrize(
    "sent",
    ["", "null", "[]", "7", '"x"', "{}", '{"response": []}', '{"response": {"userHandle": "!"}}', '{"id": "AA", "rawId": "AA", "type": "public-key", "response": {"clientDataJSON": "AA", "attestationObject": "AA", "authenticatorData": "AA", "signature": "AA", "userHandle": "MQ"}}'],
)  # fmt: skip
def test_what_is_no_passkey_signs_nobody_in(client, db, sent):
    make.user(pk=1)
    assert client.get("/login/passkey/").headers["location"] == "/login/"
    options = client.get("/login/passkey/", headers={"accept": "application/json"}).json()["request_options"]
    assert options["publicKey"]["rpId"] == "localhost"
    assert options["publicKey"]["userVerification"] == "required"
    answer = client.post("/login/passkey/", {"credential": sent}, follow=True)
    assert answer.redirect_chain == [("/login/", 302)]
    assert "_auth_user_id" not in client.session
    user = make.user()
    sign_in(client, user)
    page = client.get("/settings/security/passkeys/add/")
    asked = json.loads(page.context["options"])["publicKey"]
    assert asked["authenticatorSelection"] == {"residentKey": "required", "requireResidentKey": True, "userVerification": "required"}  # fmt: skip
    refused = client.post("/settings/security/passkeys/add/", {"credential": sent, "name": "x"})
    assert b"No passkey was added." in refused.content
    assert not Authenticator.objects.exists()


def test_the_password_alone_signs_in_no_more(client, passkey):
    answer = client.post("/login/", {"login": passkey.user.email, "password": PASSWORD})
    assert answer.headers["location"] == "/login/code/"
    assert "_auth_user_id" not in client.session


def test_removing_the_last_takes_the_recovery_codes_and_tells(client, passkey, django_capture_on_commit_callbacks):
    user = passkey.user
    Authenticator.objects.create(user=user, type="recovery_codes", data={"seed": "x", "used_mask": 0})
    client.force_login(user)
    client.post("/login/again/", {"password": PASSWORD})
    page = client.get(f"/settings/security/passkeys/{passkey.pk}/remove/")
    assert_clean(page)
    assert b"the recovery codes stop working" in page.content
    assert client.post(f"/settings/security/passkeys/{passkey.pk}/", {"name": "Old phone"}).status_code == 302
    with django_capture_on_commit_callbacks(execute=True):
        gone = client.post(f"/settings/security/passkeys/{passkey.pk}/remove/")
        assert mail.outbox == []  # nothing is told of what a fault may still take back
    assert gone.headers["location"] == "/settings/security/"
    assert not Authenticator.objects.exists()
    [message] = mail.outbox
    assert (message.to, message.subject) == ([user.email], "A passkey was removed from your Cango Portal account")
    organization = user.memberships.get().organization
    told = AuditEvent.objects.order_by("pk").values_list("organization", "actor", "action", "data")
    assert list(told) == [
        (organization.pk, user.pk, "passkey.renamed", {"name": {"from": "Phone", "to": "Old phone"}}),
        (organization.pk, user.pk, "passkey.removed", {"name": "Old phone"}),
        (organization.pk, user.pk, "recovery_codes.removed", {}),
    ]
    trail = client.get("/settings/audit/?kind=sign_in").content.decode()
    assert "Passkey removed" in trail
    assert "name: Phone → Old phone" in trail


def test_a_mail_server_that_refuses_stops_no_change(client, passkey, monkeypatch, django_capture_on_commit_callbacks):
    monkeypatch.setattr("django.core.mail.EmailMessage.send", refuse)
    client.force_login(passkey.user)
    client.post("/login/again/", {"password": PASSWORD})
    with django_capture_on_commit_callbacks(execute=True) as told:
        assert client.post(f"/settings/security/passkeys/{passkey.pk}/remove/").status_code == 302
    assert len(told) == 1
    assert not Authenticator.objects.exists()


def test_asking_for_a_challenge_leaves_nothing_behind_and_it_is_answered_once(client, db, monkeypatch):
    """Whoever asks a thousand times makes no row; the question is the browser's own, and is not put twice."""
    options = {"accept": "application/json"}
    asked = [client.get("/login/passkey/", headers=options) for _ in range(3)]
    assert len({answer.json()["request_options"]["publicKey"]["challenge"] for answer in asked}) == 3
    assert (Session.objects.count(), list(client.cookies)) == (0, ["passkey"])
    cookie = client.cookies["passkey"]
    assert (cookie["path"], cookie["httponly"], cookie["samesite"], cookie["max-age"]) == (
        "/login/passkey/",
        True,
        "Strict",
        300,
    )
    put = []
    monkeypatch.setattr(PasskeyLoginForm, "clean_credential", lambda form: put.append(auth.get_state()) or refuse_it())
    for _ in range(2):
        client.cookies["passkey"] = cookie.value
        assert client.post("/login/passkey/", {"credential": '{"id": "AA"}'}).headers["location"] == "/login/"
    client.cookies["passkey"] = f"{cookie.value}x"
    client.post("/login/passkey/", {"credential": '{"id": "AA"}'})
    assert [state and state["challenge"] for state in put] == [
        asked[-1].json()["request_options"]["publicKey"]["challenge"],
        None,
        None,
    ]
    assert Session.objects.count() == 0


def refuse_it():
    raise ValidationError("no")


def refuse(*_, **__):
    raise ConnectionRefusedError
