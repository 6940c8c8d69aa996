"""A right that is taken while a request is on its way counts: what a key is given is asked of locked rows."""

import json
import threading

import pytest
from django.db import transaction
from django.test import Client

from apps.accounts.models import AuditEvent, Membership
from apps.core.errors import InvalidRequest, NotAllowed
from apps.keys import members, permits, services
from apps.keys.models import APIKey
from apps.keys.permits import BeyondPermit, Permit
from apps.ledger.models import Budget
from tests import make
from tests.threads import run_in_threads, until_somebody_waits


def member(organization, role: str) -> Membership:
    return Membership.objects.create(organization=organization, user=make.user(), role=role)


def signed_in(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.story
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/v1/keys", {"name": "late", "scopes": ["webhooks"]}),
        ("PATCH", "/api/v1/keys/{key}", {"scopes": ["inference", "webhooks"]}),
        ("POST", "/api/v1/keys/{key}/replace", {}),
    ],
)
@pytest.mark.parametrize("becomes", ["viewer", ""])
def test_a_role_that_is_taken_meanwhile_gives_nothing(transactional_db, method, path, body, becomes):
    """The request has read the role when it waits for the change, which commits then."""
    owner = make.user()
    organization = make.organization(owner=owner)
    row = member(organization, "developer")
    key, _ = make.api_key(organization, user=row.user, scopes=["inference"])
    before = list(APIKey.objects.values()), list(Budget.objects.values())
    client = signed_in(row.user)

    taken = threading.Event()

    def work(n: int):
        if n == 1:
            assert taken.wait(30)
            return client.generic(method, path.format(key=key.public_id), json.dumps(body), "application/json")
        with transaction.atomic():
            if becomes:
                members.change_role(membership=row, role=becomes, user=owner)
            else:
                members.remove(membership=row, user=owner)
            taken.set()
            until_somebody_waits()
        return None

    _, answer = run_in_threads(2, work)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "permission_denied")
    assert (list(APIKey.objects.values()), list(Budget.objects.values())) == before
    assert not AuditEvent.objects.filter(action__in=("api_key.issued", "api_key.changed"), actor=row.user).exists()


def test_services_ask_again_who_gives(db):
    owner = make.user()
    organization = make.organization(owner=owner)
    developer = member(organization, "developer")
    theirs, _ = make.api_key(organization, user=owner, scopes=["inference"])
    manager, _ = make.api_key(organization, user=owner, scopes=["inference", "manage"])
    before = list(APIKey.objects.order_by("pk").values())
    with pytest.raises(BeyondPermit):
        services.issue(organization=organization, name="x", user=developer.user, permit=Permit(scopes=("manage",)))
    with pytest.raises(NotAllowed):
        services.issue(organization=organization, name="x", user=make.user())
    with pytest.raises(NotAllowed):
        services.change(key=theirs, name="x", permit=Permit(scopes=("inference",)), user=developer.user)
    with pytest.raises(BeyondPermit):
        services.issue(organization=organization, name="x", user=None, by=manager, permit=Permit(scopes=("batches",)))
    APIKey.objects.filter(pk=manager.pk).update(scopes=["inference"])  # narrowed since it was read
    with pytest.raises(NotAllowed) as refused:
        services.issue(organization=organization, name="x", user=None, by=manager, scopes=("inference",))
    assert refused.value.reason == "insufficient_scope"
    APIKey.objects.filter(pk=manager.pk).update(scopes=["inference", "manage"])
    assert list(APIKey.objects.order_by("pk").values()) == before


def test_no_key_is_without_a_scope(db):
    owner = make.user()
    organization = make.organization(owner=owner)
    key, _ = make.api_key(organization, user=owner, scopes=["inference"])
    client, before = signed_in(owner), list(APIKey.objects.values())
    for method, path in (("POST", "/api/v1/keys"), ("PATCH", f"/api/v1/keys/{key.public_id}")):
        refused = client.generic(method, path, json.dumps({"name": "x", "scopes": []}), "application/json")
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "scopes")
    with pytest.raises(InvalidRequest) as named:
        services.change(key=key, name="x", permit=Permit(scopes=()), user=owner)
    assert named.value.param == "scopes"
    with pytest.raises(InvalidRequest):
        services.issue(organization=organization, name="x", user=owner, scopes=())
    assert list(APIKey.objects.values()) == before


def test_a_key_that_would_keep_nothing_ends_with_its_maker_s_role(db):
    owner = make.user()
    organization = make.organization(owner=owner)
    row = member(organization, "admin")
    only, _ = make.api_key(organization, user=row.user, scopes=["manage", "webhooks"])
    rest, _ = make.api_key(organization, user=row.user, scopes=["manage", "usage"])
    members.change_role(membership=row, role="billing", user=owner)
    only.refresh_from_db()
    rest.refresh_from_db()
    assert (only.state, only.scopes, rest.state, rest.scopes) == (
        "revoked",
        ["manage", "webhooks"],
        "active",
        ["usage"],
    )


@pytest.mark.story
def test_a_key_that_a_key_makes_while_its_makers_role_is_taken_is_narrowed_too(transactional_db):
    owner = make.user()
    organization = make.organization(owner=owner)
    admin = member(organization, "admin")
    by, _ = make.api_key(organization, user=admin.user, scopes=["inference", "manage"])
    issued = threading.Event()

    def work(n: int):
        if n == 1:
            assert issued.wait(30)
            return members.change_role(membership=admin, role="developer", user=owner)
        with transaction.atomic():
            services.issue(organization=organization, name="late", user=None, by=by, scopes=["inference", "manage"])
            issued.set()
            until_somebody_waits()
        return None

    run_in_threads(2, work)
    assert {key.name: key.scopes for key in APIKey.objects.all()} == {by.name: ["inference"], "late": ["inference"]}


def test_a_new_name_gives_back_no_scope_that_was_taken_meanwhile(db):
    owner = make.user()
    key, _ = make.api_key(make.organization(owner=owner), user=owner, scopes=["inference", "manage"])
    seen = permits.of(key)
    APIKey.objects.update(scopes=["inference"])
    assert services.change(key=key, name="other", permit=seen, seen=seen, user=owner)
    assert list(APIKey.objects.values_list("name", "scopes")) == [("other", ["inference"])]
