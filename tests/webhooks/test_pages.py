"""Webhooks in the browser: a secret once, the log with request and response, never another organization's."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from apps.accounts.models import AuditEvent, Membership
from apps.webhooks import secrets, sending, services
from apps.webhooks.models import Delivery, Endpoint, Message
from tests import make

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
URL = "https://hooks.example.com/cango"


@pytest.fixture
def owner(db):
    user = make.user()
    user.organization = make.organization(owner=user)
    return user


def browser_of(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def browser(owner) -> Client:
    return browser_of(owner)


def member(organization, role) -> Client:
    user = make.user()
    Membership.objects.create(organization=organization, user=user, role=role)
    return browser_of(user)


def secret_in(page: str) -> str:
    return page.split('<code id="secret">')[1].split("</code>", maxsplit=1)[0]


def hidden(page: str, name: str) -> str:
    return re.search(rf'name="{name}" value="([^"]+)"', page)[1]


def test_the_first_visit_says_what_it_is_for(browser):
    page = browser.get("/settings/webhooks/").content.decode()
    assert "No webhooks yet" in page
    assert 'href="/settings/webhooks/new/"' in page
    assert 'aria-current="page"' in page


def test_a_secret_is_shown_once(owner, browser):
    form = browser.get("/settings/webhooks/new/").content.decode()
    assert 'value="budget.exhausted"' in form
    assert "webhook.test" not in form
    sent = {
        "url": URL,
        "description": "orders",
        "event_types": ["key.revoked", "job.failed"],
        "ticket": hidden(form, "ticket"),
    }
    answer = browser.post("/settings/webhooks/new/", sent)
    secret = secret_in(answer.content.decode())
    endpoint = Endpoint.objects.get()
    assert secrets.unseal(endpoint.secret) == secret
    assert "no-store" in answer.headers["cache-control"]
    assert (endpoint.url, endpoint.description, endpoint.event_types, endpoint.created_by) == (
        URL,
        "orders",
        ["job.failed", "key.revoked"],
        owner,
    )
    again = browser.post("/settings/webhooks/new/", sent).content.decode()
    assert "added already" in again
    assert Endpoint.objects.count() == 1
    for url in ("/settings/webhooks/", f"/settings/webhooks/{endpoint.public_id}/", f"/settings/webhooks/{endpoint.public_id}/edit/"):  # fmt: skip
        page = browser.get(url).content.decode()
        assert URL in page
        assert secret not in page
        assert secret.removeprefix("whsec_") not in page
    assert AuditEvent.objects.get(action="webhook.created").actor == owner


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"url": ""}, "Enter the URL of your server."),
        ({"url": "https://127.0.0.1/"}, "This address is private or reserved."),
        ({"url": "https://user@example.com/"}, "may not hold a user name"),
        ({"url": URL, "event_types": ["job.exploded"]}, "There is no event type job.exploded."),
        ({"url": URL, "event_types": ["webhook.test"]}, "There is no event type webhook.test."),
        ({"url": URL, "description": "x" * 121}, "at most 120 characters"),
    ],
)
def test_a_refused_form_says_why_and_makes_nothing(browser, fields, words):
    answer = browser.post("/settings/webhooks/new/", fields)
    page = answer.content.decode()
    assert answer.status_code == 422
    assert words in page
    assert "<title>Error: Add webhook" in page
    assert not Endpoint.objects.exists()
    assert not AuditEvent.objects.filter(action="webhook.created").exists()


def test_ten_are_enough(owner, browser):
    for _ in range(10):
        services.create(organization=owner.organization, url=URL, event_types=[], user=None)
    answer = browser.post("/settings/webhooks/new/", {"url": URL})
    assert (answer.status_code, Endpoint.objects.count()) == (422, 10)
    assert b"at most 10 webhooks" in answer.content


def test_the_log_shows_request_and_response_as_text(hook, receiver):
    receiver.body = b"<script>alert(1)</script>"
    message = hook.notify(note="<b>&")
    sending.send_due(now=NOW)
    browser = browser_of(hook.owner)
    row = Delivery.objects.get()
    listed = browser.get("/settings/webhooks/").content.decode()
    assert "Delivered (200)" in listed
    assert "balance.low" in listed
    page = browser.get(f"/settings/webhooks/{hook.endpoint.public_id}/").content.decode()
    assert f"/settings/webhooks/{hook.endpoint.public_id}/deliveries/{row.public_id}/" in page
    assert "1 of 9" in page
    page = browser.get(f"/settings/webhooks/{hook.endpoint.public_id}/deliveries/{row.public_id}/").content.decode()
    assert message.public_id in page
    assert "1 of 9" in page
    assert "webhook-signature: v1," in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert(1)" not in page
    assert "&quot;note&quot;: &quot;&lt;b&gt;&amp;&quot;" in page
    assert "Replay event" in page


def test_older_deliveries_by_key(hook):
    browser = browser_of(hook.owner)
    base = f"/settings/webhooks/{hook.endpoint.public_id}/"
    assert "Nothing sent yet" in browser.get(base).content.decode()
    for n in range(51):
        hook.notify(f"k{n}")
    rows = list(Delivery.objects.order_by("-id"))
    page = browser.get(base).content.decode()
    assert rows[49].public_id in page
    assert rows[50].public_id not in page
    older = browser.get(f"{base}?before={rows[49].public_id}").content.decode()
    assert rows[50].public_id in older
    assert "Newest" in older
    assert rows[0].public_id in browser.get(f"{base}?before=nonsense").content.decode()
    assert "No older deliveries" in browser.get(f"{base}?before={rows[50].public_id}").content.decode()


def test_every_action_by_its_button(hook, receiver):
    browser = browser_of(hook.owner)
    base = f"/settings/webhooks/{hook.endpoint.public_id}/"
    assert browser.post(f"{base}test/").headers["location"] == base
    assert sending.send_due(now=NOW).delivered == 1
    row = Delivery.objects.get()
    assert browser.post(f"{base}deliveries/{row.public_id}/replay/").headers["location"] == base
    assert (
        b"on its way to the webhook already"
        in browser.post(f"{base}deliveries/{row.public_id}/replay/", follow=True).content
    )
    assert Delivery.objects.count() == 2
    browser.post(f"{base}disable/")
    assert not hook.again().enabled
    page = browser.get(base).content.decode()
    assert "Turned off by a member." in page
    assert "由成员关闭。" in browser.get(base, headers={"accept-language": "zh-hans"}).content.decode()
    assert hook.again().disabled_reason == "Turned off by a member."
    assert "Send test event" not in page
    assert b"This webhook is off" in browser.post(f"{base}test/", follow=True).content
    browser.post(f"{base}enable/")
    assert hook.again().enabled
    changed = {"url": "http://127.0.0.1:9/x", "description": "new", "event_types": ["key.created"]}
    assert browser.post(f"{base}edit/", changed).headers["location"] == base
    assert (hook.again().url, hook.endpoint.event_types) == ("http://127.0.0.1:9/x", ["key.created"])
    assert browser.post(f"{base}edit/", {"url": "nonsense"}).status_code == 422
    assert b"Delete this webhook?" in browser.get(f"{base}delete/").content
    assert Endpoint.objects.exists()
    assert browser.post(f"{base}delete/").headers["location"] == "/settings/webhooks/"
    assert not Endpoint.objects.exists()
    assert browser.get(base).status_code == 404
    assert set(AuditEvent.objects.filter(action__startswith="webhook.").values_list("action", flat=True)) == {
        "webhook.created",
        "webhook.disabled",
        "webhook.enabled",
        "webhook.changed",
        "webhook.deleted",
    }


def test_replacing_the_secret_once_for_one_form(hook):
    browser = browser_of(hook.owner)
    url = f"/settings/webhooks/{hook.endpoint.public_id}/rotate/"
    current = hidden(browser.get(url).content.decode(), "current")
    page = browser.post(url, {"current": current}).content.decode()
    secret = secret_in(page)
    endpoint = hook.again()
    assert secrets.unseal(endpoint.secret) == secret
    assert secrets.unseal(endpoint.previous_secret) == hook.secret
    assert timedelta(hours=23) < endpoint.previous_secret_expires_at - datetime.now(UTC) <= timedelta(hours=24)
    again = browser.post(url, {"current": current}).content.decode()
    assert "replaced already" in again
    assert secrets.unseal(hook.again().secret) == secret
    assert "Old secret valid until" in browser.get(f"/settings/webhooks/{endpoint.public_id}/").content.decode()


ADDRESSES = [
    ("get", ""),
    ("get", "edit/"),
    ("post", "edit/"),
    ("post", "test/"),
    ("get", "rotate/"),
    ("post", "rotate/"),
    ("post", "disable/"),
    ("post", "enable/"),
    ("get", "delete/"),
    ("post", "delete/"),
    ("get", "deliveries/{delivery}/"),
    ("post", "deliveries/{delivery}/replay/"),
]


def state_of_everything():
    return (
        list(Endpoint.objects.order_by("pk").values()),
        list(Delivery.objects.order_by("pk").values()),
        Message.objects.count(),
    )


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
def test_another_organization_and_visitors_see_nothing(hook, method, path):
    hook.notify()
    url = f"/settings/webhooks/{hook.endpoint.public_id}/" + path.format(delivery=Delivery.objects.get().public_id)
    stranger = make.user()
    theirs = make.organization(owner=stranger, name="Others")
    services.create(organization=theirs, url=hook.endpoint.url, event_types=[], user=None)
    before = state_of_everything()
    client = browser_of(stranger)
    assert getattr(client, method)(url).status_code == 404
    assert getattr(Client(), method)(url).headers["location"].startswith("/login/")
    refused = getattr(member(hook.organization, "billing"), method)(url)
    assert refused.status_code == 403
    assert b"managed by the owners, admins and developers" in refused.content
    assert state_of_everything() == before
    for public_id in ("x", "wh_0", Endpoint.objects.get(organization=theirs).pk):
        assert getattr(client, method)(url.replace(hook.endpoint.public_id, str(public_id))).status_code == 404


def test_a_delivery_is_found_only_under_its_own_webhook(hook):
    hook.notify()
    other, _ = services.create(organization=hook.organization, url=hook.endpoint.url, event_types=[], user=None)
    delivery = Delivery.objects.get().public_id
    url = f"/settings/webhooks/{other.public_id}/deliveries/{delivery}/"
    assert browser_of(hook.owner).get(url).status_code == 404


def test_developers_manage_and_billing_is_told_why_not(owner):
    developer = member(owner.organization, "developer")
    assert developer.get("/settings/webhooks/").status_code == 200
    secret_in(developer.post("/settings/webhooks/new/", {"url": URL}).content.decode())
    billing = member(owner.organization, "billing")
    for answer in (billing.get("/settings/webhooks/"), billing.post("/settings/webhooks/new/", {"url": URL})):
        assert answer.status_code == 403
        assert b"managed by the owners, admins and developers" in answer.content
    assert Endpoint.objects.count() == 1


def test_forms_need_their_token(hook):
    client = Client(enforce_csrf_checks=True)
    client.force_login(hook.owner)
    assert client.post(f"/settings/webhooks/{hook.endpoint.public_id}/delete/").status_code == 403
    assert Endpoint.objects.exists()
