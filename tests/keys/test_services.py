from datetime import timedelta

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from apps.accounts.models import AuditEvent
from apps.core.errors import NotAuthenticated
from apps.keys import secrets, services
from apps.keys.models import APIKey
from cango_portal import database
from tests import make


def test_a_secret_carries_its_checksum():
    secret = secrets.new()
    assert secrets.well_formed(secret)
    assert secret.startswith("cango_")
    assert len(secret) == 55
    assert len({secrets.new() for _ in range(1000)}) == 1000


@given(st.integers(6, 54), st.sampled_from(secrets.ALPHABET))
def test_one_wrong_character_is_noticed(position, character):
    secret = "cango_" + "a" * 43
    secret += secrets.checksum(secret)
    changed = secret[:position] + character + secret[position + 1 :]
    assert secrets.well_formed(changed) == (changed == secret)


@given(st.text())
def test_any_text_is_only_malformed(text):
    assert not secrets.well_formed(text)


def test_the_secret_is_stored_nowhere(db):
    organization = make.organization()
    key, secret = services.issue(organization=organization, name="laptop", user=None)
    assert key.sha256 == secrets.digest(secret)
    assert key.prefix == secret[:12]
    row = APIKey.objects.values().get()
    assert secret not in str(row)
    assert secret not in str(list(AuditEvent.objects.values()))
    assert AuditEvent.objects.get().action == "api_key.issued"


def test_a_key_says_who_calls(db):
    organization = make.organization()
    key, secret = make.api_key(organization)
    assert services.authenticate(secret) == services.Caller(
        organization.pk, key.pk, None, (key.budget_id,), frozenset({"inference", "batches", "usage", "webhooks"})
    )


@pytest.mark.parametrize(
    "token",
    [None, "", "x", "cango_", "sk-123", secrets.new(), "cango_" + "ü" * 49],
    ids=["none", "empty", "short", "prefix", "foreign", "unknown", "no ASCII"],
)
def test_strangers_get_one_answer(db, token):
    with pytest.raises(NotAuthenticated) as refused:
        services.authenticate(token)
    assert refused.value.status == 401
    assert refused.value.reason == "invalid_api_key"


def test_a_mistyped_key_never_reaches_the_database(django_assert_num_queries, db):
    with django_assert_num_queries(0), pytest.raises(NotAuthenticated):
        services.authenticate("cango_" + "a" * 49)


def test_a_revoked_key_is_refused_at_once(db):
    key, secret = make.api_key(make.organization())
    services.authenticate(secret)
    services.revoke(key=key, user=None, reason="left the company")
    with pytest.raises(NotAuthenticated) as revoked:
        services.authenticate(secret)
    with pytest.raises(NotAuthenticated) as unknown:
        services.authenticate(secrets.new())
    assert revoked.value.message == unknown.value.message


def test_revoking_twice_writes_one_event_and_keeps_the_time(db):
    key, _ = make.api_key(make.organization())
    services.revoke(key=key, user=None)
    at = APIKey.objects.get().revoked_at
    services.revoke(key=key, user=None)
    assert APIKey.objects.get().revoked_at == at
    assert AuditEvent.objects.filter(action="api_key.revoked").count() == 1


def test_use_is_noted_once_a_minute(db):
    _, secret = make.api_key(make.organization())
    services.authenticate(secret)
    first = APIKey.objects.get().last_used_at
    assert first is not None
    old = timezone.now() - timedelta(seconds=30)
    APIKey.objects.update(last_used_at=old)
    services.authenticate(secret)
    assert APIKey.objects.get().last_used_at == old
    APIKey.objects.update(last_used_at=timezone.now() - timedelta(seconds=61))
    services.authenticate(secret)
    assert APIKey.objects.get().last_used_at > old


@pytest.fixture
def issued(transactional_db):
    return make.api_key(make.organization())


async def test_both_drivers_agree(issued):
    key, secret = issued
    try:
        assert (await services.authenticate_async(secret)).api_key_id == key.pk
        with pytest.raises(NotAuthenticated):
            await services.authenticate_async(secrets.new())
    finally:
        await database.close()


def test_webhooks_are_told_of_keys_and_never_of_secrets(db):
    from apps.webhooks import services as webhooks
    from apps.webhooks.models import Message

    organization = make.organization()
    webhooks.create(organization=organization, url="https://example.org/hook", event_types=[], user=None)
    key, secret = services.issue(organization=organization, name="laptop", user=None)
    for _ in range(2):
        services.revoke(key=key, user=None)
    told = list(Message.objects.order_by("pk").values_list("type", "data"))
    assert [type for type, _ in told] == ["key.created", "key.revoked"]
    assert {data["prefix"] for _, data in told} == {key.prefix}
    assert secret not in str(told)
