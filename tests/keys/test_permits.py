"""What limits a key, asked at the door: models, places, addresses, an end. A refused use is not noted."""

from datetime import timedelta

import pytest
from django.core import mail
from django.utils import timezone

from apps.accounts.models import AuditEvent, Membership
from apps.accounts.scopes import Scope
from apps.core.errors import InvalidRequest, NotAuthenticated
from apps.keys import expiry, permits, services
from apps.keys.models import APIKey
from apps.keys.permits import BeyondPermit, Permit
from apps.keys.services import AddressNotAllowed, KeyExpired, KeyState
from apps.webhooks import services as webhooks
from apps.webhooks.models import Message
from tests import make


@pytest.fixture
def owner(db):
    return make.user()


@pytest.fixture
def organization(owner):
    found = make.organization(owner=owner)
    webhooks.create(organization=found, url="https://example.org/hook", event_types=[], user=None)
    return found


def told() -> list[str]:
    return list(Message.objects.order_by("pk").values_list("type", flat=True))


def test_one_statement_says_all(organization, django_assert_num_queries):
    organization.residency = ["US", "DE"]
    organization.save()
    key, secret = make.api_key(organization, allowed_models=("acme/chat",), residency=("US/Georgia", "NO"))
    with django_assert_num_queries(1 + 2):  # and the savepoint's two
        caller = services.authenticate(secret)
    assert caller.allowed_models == {"acme/chat"}
    assert caller.residency == ("US/Georgia",)
    assert caller.api_key_id == key.pk
    assert services.member(organization, make.user()).residency == ("US", "DE")


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("203.0.113.7", True),
        ("203.0.114.7", False),
        ("2001:db8:1::5", True),
        ("2001:db9::5", False),
        (None, False),
    ],
)
def test_a_key_is_used_from_its_ranges_only(organization, address, allowed):
    _, secret = make.api_key(organization, ip_ranges=("203.0.113.0/24", "2001:db8::/32"))
    if allowed:
        services.authenticate(secret, address=address, agent="OpenAI/Python 2.9.0 (x; y)")
        key = APIKey.objects.get()
        assert (key.last_used_ip, key.last_used_agent) == (address, "OpenAI/Python 2.9.0")
        return
    with pytest.raises(AddressNotAllowed) as refused:
        services.authenticate(secret, address=address)
    assert (refused.value.status, refused.value.reason) == (401, "ip_not_allowed")
    assert APIKey.objects.get().last_used_at is None


def test_an_expired_key_says_when_it_ended(organization):
    key, secret = make.api_key(organization)
    at = timezone.now() - timedelta(seconds=1)
    APIKey.objects.update(expires_at=at)
    with pytest.raises(KeyExpired) as refused:
        services.authenticate(secret)
    assert refused.value.status == 401
    assert f"expired on {at:%-d %B %Y at %H:%M} UTC" in refused.value.message
    assert APIKey.objects.get().last_used_at is None
    key.refresh_from_db()
    with pytest.raises(KeyState):
        services.change(key=key, name="again", permit=Permit(), user=None)
    assert not APIKey.objects.active().exists()


def test_replacing_keeps_permit_and_budget_and_ends_the_old_key(organization, owner):
    key, secret = make.api_key(organization, user=owner, allowed_models=("acme/chat",), residency=("US",))
    new, new_secret = services.replace_key(key=key, overlap=timedelta(hours=1), user=owner)
    key.refresh_from_db()
    assert (new.budget_id, permits.of(new)) == (key.budget_id, Permit(tuple(key.scopes), ("acme/chat",), ("US",)))
    assert (new.created_by, new.replaces, new.prefix == key.prefix) == (owner, key, False)
    assert timedelta(minutes=59) < key.expires_at - timezone.now() <= timedelta(hours=1)
    assert services.authenticate(secret).budgets == services.authenticate(new_secret).budgets
    assert told() == ["key.created", "key.replaced"]
    assert AuditEvent.objects.get(action="api_key.replaced").data["replaces"] == key.prefix
    with pytest.raises(KeyState):
        services.replace_key(key=key, overlap=timedelta(0), user=owner)
    assert APIKey.objects.count() == 2


def test_replacing_without_overlap_revokes_at_once_and_never_lengthens(organization, owner):
    end = timezone.now() + timedelta(minutes=5)
    key, secret = make.api_key(organization, expires_at=end)
    new, _ = services.replace_key(key=key, overlap=timedelta(days=7), user=owner)
    key.refresh_from_db()
    assert (key.expires_at, new.expires_at) == (end, end)
    newest, _ = services.replace_key(key=new, overlap=timedelta(0), user=owner)
    new.refresh_from_db()
    assert new.revoked_at
    assert told() == ["key.created", "key.replaced", "key.replaced", "key.revoked"]
    assert services.authenticate(secret).api_key_id == key.pk
    assert newest.replaces == new


def test_changing_is_audited_and_in_force_at_once(organization, owner):
    key, secret = make.api_key(organization, scopes=["usage"])
    permit = Permit(scopes=("usage", "inference"), residency=("US",))
    assert services.change(key=key, name="new", permit=permit, user=owner)
    assert not services.change(key=key, name="new", permit=permit, user=owner)
    assert services.authenticate(secret).residency == ("US",)
    [event] = AuditEvent.objects.filter(action="api_key.changed")
    assert event.data["changed"] == {
        "name": {"from": "test", "to": "new"},
        "scopes": {"from": ["usage"], "to": ["usage", "inference"]},
        "residency": {"from": None, "to": ["US"]},
    }


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"scopes": ()}, "scopes", "at least one scope"),
        ({"scopes": ("root",)}, "scopes", "no scope 'root'"),
        ({"allowed_models": ()}, "allowed_models", "would allow nothing"),
        ({"allowed_models": ("acme/none",)}, "allowed_models", "no model 'acme/none'"),
        ({"residency": ("Georgia",)}, "residency", "“Georgia” is no place"),
        ({"residency": ("US/Nowhere",)}, "residency", "“US/Nowhere” is no place"),
        ({"residency": ("FR",)}, "residency", "outside the places your organization allows: DE, US"),
        ({"ip_ranges": ("10.0.0.1/8",)}, "ip_ranges", "Enter 10.0.0.0/8"),
        ({"expires_at": timezone.now() - timedelta(days=1)}, "expires_at", "has passed"),
    ],
)
def test_a_permit_that_means_nothing_is_refused_by_field(organization, fields, param, words):
    organization.residency = ["DE", "US"]
    with pytest.raises(InvalidRequest) as refused:
        permits.checked(Permit(**fields), organization)
    assert refused.value.param == param
    assert words in refused.value.message


def test_a_permit_is_kept_in_one_form(organization):
    make.site(code="ga-1", region="Georgia", country="US")
    make.model(name="acme/chat")
    given = Permit(
        ("usage", "inference", "usage"), ("acme/chat",), ("US/Georgia/ga-1", "US/Georgia"), ("10.0.0.0/8", "10.0.0.0/9")
    )
    assert permits.checked(given, organization) == Permit(
        ("inference", "usage"), ("acme/chat",), ("US/Georgia",), ("10.0.0.0/8",)
    )


WIDE = Permit(("inference", "manage"), ("a", "b"), ("US",), ("10.0.0.0/8",), timezone.now() + timedelta(days=9))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, None),
        ({"scopes": ("webhooks",)}, None),
        ({"scopes": ("inference", "usage")}, "scopes"),
        ({"allowed_models": None}, "allowed_models"),
        ({"allowed_models": ("a", "c")}, "allowed_models"),
        ({"residency": None}, "residency"),
        ({"residency": ("US/Georgia",)}, None),
        ({"residency": ("US", "DE")}, "residency"),
        ({"ip_ranges": None}, "ip_ranges"),
        ({"expires_at": None}, "expires_at"),
    ],
)
def test_no_key_gives_more_than_it_has(fields, param):
    from dataclasses import replace

    asked = replace(WIDE, **fields)
    if param is None:
        permits.given_by_key(asked, WIDE)
        return
    with pytest.raises(BeyondPermit) as refused:
        permits.given_by_key(asked, WIDE)
    assert refused.value.param == param


def test_a_key_is_warned_of_seven_days_and_one_day_before_once_each(
    organization, owner, mailoutbox, django_capture_on_commit_callbacks
):
    now = timezone.now()
    maker = make.user()
    Membership.objects.create(organization=organization, user=maker, role=Membership.Role.DEVELOPER)
    key, _ = make.api_key(organization, user=maker, expires_at=now + timedelta(days=10))
    with django_capture_on_commit_callbacks(execute=True):
        counts = [expiry.warn(now + timedelta(days=days)) for days in (0, 3.1, 3.2, 9.1, 9.2, 10.1)]
    assert counts == [0, 1, 0, 1, 0, 0]
    messages = Message.objects.filter(type="key.expiring").order_by("pk")
    assert [each.data["days"] for each in messages] == [7, 1]
    assert [each.subject for each in mail.outbox] == ["API key “test” ends in 7 days"] * 2 + [
        "API key “test” ends in a day"
    ] * 2
    assert {each.to[0] for each in mail.outbox} == {owner.email, maker.email}
    assert f"/keys/{key.pk}/" in mail.outbox[0].body
    services.change(
        key=key, name="test", permit=Permit(tuple(key.scopes), expires_at=now + timedelta(days=30)), user=owner
    )
    assert expiry.warn(now + timedelta(days=24)) == 1


def test_an_end_chosen_for_soon_warns_of_nothing(organization):
    make.api_key(organization, expires_at=timezone.now() + timedelta(hours=3))
    assert expiry.warn() == 0
    assert "key.expiring" not in told()


def test_a_key_issued_by_a_limited_one_spends_from_its_budget(organization, owner):
    from apps.ledger import limits

    giver, _ = make.api_key(organization, user=owner, scopes=Scope.values)
    free, _ = services.issue(organization=organization, name="free", user=None, by=giver)
    assert (free.budget_id == giver.budget_id, free.created_by) == (False, owner)
    limits.change(budget=giver.budget, actor=owner, limits={"total": 1})
    giver = APIKey.objects.select_related("budget").get(pk=giver.pk)
    held, _ = services.issue(organization=organization, name="held", user=None, by=giver)
    assert held.budget_id == giver.budget_id
    assert AuditEvent.objects.filter(action="api_key.issued").latest("at").data["by_key"] == giver.prefix


def test_a_revoked_key_cannot_be_replaced(organization, owner):
    key, secret = make.api_key(organization)
    services.revoke(key=key, user=owner)
    with pytest.raises(KeyState):
        services.replace_key(key=key, overlap=timedelta(hours=1), user=owner)
    with pytest.raises(NotAuthenticated):
        services.authenticate(secret)
    assert APIKey.objects.count() == 1
