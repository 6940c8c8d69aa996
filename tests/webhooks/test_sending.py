"""What arrives at the customer's server, and who sends it when."""

import json
import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from apps.webhooks import sending, services, tasks
from apps.webhooks.models import Delivery
from tests import make
from tests.threads import run_in_threads
from tests.webhooks.signing import fits

NOW = datetime(2030, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)


def test_a_message_arrives_signed_and_is_on_record(hook, receiver):
    message = hook.notify(balance_microusd=5, note="Grüße 😀")
    sent = sending.send_due(now=NOW)
    assert (sent.attempts, sent.delivered) == (1, 1)
    (request,) = receiver.received
    assert request.path == "/hooks"
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == message.public_id
    assert request.headers["webhook-timestamp"] == str(int(NOW.timestamp()))
    assert fits(hook.secret, headers=request.headers, body=request.body) == [True]
    assert fits(hook.secret, headers=request.headers, body=request.body + b" ") == [False]
    body = json.loads(request.body)
    assert list(body) == ["type", "timestamp", "data"]
    assert body["type"] == "balance.low"
    assert body["data"] == {"balance_microusd": 5, "note": "Grüße 😀"}
    assert abs(datetime.fromisoformat(body["timestamp"]) - message.created_at) < timedelta(milliseconds=1)
    row = Delivery.objects.get()
    assert (row.state, row.attempts, row.next_try_at, row.lease_expires_at) == ("delivered", 1, None, None)
    assert (row.response_status, row.response_excerpt, row.last_error) == (200, "ok", "")
    assert (row.finished_at, row.tried_at) == (NOW, NOW)
    assert row.request_body.encode() == request.body
    assert row.request_headers["webhook-signature"] == request.headers["webhook-signature"]
    assert 0 < row.took_seconds < 5
    assert sending.send_due(now=NOW).attempts == 0


def test_the_old_secret_signs_too_for_a_day(hook, receiver):
    new = services.rotate(hook.endpoint, user=hook.owner, now=NOW)
    for key, moment in (("before", NOW + timedelta(hours=23, minutes=59)), ("after", NOW + timedelta(hours=24))):
        hook.notify(key)
        sending.send_due(now=moment)
    during, after = receiver.received
    assert fits(new, headers=during.headers, body=during.body) == [True, False]
    assert fits(hook.secret, headers=during.headers, body=during.body) == [False, True]
    assert fits(new, headers=after.headers, body=after.body) == [True]


def test_secrets_are_not_in_the_database(hook):
    new = services.rotate(hook.endpoint, user=hook.owner)
    with connection.cursor() as cursor:
        cursor.execute("SELECT webhooks_endpoint::text FROM webhooks_endpoint")
        (row,) = cursor.fetchone()
    for secret in (hook.secret, new):
        assert secret not in row
        assert secret.removeprefix("whsec_") not in row


def test_a_replaced_secret_key_is_a_fallback_for_stored_secrets(hook, receiver, settings):
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another" * 10
    hook.notify("a")
    sending.send_due(now=NOW)
    assert fits(hook.secret, headers=receiver.received[0].headers, body=receiver.received[0].body) == [True]
    settings.SECRET_KEY_FALLBACKS = []
    hook.notify("b")
    sending.send_due(now=NOW)
    assert len(receiver.received) == 1
    assert "Rotate it" in Delivery.objects.latest("id").last_error
    new = services.rotate(hook.endpoint, user=None, now=NOW)
    sending.send_due(now=NOW + timedelta(minutes=1))
    assert fits(new, headers=receiver.received[1].headers, body=receiver.received[1].body) == [True]


def test_a_replay_is_the_same_message_again(hook, receiver):
    hook.notify()
    sending.send_due(now=NOW)
    first = Delivery.objects.get()
    services.replay(first)
    with pytest.raises(services.NotNow):
        services.replay(first)
    sending.send_due(now=NOW + timedelta(hours=1))
    one, two = receiver.received
    assert one.body == two.body
    assert one.headers["webhook-id"] == two.headers["webhook-id"]
    assert int(two.headers["webhook-timestamp"]) - int(one.headers["webhook-timestamp"]) == 3600
    assert fits(hook.secret, headers=two.headers, body=two.body) == [True]
    assert list(Delivery.objects.order_by("id").values_list("replay", "state")) == [
        (False, "delivered"),
        (True, "delivered"),
    ]


def test_a_test_event_goes_to_its_endpoint_whatever_it_listens_to(hook, receiver):
    services.change(hook.endpoint, url=receiver.url, description="", event_types=["key.revoked"], user=None)
    services.create(organization=hook.organization, url=receiver.url, event_types=[], user=None)
    services.send_test(hook.endpoint)
    sent = sending.send_due(now=NOW)
    assert (sent.attempts, sent.delivered) == (1, 1)
    row = Delivery.objects.get()
    assert (row.endpoint_id, row.message.type) == (hook.endpoint.pk, "webhook.test")
    assert json.loads(receiver.received[0].body)["data"]["webhook"] == hook.endpoint.public_id


@pytest.fixture
def many(transactional_db, private, receiver):
    organization = make.organization()
    endpoint, _ = services.create(organization=organization, url=receiver.url, event_types=[], user=None)
    for n in range(20):
        services.notify(organization=organization, type="balance.low", data={"n": n}, key=f"k{n}")
    return endpoint


def test_workers_at_once_send_each_delivery_once(many, receiver):
    totals = run_in_threads(4, lambda _: sending.send_due(now=NOW))
    assert sum(sent.attempts for sent in totals) == 20
    assert len(receiver.received) == 20
    assert sorted(json.loads(request.body)["data"]["n"] for request in receiver.received) == list(range(20))
    assert set(Delivery.objects.values_list("state", "attempts")) == {("delivered", 1)}


def test_no_transaction_is_open_while_a_server_is_asked(many, receiver):
    seen = []

    def answer(handler):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND state LIKE 'idle in transaction%' AND pid <> pg_backend_pid()"
            )
            seen.append(cursor.fetchone()[0])
        connection.close()
        handler.send_response(204)
        handler.end_headers()

    receiver.answer = answer
    sending.send_due(now=NOW)
    assert len(seen) == 20
    assert seen[0] == 0


def test_an_endpoint_has_four_calls_at_once_and_a_failing_one_a_single_one(many, receiver):
    assert len(sending.claim(now=NOW, most=32)) == 4
    assert sending.claim(now=NOW, most=32) == []
    later = NOW + timedelta(hours=1)  # the leases are over: their worker died
    type(many).objects.filter(pk=many.pk).update(consecutive_failures=1, failing_since=NOW)
    (again,) = sending.claim(now=later, most=32)
    assert again.number == 2


def test_a_slow_endpoint_does_not_hold_up_another(many, receiver):
    """Twenty calls to a server that waits; the other's one message is claimed beside them."""
    other = make.organization()
    services.create(organization=other, url=receiver.url, event_types=[], user=None)
    services.notify(organization=other, type="key.created", data={}, key="k")
    claimed = sending.claim(now=NOW, most=32)
    assert sorted(json.loads(attempt.body)["type"] for attempt in claimed) == ["balance.low"] * 4 + ["key.created"]


def test_a_server_that_hangs_keeps_nobody_else_waiting(many, receiver):
    """The other's message arrives while four calls to the first hang, in the same worker."""
    arrived, outcomes = threading.Event(), []

    def answer(handler):
        if handler.path == "/other":
            arrived.set()
        outcomes.append(arrived.wait(5))
        handler.send_response(204)
        handler.end_headers()

    receiver.answer = answer
    other = make.organization()
    services.create(organization=other, url=f"http://127.0.0.1:{receiver.port}/other", event_types=[], user=None)
    services.notify(organization=other, type="key.created", data={}, key="k")
    assert sending.send_due(now=NOW).delivered == 21
    assert outcomes == [True] * 21


def test_an_outcome_of_a_lost_lease_changes_nothing(many, receiver):
    (first, *_) = sending.claim(now=NOW, most=1)
    (second, *_) = [
        one for one in sending.claim(now=NOW + timedelta(hours=1), most=32) if one.delivery_id == first.delivery_id
    ]
    outcome = sending.Outcome(status=500, excerpt="late", error="late", took_seconds=1.0)
    sending.record(first, outcome, now=NOW)
    row = Delivery.objects.get(pk=first.delivery_id)
    assert (row.state, row.attempts, row.last_error) == ("pending", 2, "")
    sending.record(second, sending.Outcome(status=200, excerpt="", error="", took_seconds=1.0), now=NOW)
    sending.record(first, outcome, now=NOW)
    row.refresh_from_db()
    assert (row.state, row.last_error) == ("delivered", "")


def test_the_task_leaves_the_work_to_a_thread_that_sends_already(monkeypatch):
    inside, go, calls = threading.Event(), threading.Event(), []

    def send_due():
        calls.append(1)
        inside.set()
        assert go.wait(10)

    monkeypatch.setattr(sending, "send_due", send_due)
    busy = threading.Thread(target=tasks.deliver)
    busy.start()
    assert inside.wait(10)
    tasks.deliver()  # returns at once
    assert calls == [1]
    go.set()
    busy.join()
    assert calls == [1, 1]  # it looked again for whoever came meanwhile


def test_a_deleted_endpoint_is_not_recorded(hook, receiver):
    hook.notify()
    (attempt,) = sending.claim(now=NOW, most=1)
    services.delete(hook.endpoint, user=None)
    sending.record(attempt, sending.Outcome(status=200, excerpt="", error="", took_seconds=1.0), now=NOW)
    assert not Delivery.objects.exists()
