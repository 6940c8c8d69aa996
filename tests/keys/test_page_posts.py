"""What the pages of a key and of places do when they are posted: exact, by who may, and nothing on a refusal."""

from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from django.utils import timezone

from apps.accounts.models import AuditEvent, Membership
from apps.core.errors import NotAuthenticated
from apps.keys import services
from apps.keys.models import APIKey
from tests import make
from tests.keys.test_pages import secret_in, ticket_in
from tests.portal.test_pages import assert_clean


@pytest.fixture
def owner(db):
    user = make.user()
    user.organization = make.organization(owner=user)
    make.site(country="US", region="Georgia", code="ga-1", name="Georgia 1")
    return user


def browser(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


def developer(organization) -> Client:
    user = make.user()
    Membership.objects.create(organization=organization, user=user, role=Membership.Role.DEVELOPER)
    return browser(user)


def events(action: str) -> int:
    return AuditEvent.objects.filter(action=action).count()


def test_a_change_is_kept_whole_and_in_force(owner):
    make.model(name="acme/chat")
    key, secret = make.api_key(owner.organization, name="old", user=owner, scopes=["inference"])
    sent = {
        "name": "new",
        "scopes": ["inference", "usage"],
        "allowed_models": ["acme/chat"],
        "residency": ["US/Georgia"],
        "ip_ranges": "203.0.113.0/24\n2001:db8::/32",
        "ends_on": "2099-01-31",
    }
    client = browser(owner)
    for _ in range(2):  # the second one changes nothing
        assert client.post(f"/keys/{key.pk}/change/", sent)["location"] == f"/keys/{key.pk}/"
    key.refresh_from_db()
    assert (key.name, key.scopes, key.allowed_models) == ("new", ["inference", "usage"], ["acme/chat"])
    assert (key.residency, key.ip_ranges) == (["US/Georgia"], ["203.0.113.0/24", "2001:db8::/32"])
    assert key.expires_at == datetime(2099, 2, 1, tzinfo=UTC)
    assert services.authenticate(secret, address="203.0.113.9").residency == ("US/Georgia",)
    assert events("api_key.changed") == 1
    assert_clean(client.get(f"/keys/{key.pk}/change/"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("scopes", []),
        ("scopes", ["root"]),
        ("allowed_models", ["acme/none"]),
        ("residency", ["DE"]),
        ("ip_ranges", "10.0.0.1/8"),
        ("ends_on", "2001-01-01"),
    ],
)
def test_a_wrong_change_names_its_field_and_changes_nothing(owner, field, value):
    key, _ = make.api_key(owner.organization, name="old", user=owner)
    sent = {"name": "new", "scopes": ["inference"], field: value}
    answer = browser(owner).post(f"/keys/{key.pk}/change/", sent)
    assert answer.status_code == 422
    assert f'<a href="#id_{field}' in answer.content.decode()
    assert APIKey.objects.values_list("name", "scopes", "residency", "ip_ranges", "expires_at").get() == (
        "old",
        key.scopes,
        None,
        None,
        None,
    )
    assert events("api_key.changed") == 0


@pytest.mark.parametrize("verb", ["change", "replace"])
def test_only_makers_and_owners_in_the_organization(owner, verb):
    key, secret = make.api_key(owner.organization, name="old", user=owner)
    sent = {"name": "new", "scopes": ["inference"], "overlap": "0"}
    stranger = make.user()
    make.organization(owner=stranger)
    path = f"/keys/{key.pk}/{verb}/"
    assert developer(owner.organization).post(path, sent).status_code == 403
    assert browser(stranger).post(path, sent).status_code == 404
    assert Client().post(path, sent)["location"].startswith("/login/")
    assert APIKey.objects.get().name == "old"
    assert services.authenticate(secret)
    assert events("api_key.changed") + events("api_key.replaced") == 0


def test_a_revoked_key_is_not_changed_or_replaced(owner):
    key, _ = make.api_key(owner.organization, name="old", user=owner)
    services.revoke(key=key, user=owner)
    for verb in ("change", "replace"):
        sent = {"name": "new", "scopes": ["inference"], "overlap": "3600"}
        assert browser(owner).post(f"/keys/{key.pk}/{verb}/", sent)["location"] == f"/keys/{key.pk}/"
    assert APIKey.objects.get().name == "old"


def test_a_replacement_by_its_page_once_with_an_overlap(owner):
    key, old = make.api_key(owner.organization, name="sync", user=owner, scopes=["usage"])
    client = browser(owner)
    page = client.get(f"/keys/{key.pk}/replace/")
    assert_clean(page)
    sent = {"overlap": "3600", "ticket": ticket_in(page.content.decode())}
    new = secret_in(client.post(f"/keys/{key.pk}/replace/", sent).content.decode())
    again = client.post(f"/keys/{key.pk}/replace/", sent).content.decode()
    assert "This key was made already" in again
    assert new not in again
    key.refresh_from_db()
    assert timedelta(minutes=59) < key.expires_at - timezone.now() <= timedelta(hours=1)
    assert services.authenticate(old)
    assert services.authenticate(new).scopes == {"usage"}
    made = APIKey.objects.get(replaces=key)
    assert (made.name, made.budget_id) == ("sync", key.budget_id)
    assert events("api_key.replaced") == 1
    other = client.post(f"/keys/{key.pk}/replace/", {"overlap": "0"})
    assert other["location"] == f"/keys/{key.pk}/"
    assert APIKey.objects.count() == 2


def test_a_replacement_without_overlap_ends_the_old_key(owner):
    key, old = make.api_key(owner.organization, user=owner)
    wrong = browser(owner).post(f"/keys/{key.pk}/replace/", {"overlap": "5"})
    assert (wrong.status_code, APIKey.objects.count()) == (422, 1)
    browser(owner).post(f"/keys/{key.pk}/replace/", {"overlap": "0"})
    with pytest.raises(NotAuthenticated):
        services.authenticate(old)


def test_places_are_set_by_owners_from_the_list(owner):
    client = browser(owner)
    assert client.post("/keys/places/", {"residency": ["US/Georgia"]})["location"] == "/keys/places/"
    owner.organization.refresh_from_db()
    assert owner.organization.residency == ["US/Georgia"]
    wrong = client.post("/keys/places/", {"residency": ["DE"]})
    assert wrong.status_code == 422
    assert b"There is no place DE. Choose from the list." in wrong.content
    assert developer(owner.organization).post("/keys/places/", {"residency": []}).status_code == 403
    owner.organization.refresh_from_db()
    assert owner.organization.residency == ["US/Georgia"]
    event = AuditEvent.objects.get(action="organization.residency_changed")
    assert (event.actor, event.data) == (owner, {"from": None, "to": ["US/Georgia"]})
    client.post("/keys/places/", {"residency": []})
    owner.organization.refresh_from_db()
    assert owner.organization.residency is None
