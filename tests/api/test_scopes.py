"""What a key may do over the management API: each path asks for its scope, and a key without it leaves nothing."""

import json

import pytest

from apps.accounts.api import InOrganization
from apps.accounts.scopes import Scope, holds
from apps.jobs.models import Job
from apps.ledger.models import Hold
from apps.webhooks.models import Endpoint
from cango_portal import api
from tests import make
from tests.api.conftest import KeyClient
from tests.api.test_management import CHAT, error, post

URL = "https://hooks.example.com/cango"


def client_of(shop, *scopes: str) -> KeyClient:
    return KeyClient(make.api_key(shop.organization, scopes=scopes)[1])


def test_every_path_names_its_scope():
    views = [view for route in api.urlpatterns if (view := getattr(route.callback, "view_class", None))]
    ours = [view for view in views if any(issubclass(each, InOrganization) for each in view.permission_classes)]
    assert len(ours) > 10
    assert [view.__name__ for view in ours if not hasattr(view, "scope")] == []


@pytest.mark.parametrize(
    ("path", "scopes"),
    [
        ("organization", set(Scope.values)),
        ("models", set(Scope.values)),
        ("balance", {"usage"}),
        ("transfers", {"usage"}),
        ("usage", {"usage"}),
        ("invoices", {"usage"}),
        ("jobs", {"usage", "inference"}),
        ("webhooks", {"webhooks", "manage"}),
        ("keys", {"manage"}),
        ("members", {"manage"}),
    ],
)
def test_who_may_read(shop, path, scopes):
    allowed = {scope for scope in Scope.values if client_of(shop, scope).get(f"/api/v1/{path}").status_code == 200}
    assert allowed == scopes


def test_a_refusal_names_the_scope_and_the_place_and_leaves_nothing(shop, settings):
    key, secret = make.api_key(shop.organization, scopes=["usage"])
    client = KeyClient(secret)
    response = post(client, CHAT)
    assert error(response, 403) == ("insufficient_scope", None)
    assert response.json()["error"] == {
        "message": "This API key lacks the scope inference; it has usage. Nothing was accepted or charged. "
        f"Give it the scope at {settings.BASE_URL}/keys/{key.pk}/, or use another key.",
        "type": "permission_error",
        "param": None,
        "code": "insufficient_scope",
    }
    made = client.post("/api/v1/webhooks", json.dumps({"url": URL}), content_type="application/json")
    assert error(made, 403)[0] == "insufficient_scope"
    assert [model.objects.count() for model in (Job, Hold, Endpoint)] == [0, 0, 0]


def test_a_key_that_only_sends_work_sees_only_its_own(shop):
    sender = client_of(shop, "inference")
    own = post(sender, CHAT).json()["id"]
    other = post(shop.client, CHAT).json()["id"]
    assert [job["id"] for job in sender.get("/api/v1/jobs").json()["data"]] == [own]
    assert sender.get(f"/api/v1/jobs/{own}").status_code == 200
    assert error(sender.get(f"/api/v1/jobs/{other}"), 404)[0] == "job_not_found"
    assert error(post(sender, {}, f"/api/v1/jobs/{other}/cancel"), 404)[0] == "job_not_found"
    assert Job.objects.filter(state="queued").count() == 2
    assert error(post(client_of(shop, "usage"), {}, f"/api/v1/jobs/{own}/cancel"), 403)[0] == "insufficient_scope"
    assert post(sender, {}, f"/api/v1/jobs/{own}/cancel").json()["state"] == "cancelled"


def test_to_manage_is_to_manage_webhooks_and_nothing_else():
    assert {scope for scope in Scope.values if holds(frozenset({"manage"}), scope)} == {"manage", "webhooks"}
    assert holds(frozenset(), None)
    assert not holds(frozenset(), ("usage", "inference"))
