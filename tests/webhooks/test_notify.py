"""One fact makes one message, in the caller's transaction, for those who listen."""

import pytest
from django.db import connection, transaction
from kombu.exceptions import OperationalError

from apps.webhooks import services, tasks
from apps.webhooks.models import Delivery, Endpoint, Message
from tests import make
from tests.threads import run_in_threads


def other_endpoint(organization, *, types=(), enabled=True):
    endpoint, _ = services.create(
        organization=organization, url="https://hooks.example.com/x", event_types=list(types), user=None
    )
    if not enabled:
        services.disable(endpoint, user=None)
    return endpoint


def test_a_fact_is_written_for_each_endpoint_that_listens(hook):
    listening = other_endpoint(hook.organization, types=["balance.low", "key.revoked"])
    other_endpoint(hook.organization, types=["key.revoked"])
    other_endpoint(hook.organization, enabled=False)
    other_endpoint(make.organization())
    message = hook.notify(balance_microusd=5, note="Grüße 😀")
    assert (message.type, message.data, message.key) == (
        "balance.low",
        {"balance_microusd": 5, "note": "Grüße 😀"},
        "k1",
    )
    assert message.public_id.startswith("msg_")
    deliveries = Delivery.objects.all()
    assert {row.endpoint_id for row in deliveries} == {hook.endpoint.pk, listening.pk}
    assert {(row.state, row.attempts, row.next_try_at, row.replay) for row in deliveries} == {
        ("pending", 0, message.created_at, False)
    }


def test_a_key_is_used_once_by_an_organization(hook):
    assert hook.notify("same")
    assert hook.notify("same", type="key.created") is None
    assert (Message.objects.count(), Delivery.objects.count()) == (1, 1)
    elsewhere = make.organization()
    other_endpoint(elsewhere)
    assert services.notify(organization=elsewhere.pk, type="balance.low", data={}, key="same")


def test_where_nobody_listens_nothing_is_written(db):
    assert services.notify(organization=make.organization(), type="balance.low", data={}, key="k") is None
    assert not Message.objects.exists()


def test_an_unknown_type_is_a_bug(hook):
    with pytest.raises(ValueError, match="unknown event type"):
        hook.notify(type="job.exploded")
    assert not Message.objects.exists()


def test_it_stands_and_falls_with_the_caller(hook, django_capture_on_commit_callbacks, monkeypatch):
    queued = []
    monkeypatch.setattr(tasks.deliver, "apply_async", lambda **options: queued.append(options))

    def fail():
        with transaction.atomic():
            hook.notify()
            raise RuntimeError

    with django_capture_on_commit_callbacks(execute=True), pytest.raises(RuntimeError):
        fail()
    assert (Message.objects.count(), queued) == (0, [])
    with django_capture_on_commit_callbacks(execute=True):
        hook.notify()
        assert queued == []
    assert queued == [{"retry": False}]


def test_a_broker_that_is_away_breaks_nobody(hook, django_capture_on_commit_callbacks, monkeypatch):
    def away(**_):
        raise OperationalError

    monkeypatch.setattr(tasks.deliver, "apply_async", away)
    with django_capture_on_commit_callbacks(execute=True):
        hook.notify()
    assert Delivery.objects.get().state == "pending"


def test_the_same_fact_told_at_once_is_one_message(transactional_db, private):
    organization = make.organization()
    other_endpoint(organization)

    def tell(_: int):
        return services.notify(organization=organization, type="balance.low", data={}, key="same")

    made = run_in_threads(8, tell)
    assert sum(isinstance(message, Message) for message in made) == 1
    assert made.count(None) == 7
    assert (Message.objects.count(), Delivery.objects.count()) == (1, 1)


def test_an_endpoint_deleted_meanwhile_does_not_break_who_tells_it(transactional_db):
    """Telling holds the endpoint until its commit; the deletion waits, then takes the new delivery along."""
    organization = make.organization()
    endpoint = other_endpoint(organization)

    def act(n: int):
        if n:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '20s'")
            return services.delete(endpoint, user=None)
        with transaction.atomic():
            return services.notify(organization=organization, type="balance.low", data={}, key="k")

    for _ in range(5):
        outcomes = run_in_threads(2, act)
        assert not [one for one in outcomes if isinstance(one, Exception)]
        assert not Endpoint.objects.exists()
        assert not Delivery.objects.exists()
        Message.objects.all().delete()
        endpoint = other_endpoint(organization)
