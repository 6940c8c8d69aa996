"""/api/v1/webhooks: the same verbs for programs, with the same refusals."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from apps.accounts.models import Membership
from apps.webhooks import secrets, sending, services
from apps.webhooks.models import Delivery, Endpoint, Message
from tests import make
from tests.api.conftest import KeyClient
from tests.webhooks.test_trouble import NOW

URL = "https://hooks.example.com/cango"


@pytest.fixture
def organization(db):
    return make.organization(owner=make.user())


@pytest.fixture
def client(organization) -> KeyClient:
    return KeyClient(make.api_key(organization)[1])


def send(client, method, path, body=None):
    return client.generic(method, path, "" if body is None else json.dumps(body), "application/json")


def test_a_webhook_from_creation_to_deletion(organization, client):
    made = send(client, "POST", "/api/v1/webhooks", {"url": URL, "event_types": ["key.revoked", "balance.low"]})
    assert made.status_code == 201
    body = made.json()
    endpoint = Endpoint.objects.get()
    assert made.headers["location"] == f"/api/v1/webhooks/{endpoint.public_id}"
    assert body.pop("secret") == secrets.unseal(endpoint.secret)
    assert body == {
        "id": endpoint.public_id,
        "object": "webhook",
        "url": URL,
        "description": "",
        "event_types": ["balance.low", "key.revoked"],
        "enabled": True,
        "disabled_reason": "",
        "consecutive_failures": 0,
        "previous_secret_expires_at": None,
        "created_at": body["created_at"],
    }
    assert client.get(f"/api/v1/webhooks/{body['id']}").json() == body
    assert client.get("/api/v1/webhooks").json() == {"object": "list", "data": [body]}
    path = f"/api/v1/webhooks/{body['id']}"
    changed = send(client, "PATCH", path, {"description": "orders", "event_types": []}).json()
    assert (changed["description"], changed["event_types"], changed["url"]) == ("orders", [], URL)
    off = send(client, "PATCH", path, {"enabled": False}).json()
    assert (off["enabled"], off["disabled_reason"]) == (False, "Turned off by a member.")
    assert send(client, "PATCH", path, {"enabled": True}).json()["enabled"]
    rotated = send(client, "POST", f"{path}/rotate").json()
    endpoint.refresh_from_db()
    assert rotated["secret"] == secrets.unseal(endpoint.secret)
    assert rotated["previous_secret_expires_at"]
    assert "secret" not in client.get(path).json()
    assert send(client, "DELETE", path).status_code == 204
    assert client.get(path).json()["error"]["code"] == "webhook_not_found"
    assert not Endpoint.objects.exists()


def test_deliveries_test_and_replay(hook, receiver):
    client = KeyClient(make.api_key(hook.organization)[1])
    Message.objects.all().delete()  # of the key
    path = f"/api/v1/webhooks/{hook.endpoint.public_id}"
    sent = send(client, "POST", f"{path}/test")
    assert (sent.status_code, sent.json()["state"], sent.json()["type"]) == (202, "pending", "webhook.test")
    sending.send_due(now=NOW)
    row = Delivery.objects.get()
    page = client.get(f"{path}/deliveries").json()
    assert page["has_more"] is False
    (listed,) = page["data"]
    assert (listed["id"], listed["message_id"]) == (row.public_id, row.message.public_id)
    assert (listed["state"], listed["response_status"], listed["response_excerpt"]) == ("delivered", 200, "ok")
    assert listed["request_body"].encode() == receiver.received[0].body
    again = send(client, "POST", f"{path}/deliveries/{row.public_id}/replay")
    assert (again.status_code, again.json()["replay"]) == (202, True)
    busy = send(client, "POST", f"{path}/deliveries/{row.public_id}/replay")
    assert (busy.status_code, busy.json()["error"]["code"]) == (409, "webhook_state")
    first = client.get(f"{path}/deliveries?limit=1").json()
    assert first["has_more"]
    after = client.get(f"{path}/deliveries?limit=1&after={first['data'][0]['id']}").json()
    assert [one["id"] for one in after["data"]] == [row.public_id]
    assert client.get(f"{path}/deliveries?after=x").json()["error"]["param"] == "after"
    assert client.get(f"{path}/deliveries?limit=101").status_code == 400
    assert send(client, "POST", f"{path}/deliveries/dlv_x/replay").json()["error"]["code"] == "delivery_not_found"


def test_test_events_are_counted(hook):
    client = KeyClient(make.api_key(hook.organization, scopes=["webhooks"])[1])
    path = f"/api/v1/webhooks/{hook.endpoint.public_id}/test"
    assert [send(client, "POST", path).status_code for _ in range(11)] == [202] * 10 + [429]
    refused = send(client, "POST", path)
    assert (refused.json()["error"]["code"], refused.headers["retry-after"]) == ("too_many_tests", "60")
    assert Delivery.objects.filter(message__type="webhook.test").count() == 10
    Message.objects.update(created_at=timezone.now() - timedelta(seconds=61))
    assert send(client, "POST", path).status_code == 202


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "url", None),
        ({"url": "https://169.254.169.254/"}, "url", "invalid_url"),
        ({"url": "http://example.com:22/"}, "url", "invalid_url"),
        ({"url": 7}, "url", "invalid_url"),
        ({"url": "https://example.com/\0"}, "url", None),
        ({"url": "https://example.com/\ud800"}, "url", None),
        ({"url": URL, "event_types": ["nothing"]}, "event_types", "unknown_event_type"),
        ({"url": URL, "event_types": "balance.low"}, "event_types", None),
        ({"url": URL, "event_types": [["x"]]}, "event_types.0", None),
        ({"url": URL, "event_types": ["balance.low"] * 51}, "event_types", None),
        ({"url": URL, "description": "x" * 121}, "description", None),
        ({"url": URL, "secret": "whsec_mine"}, "secret", "unknown_parameter"),
        ([], None, None),
    ],
)
def test_what_cannot_be_is_refused_by_name(client, body, param, code):
    answer = send(client, "POST", "/api/v1/webhooks", body)
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert error["message"]
    if param:
        assert error["param"] == param
    if code:
        assert error["code"] == code
    assert not Endpoint.objects.exists()


def test_ten_are_enough(organization, client):
    for _ in range(10):
        services.create(organization=organization, url=URL, event_types=[], user=None)
    answer = send(client, "POST", "/api/v1/webhooks", {"url": URL})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "too_many_webhooks")
    assert Endpoint.objects.count() == 10


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/test"),
        ("POST", "/rotate"),
        ("GET", "/deliveries"),
        ("POST", "/deliveries/{delivery}/replay"),
    ],
)
def test_another_organization_finds_nothing_and_billing_is_told_why(hook, method, path):
    hook.notify()
    url = f"/api/v1/webhooks/{hook.endpoint.public_id}" + path.format(delivery=Delivery.objects.get().public_id)
    before = list(Endpoint.objects.values()), list(Delivery.objects.values())
    stranger = KeyClient(make.api_key(make.organization())[1])
    answer = send(stranger, method, url, {} if method == "PATCH" else None)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "webhook_not_found")
    assert send(KeyClient(), method, url).status_code == 401
    billing = make.user()
    Membership.objects.create(organization=hook.organization, user=billing, role=Membership.Role.BILLING)
    member = KeyClient()
    member.handler.enforce_csrf_checks = False
    member.force_login(billing)
    answer = send(member, method, url)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "permission_denied")
    assert (list(Endpoint.objects.values()), list(Delivery.objects.values())) == before
    assert stranger.get("/api/v1/webhooks").json()["data"] == []
