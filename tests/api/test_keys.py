"""/api/v1/keys and /api/v1/members: the pages' verbs for programs, and no way to more than one has."""

import json
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from apps.accounts.models import AuditEvent, Membership
from apps.accounts.scopes import Scope
from apps.keys import members, services
from apps.keys.models import APIKey, RateLimit
from apps.ledger import limits
from tests import make
from tests.api.conftest import KeyClient
from tests.api.test_management import error

ALL = ("inference", "usage", "manage")
RATES = ("requests_per_minute", "input_tokens_per_minute", "output_tokens_per_minute", "concurrent_requests")

NO_LIMITS = dict.fromkeys(["total_microusd", "daily_microusd", "weekly_microusd", "monthly_microusd"])


def send(client, method, path, body=None):
    return client.generic(method, path, "" if body is None else json.dumps(body), "application/json")


@pytest.fixture
def manager(shop):
    shop.key, secret = make.api_key(shop.organization, scopes=ALL, user=shop.owner)
    return KeyClient(secret)


def member(organization, role: str) -> tuple[Membership, Client]:
    user = make.user()
    row = Membership.objects.create(organization=organization, user=user, role=role)
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return row, client


def test_a_key_from_creation_to_revocation(shop, manager):
    made = send(
        manager,
        "POST",
        "/api/v1/keys",
        {
            "name": "sync",
            "scopes": ["usage", "inference"],
            "allowed_models": ["acme/chat"],
            "residency": ["US"],
            "ip_ranges": ["127.0.0.1"],
            "expires_at": "2099-01-01T00:00:00Z",
            "requests_per_minute": 60,
            "concurrent_requests": 4,
        },
    )
    assert made.status_code == 201, made.content
    body = made.json()
    secret = body.pop("secret")
    key = APIKey.objects.get(name="sync")
    assert (made["location"], made["cache-control"]) == (f"/api/v1/keys/{key.public_id}", "no-store")
    assert body == {
        "id": key.public_id,
        "object": "api_key",
        "name": "sync",
        "prefix": secret[:12],
        "state": "active",
        "scopes": ["inference", "usage"],
        "allowed_models": ["acme/chat"],
        "residency": ["US"],
        "ip_ranges": ["127.0.0.1/32"],
        "limits": NO_LIMITS,
        "requests_per_minute": 60,
        "input_tokens_per_minute": None,
        "output_tokens_per_minute": None,
        "concurrent_requests": 4,
        "expires_at": "2099-01-01T00:00:00Z",
        "created_by": shop.owner.email,
        "replaces": None,
        "created_at": body["created_at"],
        "last_used_at": None,
        "last_used_ip": None,
        "last_used_agent": "",
        "revoked_at": None,
    }
    path = f"/api/v1/keys/{key.public_id}"
    assert manager.get(path).json() == body
    holder = KeyClient(secret)
    assert [model["id"] for model in holder.get("/api/v1/models").json()["data"]] == ["acme/chat"]
    refused = send(holder, "POST", "/api/v1/jobs", {"model": "acme/vectors", "input": {"input": "x"}})
    assert error(refused, 403) == ("model_not_allowed", "model")
    changed = send(manager, "PATCH", path, {"name": "new", "allowed_models": None})
    assert (changed.json()["name"], changed.json()["allowed_models"], changed.json()["residency"]) == (
        "new",
        None,
        ["US"],
    )
    replaced = send(manager, "POST", f"{path}/replace", {"overlap_seconds": 3600})
    assert replaced.status_code == 201
    assert replaced.json()["replaces"] == key.public_id
    assert error(send(manager, "POST", f"{path}/replace", {}), 409)[0] == "key_state"
    for _ in range(2):
        assert send(manager, "POST", f"{path}/revoke").json()["state"] == "revoked"
    assert error(holder.get("/api/v1/models"), 401)[0] == "invalid_api_key"
    assert KeyClient(replaced.json()["secret"]).get("/api/v1/models").status_code == 200
    actions = AuditEvent.objects.filter(data__by_key=shop.key.prefix).order_by("pk").values_list("action", flat=True)
    assert list(actions) == ["api_key.issued", "api_key.changed", "api_key.replaced", "api_key.revoked"]


def test_keys_are_paged_and_others_are_not_found(shop, manager):
    for n in range(3):
        make.api_key(shop.organization, name=f"n{n}")
    theirs, _ = make.api_key(make.organization())
    first = manager.get("/api/v1/keys?limit=3").json()
    second = manager.get(f"/api/v1/keys?limit=3&after={first['data'][-1]['id']}").json()
    names = [key["name"] for page in (first, second) for key in page["data"]]
    assert (names, first["has_more"], second["has_more"]) == (["n2", "n1", "n0", "test", "test"], True, False)
    assert error(manager.get("/api/v1/keys?after=x"))[1] == "after"
    assert error(manager.get("/api/v1/keys?page=2")) == ("unknown_parameter", "page")
    for method, action in (("GET", ""), ("PATCH", ""), ("POST", "/replace"), ("POST", "/revoke")):
        refused = send(manager, method, f"/api/v1/keys/{theirs.public_id}{action}", {} if method != "GET" else None)
        assert error(refused, 404)[0] == "key_not_found"
    theirs.refresh_from_db()
    assert theirs.revoked_at is None


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "invalid_request", "name"),
        ({"name": "x", "scopes": []}, "invalid_request", "scopes"),
        ({"name": "x", "scopes": ["root"]}, "invalid_request", "scopes.0"),
        ({"name": "x", "allowed_models": ["acme/none"]}, "invalid_value", "allowed_models"),
        ({"name": "x", "allowed_models": ["a\x00"]}, "invalid_request", "allowed_models.0"),
        ({"name": "x", "residency": ["Mars"]}, "invalid_value", "residency"),
        ({"name": "x", "ip_ranges": ["10.0.0.1/8"]}, "invalid_value", "ip_ranges"),
        ({"name": "x", "expires_at": "2001-01-01T00:00:00Z"}, "invalid_value", "expires_at"),
        ({"name": "x", "requests_per_minute": 0}, "invalid_request", "requests_per_minute"),
        ({"name": "x", "concurrent_requests": 1_000_000_001}, "invalid_request", "concurrent_requests"),
        ({"name": "x", "output_tokens_per_minute": "many"}, "invalid_request", "output_tokens_per_minute"),
        ({"name": "x", "colour": "red"}, "unknown_parameter", "colour"),
    ],
)
def test_a_bad_request_names_the_field_and_makes_no_key(shop, manager, body, code, param):
    before = APIKey.objects.count()
    asked = {"scopes": ["inference"], **body} if "name" in body else body
    assert error(send(manager, "POST", "/api/v1/keys", asked)) == (code, param)
    assert APIKey.objects.count() == before
    assert not RateLimit.objects.exists()


def test_rate_limits_are_changed_one_by_one_and_a_replacement_keeps_them(shop, manager):
    made = send(
        manager, "POST", "/api/v1/keys", {"name": "x", "scopes": ["inference"], "input_tokens_per_minute": 9000}
    ).json()
    path = f"/api/v1/keys/{made['id']}"
    changed = send(manager, "PATCH", path, {"requests_per_minute": 30}).json()
    assert [changed[name] for name in RATES] == [30, 9000, None, None]
    key = APIKey.objects.get(name="x")
    RateLimit.objects.create(
        organization=shop.organization, api_key=key, model=shop.chat, tier="batch", output_tokens_per_minute=700
    )
    event = AuditEvent.objects.get(action="api_key.changed", target=str(key.pk))
    assert event.data["changed"] == {"requests_per_minute": {"from": None, "to": 30}}
    new = send(manager, "POST", f"{path}/replace", {}).json()
    assert [new[name] for name in RATES] == [30, 9000, None, None]
    rows = RateLimit.objects.filter(api_key__replaces=key).order_by("tier")
    assert [(row.model, row.tier, row.output_tokens_per_minute) for row in rows] == [
        (None, "", None),
        (shop.chat, "batch", 700),
    ]
    gone = send(manager, "PATCH", path, {"requests_per_minute": None, "input_tokens_per_minute": None}).json()
    assert [gone[name] for name in RATES] == [None] * 4


def test_a_key_gives_another_no_more_requests_than_it_has(shop, manager):
    send(manager, "PATCH", f"/api/v1/keys/{shop.key.public_id}", {"requests_per_minute": 10})
    RateLimit.objects.create(organization=shop.organization, api_key=shop.key, model=shop.chat, concurrent_requests=1)
    other, _ = make.api_key(shop.organization, name="other", scopes=["inference"])
    for method, path, body in [
        ("POST", "/api/v1/keys", {"name": "x", "scopes": ["inference"]}),
        ("POST", "/api/v1/keys", {"name": "x", "scopes": ["inference"], "requests_per_minute": 11}),
        ("PATCH", f"/api/v1/keys/{shop.key.public_id}", {"requests_per_minute": None}),
        ("PATCH", f"/api/v1/keys/{other.public_id}", {"requests_per_minute": 5}),
        ("POST", f"/api/v1/keys/{other.public_id}/replace", {}),
    ]:
        assert error(send(manager, method, path, body), 403) == ("beyond_permit", "requests_per_minute")
    assert not APIKey.objects.filter(name="x").exists()
    assert [(row.api_key, row.requests_per_minute) for row in RateLimit.objects.order_by("pk")] == [
        (shop.key, 10),
        (shop.key, None),
    ]
    body = {"name": "x", "scopes": ["inference"], "requests_per_minute": 10}
    assert send(manager, "POST", "/api/v1/keys", body).status_code == 201
    rows = RateLimit.objects.filter(api_key__name="x").order_by("pk")
    assert [(row.model, row.requests_per_minute, row.concurrent_requests) for row in rows] == [
        (None, 10, None),
        (shop.chat, None, 1),
    ]


def test_no_key_makes_or_takes_more_than_it_has(shop):
    _, secret = make.api_key(
        shop.organization,
        scopes=["inference", "manage"],
        residency=("US",),
        expires_at=timezone.now() + timedelta(days=9),
    )
    narrow = KeyClient(secret)
    wide, wide_secret = make.api_key(shop.organization, name="wide", scopes=["inference"])
    before = APIKey.objects.count()
    ending = {"name": "x", "residency": ["US"], "expires_at": (timezone.now() + timedelta(days=1)).isoformat()}
    for body, param in [
        ({**ending, "scopes": ["usage"]}, "scopes"),
        ({**ending, "scopes": ["inference"], "residency": ["DE"]}, "residency"),
        ({**ending, "scopes": ["inference"], "expires_at": None}, "expires_at"),
    ]:
        assert error(send(narrow, "POST", "/api/v1/keys", body), 403) == ("beyond_permit", param)
    for method, action in (("PATCH", ""), ("POST", "/replace")):
        refused = send(narrow, method, f"/api/v1/keys/{wide.public_id}{action}", {})
        assert error(refused, 403)[0] == "beyond_permit"
    assert APIKey.objects.count() == before
    assert services.authenticate(wide_secret)
    assert send(narrow, "POST", "/api/v1/keys", {**ending, "scopes": ["inference"]}).status_code == 201


def test_a_limit_holds_over_the_keys_a_key_makes(shop, manager):
    limits.change(budget=shop.key.budget, actor=shop.owner, limits={"total": 5})
    made = send(manager, "POST", "/api/v1/keys", {"name": "x", "scopes": ["inference"]}).json()
    assert made["limits"]["total_microusd"] == 5
    assert APIKey.objects.get(name="x").budget_id == shop.key.budget_id


def test_spending_limits_by_a_key_that_has_none(shop, manager):
    body = {"name": "x", "scopes": ["inference"], "limits": {"daily_microusd": 1_500_000, "total_microusd": None}}
    made = send(manager, "POST", "/api/v1/keys", body).json()
    assert made["limits"] == {**NO_LIMITS, "daily_microusd": 1_500_000}
    path = f"/api/v1/keys/{made['id']}"
    changed = send(manager, "PATCH", path, {"limits": {"monthly_microusd": 0}}).json()
    assert changed["limits"] == {**NO_LIMITS, "daily_microusd": 1_500_000, "monthly_microusd": 0}
    for limits_asked, param in [
        ({"daily_microusd": -1}, "limits.daily_microusd"),
        ({"daily_microusd": 10_000_000_000_001}, "limits.daily_microusd"),
        ({"hourly_microusd": 1}, "hourly_microusd"),
    ]:
        assert error(send(manager, "PATCH", path, {"name": "y", "limits": limits_asked}))[1] == param
    assert send(manager, "PATCH", path, {"limits": {"monthly_microusd": None}}).json()["limits"] == made["limits"]
    assert manager.get(path).json()["name"] == "x"
    events = AuditEvent.objects.filter(action="limits.changed", data__by_key=shop.key.prefix).order_by("pk")
    assert [event.data.get("monthly_microusd") for event in events] == [
        None,
        {"from": None, "to": 0},
        {"from": 0, "to": None},
    ]


def test_no_key_lifts_its_own_limit(shop, manager):
    other, secret = make.api_key(shop.organization, name="other", scopes=["inference"])
    limits.change(budget=shop.key.budget, actor=shop.owner, limits={"total": 5})
    own = f"/api/v1/keys/{shop.key.public_id}"
    for method, path, body in [
        ("POST", "/api/v1/keys", {"name": "x", "scopes": ["inference"], "limits": {"total_microusd": 1}}),
        ("PATCH", own, {"limits": {"total_microusd": None}}),
        ("PATCH", f"/api/v1/keys/{other.public_id}", {"limits": {"total_microusd": 9}}),
        ("PATCH", f"/api/v1/keys/{other.public_id}", {"name": "mine now"}),
        ("POST", f"/api/v1/keys/{other.public_id}/replace", {}),
        ("POST", f"/api/v1/keys/{other.public_id}/revoke", {}),
    ]:
        assert error(send(manager, method, path, body), 403) == ("beyond_permit", "limits")
    assert manager.get(own).json()["limits"]["total_microusd"] == 5
    assert [key.name for key in APIKey.objects.of(shop.organization)] == ["other", "test", "test"]
    assert services.authenticate(secret)
    assert send(manager, "PATCH", own, {"name": "same limit"}).json()["name"] == "same limit"


def test_those_who_pay_change_spending_limits(shop):
    key, _ = make.api_key(shop.organization, name="x", user=shop.owner)
    path = f"/api/v1/keys/{key.public_id}"
    _, payer = member(shop.organization, "billing")
    _, developer = member(shop.organization, "developer")
    assert send(payer, "PATCH", path, {"limits": {"daily_microusd": 7}}).json()["limits"]["daily_microusd"] == 7
    both = {"name": "y", "limits": {"daily_microusd": 9}}
    assert error(send(payer, "PATCH", path, both), 403)[0] == "permission_denied"
    assert error(send(developer, "PATCH", path, {"limits": {"daily_microusd": 9}}), 403)[0] == "permission_denied"
    body = {"name": "mine", "scopes": ["inference"], "limits": {"daily_microusd": 3}}
    mine = send(developer, "POST", "/api/v1/keys", body).json()
    assert mine["limits"]["daily_microusd"] == 3
    refused = send(developer, "PATCH", f"/api/v1/keys/{mine['id']}", {"limits": {"daily_microusd": None}})
    assert error(refused, 403)[0] == "permission_denied"
    assert developer.get(f"/api/v1/keys/{mine['id']}").json()["limits"]["daily_microusd"] == 3
    assert developer.get(path).json()["limits"]["daily_microusd"] == 7
    assert developer.get(path).json()["name"] == "x"


def test_members_manage_keys_as_on_the_pages(shop):
    row, developer = member(shop.organization, "developer")
    assert developer.get("/api/v1/keys").status_code == 200
    refused = send(developer, "POST", "/api/v1/keys", {"name": "x", "scopes": ["manage"]})
    assert error(refused, 403) == ("beyond_permit", "scopes")
    mine = send(developer, "POST", "/api/v1/keys", {"name": "mine", "scopes": ["webhooks"]}).json()
    assert APIKey.objects.get(name="mine").created_by == row.user
    theirs, secret = make.api_key(shop.organization, user=shop.owner)
    assert error(send(developer, "POST", f"/api/v1/keys/{theirs.public_id}/revoke"), 403)[0] == "permission_denied"
    assert services.authenticate(secret)
    assert send(developer, "POST", f"/api/v1/keys/{mine['id']}/revoke").json()["state"] == "revoked"


def test_a_role_changes_and_takes_its_scopes_from_the_keys(shop, manager):
    row, _ = member(shop.organization, "owner")
    _, owner = member(shop.organization, "owner")
    _, secret = make.api_key(shop.organization, user=row.user, scopes=["inference", "webhooks", "manage"])
    path = f"/api/v1/members/mem_{row.pk}"
    assert manager.get(path).json() == {
        "id": f"mem_{row.pk}",
        "object": "member",
        "email": row.user.email,
        "name": "",
        "role": "owner",
        "joined_at": manager.get(path).json()["joined_at"],
    }
    assert send(owner, "PATCH", path, {"role": "developer"}).json()["role"] == "developer"
    assert services.authenticate(secret).scopes == {"inference", "webhooks"}
    assert error(send(manager, "PATCH", path, {"role": "king"}))[1] == "role"
    assert send(manager, "DELETE", path).status_code == 204
    assert services.authenticate(secret).scopes == {"inference"}
    assert error(manager.get(path), 404)[0] == "member_not_found"
    actions = AuditEvent.objects.filter(action__startswith="member.").order_by("pk").values_list("action", flat=True)
    assert list(actions) == ["member.role_changed", "member.removed"]


def test_one_owner_is_left(shop):
    owner = Membership.objects.get(user=shop.owner)
    client = Client(raise_request_exception=False)
    client.force_login(shop.owner)
    for method, body in (("PATCH", {"role": "developer"}), ("DELETE", None)):
        assert error(send(client, method, f"/api/v1/members/mem_{owner.pk}", body), 409)[0] == "last_owner"
    owner.refresh_from_db()
    assert owner.role == "owner"
    assert not AuditEvent.objects.filter(action__startswith="member.").exists()


def test_no_key_makes_changes_or_removes_an_owner(shop, manager):
    owner, _ = member(shop.organization, "owner")
    developer, _ = member(shop.organization, "developer")
    roles = list(Membership.objects.order_by("pk").values_list("user", "role"))
    events = AuditEvent.objects.count()
    asked = [
        ("PATCH", developer, {"role": "owner"}, "make an owner"),
        ("PATCH", owner, {"role": "developer"}, f"change the role of the owner {owner.user.email}"),
        ("PATCH", owner, {"role": "owner"}, f"change the role of the owner {owner.user.email}"),
        ("DELETE", owner, None, f"remove the owner {owner.user.email}"),
    ]
    for method, row, body, what in asked:
        refused = send(manager, method, f"/api/v1/members/mem_{row.pk}", body)
        assert error(refused, 403) == ("owner_required", "role" if body else None)
        assert refused.json()["error"]["message"] == (
            f"An API key may not {what}, whatever its scopes. Nothing was changed. An owner can, signed in."
        )
    assert list(Membership.objects.order_by("pk").values_list("user", "role")) == roles
    assert AuditEvent.objects.count() == events


def test_a_key_gives_no_role_that_may_more_than_itself(shop, manager):
    developer, _ = member(shop.organization, "developer")
    payer, signed_in = member(shop.organization, "billing")
    by_developer = make.api_key(shop.organization, scopes=Scope.values, user=developer.user)[
        1
    ]  # of before roles bounded scopes
    only = make.api_key(shop.organization, scopes=["manage", "usage"], user=shop.owner)[1]
    path = "/api/v1/members/mem_{}".format
    events = AuditEvent.objects.count()
    for key, row, role, why in (
        (manager, developer, "billing", "may pay and set limits, which no key may"),
        (KeyClient(only), developer, "billing", "may pay and set limits, which no key may"),
        (KeyClient(only), payer, "developer", "may do what this key may not: batches, inference"),
    ):
        refused = send(key, "PATCH", path(row.pk), {"role": role})
        assert error(refused, 403) == ("beyond_permit", "role")
        assert f"cannot give the role '{role}': it {why}." in refused.json()["error"]["message"]
    Membership.objects.filter(pk=developer.pk).update(role="billing")
    refused = send(KeyClient(by_developer), "PATCH", path(payer.pk), {"role": "developer"})
    assert "is not below that of whoever made this key" in refused.json()["error"]["message"]
    assert {row.role for row in Membership.objects.filter(pk__in=[developer.pk, payer.pk])} == {"billing"}
    assert AuditEvent.objects.count() == events
    assert send(signed_in, "PATCH", path(payer.pk), {"role": "billing"}).status_code == 403
    assert send(KeyClient(only), "PATCH", path(payer.pk), {"role": "billing"}).status_code == 200  # as it was
    full = make.api_key(shop.organization, scopes=Scope.values, user=shop.owner)[1]
    assert send(KeyClient(full), "PATCH", path(payer.pk), {"role": "developer"}).json()["role"] == "developer"


def test_no_key_widens_itself(shop):
    make.site(country="US", region="Georgia", code="ga-1")
    shop.organization.residency = ["US"]
    shop.organization.save()
    ends = timezone.now() + timedelta(days=2)
    key, secret = make.api_key(
        shop.organization,
        scopes=("inference", "manage"),
        allowed_models=("acme/chat",),
        residency=("US/Georgia",),
        ip_ranges=("127.0.0.1",),
        expires_at=ends,
    )
    RateLimit.objects.create(organization=shop.organization, api_key=key, requests_per_minute=5)
    client, path = KeyClient(secret), f"/api/v1/keys/{key.public_id}"
    before, events = client.get(path).json(), AuditEvent.objects.count()
    wider = {
        "scopes": ["inference", "manage", "usage"],
        "allowed_models": None,
        "residency": ["US"],
        "ip_ranges": None,
        "expires_at": (ends + timedelta(days=1)).isoformat(),
        "requests_per_minute": 6,
    }
    for name, value in wider.items():
        assert error(send(client, "PATCH", path, {name: value}), 403) == ("beyond_permit", name)
    for places in (["US", "DE"], ["US"], None):  # its organization's rule is its own too
        refused = send(client, "PATCH", "/api/v1/organization", {"residency": places})
        assert error(refused, 403) == ("beyond_permit", "residency")
    free = KeyClient(make.api_key(shop.organization, scopes=ALL)[1])  # of no place itself
    events += 1
    for places in (["US", "DE"], None):
        refused = send(free, "PATCH", "/api/v1/organization", {"residency": places})
        assert error(refused, 403) == ("beyond_permit", "residency")
    after = client.get(path).json()
    assert {name: after[name] for name in wider} == {name: before[name] for name in wider}
    shop.organization.refresh_from_db()
    assert shop.organization.residency == ["US"]
    assert AuditEvent.objects.count() == events


def test_who_manages_members(shop, manager):
    row, developer = member(shop.organization, "developer")
    other, _ = member(make.organization(), "owner")
    assert [each["role"] for each in developer.get("/api/v1/members").json()["data"]] == ["owner", "developer"]
    owners = Membership.objects.get(user=shop.owner)
    assert error(send(developer, "DELETE", f"/api/v1/members/mem_{owners.pk}"), 403)[0] == "permission_denied"
    for public_id in (f"mem_{other.pk}", "mem_x", "mem_", str(row.pk), "mem_99999999999999999999"):
        assert error(send(manager, "DELETE", f"/api/v1/members/{public_id}"), 404)[0] == "member_not_found"
    page = manager.get("/api/v1/members?limit=1").json()
    assert (len(page["data"]), page["has_more"]) == (1, True)
    rest = manager.get(f"/api/v1/members?after={page['data'][0]['id']}").json()
    assert ([each["id"] for each in rest["data"]], rest["has_more"]) == ([f"mem_{row.pk}"], False)
    assert Membership.objects.count() == 3
    assert error(shop.client.get("/api/v1/members"), 403)[0] == "insufficient_scope"


def test_places_of_the_organization(shop, manager):
    make.site(country="US", region="Georgia", code="ga-1")
    path = "/api/v1/organization"
    assert shop.client.get(path).json()["residency"] is None
    assert error(send(shop.client, "PATCH", path, {"residency": ["US"]}), 403)[0] == "insufficient_scope"
    _, developer = member(shop.organization, "developer")
    assert error(send(developer, "PATCH", path, {"residency": ["US"]}), 403)[0] == "permission_denied"
    for body, param in [
        ({"residency": ["Mars"]}, "residency"),
        ({"residency": []}, "residency"),
        ({"name": "x"}, "name"),
    ]:
        assert error(send(manager, "PATCH", path, body))[1] == param
    shop.organization.refresh_from_db()
    assert shop.organization.residency is None
    body = send(manager, "PATCH", path, {"residency": ["US/Georgia", "US"]}).json()
    assert (body["object"], body["name"], body["residency"]) == ("organization", "Meridian Foods", ["US"])
    narrow = KeyClient(make.api_key(shop.organization, scopes=ALL, residency=("US/Georgia",))[1])
    for wider in (["US"], None):
        assert error(send(narrow, "PATCH", path, {"residency": wider}), 403) == ("beyond_permit", "residency")
    assert send(manager, "PATCH", path, {}).json()["residency"] == ["US"]
    _, owner = member(shop.organization, "owner")
    assert send(owner, "PATCH", path, {"residency": None}).json()["residency"] is None
    events = AuditEvent.objects.filter(action="organization.residency_changed").order_by("pk")
    assert [event.data for event in events] == [
        {"from": None, "to": ["US"], "by_key": shop.key.prefix},
        {"from": ["US"], "to": None},
    ]


def test_spending_limits_are_changed_by_keys_of_those_who_pay(shop, manager):
    admin, _ = member(shop.organization, "admin")
    _, secret = make.api_key(shop.organization, name="of an admin", scopes=ALL, user=admin.user)
    path = f"/api/v1/keys/{shop.key.public_id}"
    refused = send(KeyClient(secret), "PATCH", path, {"name": "other", "limits": {"total_microusd": 9}})
    assert error(refused, 403)[0] == "permission_denied"
    shop.key.refresh_from_db()
    assert (shop.key.name, shop.key.budget.total_limit_microusd) == ("test", None)
    assert send(manager, "PATCH", path, {"limits": {"total_microusd": 9}}).status_code == 200


def test_a_replacement_is_bound_by_who_made_it(shop, manager):
    """An admin who takes an owner's key over gets no more than an admin's, and loses it with the role."""
    admin, client = member(shop.organization, "admin")
    billing, _ = member(shop.organization, "billing")
    made = send(client, "POST", f"/api/v1/keys/{shop.key.public_id}/replace", {"overlap_seconds": 0})
    assert made.status_code == 201, made.content
    assert made.json()["created_by"] == admin.user.email
    taken = KeyClient(made.json()["secret"])
    refused = send(taken, "DELETE", f"/api/v1/members/mem_{billing.pk}")
    assert error(refused, 403)[0] == "beyond_permit"
    assert Membership.objects.filter(pk=billing.pk).exists()
    members.change_role(membership=admin, role="developer", user=shop.owner)
    assert APIKey.objects.get(prefix=made.json()["prefix"]).scopes == ["inference", "usage"]
