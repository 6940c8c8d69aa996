"""Mails: two parts out of one text, and how one kind of them is stopped from the mail itself."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.core import mail
from django.test import Client

from apps.accounts import letters
from apps.accounts.mails import Mail
from apps.billing import mail as money
from apps.keys import expiry
from tests import make


def part(message) -> str:
    [alternative] = message.alternatives
    assert alternative[1] == "text/html"
    return str(alternative[0])


def stop_of(message) -> str:
    assert message.extra_headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    found = re.fullmatch(rf"<{re.escape(settings.BASE_URL)}(/\S+)>", message.extra_headers["List-Unsubscribe"])
    assert found
    return found[1]


@pytest.fixture
def expiring(db, django_capture_on_commit_callbacks):
    """An owner, and the mail of their key that ends in less than a day."""
    owner = make.user(email="lena@meridian.example")
    organization = make.organization(owner=owner)
    key, _ = make.api_key(organization, name="sync", user=owner, expires_at=datetime.now(UTC) + timedelta(hours=20))
    key.expiry_told_days = None
    key.save()
    with django_capture_on_commit_callbacks(execute=True):
        assert expiry.warn() == 1
    [message] = mail.outbox
    return owner, key, message


def test_a_mail_has_a_text_and_the_same_in_html(expiring):
    owner, key, message = expiring
    assert (message.subject, message.to) == ("API key “sync” ends in a day", [owner.email])
    ends = key.expires_at.strftime("%-d %B %Y, %H:%M")
    stop = f"{settings.BASE_URL}{stop_of(message)}"
    assert message.body == (
        f"The API key “sync” ({key.prefix}…) of Meridian Foods ends on {ends} UTC. Programs that use it are refused from "
        "then on.\n\nReplace it, so that both keys work while you change over, or give it a later end:\n"
        f"{settings.BASE_URL}/keys/{key.pk}/\n\n"
        "Let it end if nothing uses it any more. It was never used.\n\n"
        "-- \nMails like this one are sent when an API key ends in 7 days, or in 1 day.\n"
        f"To get no more of them: {stop}\n"
    )
    html = part(message)
    assert "<h1>API key “sync” ends in a day</h1>" in html
    assert f'<p><a class="button" href="{settings.BASE_URL}/keys/{key.pk}/">Open the key</a></p>' in html
    assert f'<a href="{stop}">Get no more of them</a>' in html
    assert "ends on" in html
    assert "style=" not in html
    assert "http" not in html.replace(settings.BASE_URL, "")  # nothing is fetched, nobody is counted
    assert "@media (prefers-color-scheme: dark)" in html
    assert "var(" not in html
    assert "background: #ffffff" in html  # --surface, by day


def test_one_click_stops_one_kind_and_needs_no_session(expiring, django_capture_on_commit_callbacks):
    owner, key, message = expiring
    stop, program = stop_of(message), Client(enforce_csrf_checks=True)
    for method in (program.get, program.head):
        assert method(stop).status_code == 200
    page = program.get(stop).content.decode()
    assert "lena@meridian.example gets a mail when an API key ends in 7 days, or in 1 day." in page
    owner.refresh_from_db()
    assert owner.declined_mails == []
    for _ in range(2):
        answer = program.post(stop, "List-Unsubscribe=One-Click", content_type="application/x-www-form-urlencoded")
        assert answer.status_code == 200
        owner.refresh_from_db()
        assert owner.declined_mails == ["keys"]
    key.expiry_told_days = None
    key.save()
    with django_capture_on_commit_callbacks(execute=True):
        assert expiry.warn() == 1  # the webhook is told
    assert len(mail.outbox) == 1
    program.post(stop, {"again": "1"})
    owner.refresh_from_db()
    assert owner.declined_mails == []


def test_a_changed_address_of_a_mail_stops_nothing(expiring):
    owner, _, message = expiring
    stop = stop_of(message)
    body, _, signature = stop.strip("/").rpartition("/")[2].rpartition(":")
    other = letters.token(owner, Mail.BUDGETS).rpartition(":")[0]
    for forged in (f"{other}:{signature}", body, f"{body}:{signature[:-1]}", f"{body}:{signature}x"):
        assert Client().post(f"/mails/stop/{forged}/").status_code == 404
    owner.refresh_from_db()
    assert owner.declined_mails == []


def test_mails_of_the_contract_cannot_be_stopped(db, django_capture_on_commit_callbacks):
    owner = make.user()
    organization = make.organization(owner=owner, name="<b>M\nFoods</b>")
    owner.declined_mails = [kind.value for kind in Mail]
    owner.save()
    with django_capture_on_commit_callbacks(execute=True):
        money.to_payers(organization, "refund_failed", refund=type("R", (), {"failure": "No."}), amount="$5.00")
    [message] = mail.outbox
    assert "List-Unsubscribe" not in message.extra_headers
    assert "/mails/stop/" not in message.body + part(message)
    assert "&lt;b&gt;M Foods&lt;/b&gt;" in part(message)
    assert message.body.endswith(f"\n{settings.BASE_URL}/billing/\n")


def test_mails_of_sign_up_have_both_parts(client, db):
    client.post("/signup/", {"email": "new@example.org", "password1": "a long enough password"})
    [message] = mail.outbox
    assert message.subject == "Confirm your address for Cango Portal"
    found = re.search(r"^http://testserver/verify/\S+$", message.body, re.MULTILINE)
    assert found
    assert f'<a class="button" href="{found[0]}">Confirm the address</a>' in part(message)
    assert "new@example.org" in part(message)
