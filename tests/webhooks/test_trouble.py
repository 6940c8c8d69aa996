"""Retries by the clock, and when an endpoint is given up."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from django.core import mail

from apps.accounts.models import AuditEvent, Membership
from apps.webhooks import retention, sending, services
from apps.webhooks.models import Delivery, Endpoint, Message
from tests import make

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
SCHEDULE = [15, 60, 300, 1800, 7200, 18_000, 28_800, 28_800]


def test_nine_attempts_in_about_a_day_then_it_failed(hook, receiver):
    receiver.status, receiver.body = 503, b"down"
    hook.notify()
    now = NOW
    for number, wait in enumerate(SCHEDULE, start=1):
        assert sending.send_due(now=now).attempts == 1
        row = Delivery.objects.get()
        assert (row.state, row.attempts, row.next_try_at) == ("pending", number, now + timedelta(seconds=wait))
        assert (row.response_status, row.response_excerpt) == (503, "down")
        assert row.last_error == "The server answered 503."
        assert sending.send_due(now=row.next_try_at - timedelta(milliseconds=1)).attempts == 0
        now = row.next_try_at
    assert now - NOW == timedelta(seconds=84_975)  # 23.6 h
    assert sending.send_due(now=now).attempts == 1
    row = Delivery.objects.get()
    assert (row.state, row.attempts, row.next_try_at, row.finished_at) == ("failed", 9, None, now)
    assert sending.send_due(now=now + timedelta(days=9)).attempts == 0
    assert len(receiver.received) == 9
    assert len({request.headers["webhook-id"] for request in receiver.received}) == 1
    assert len({request.headers["webhook-timestamp"] for request in receiver.received}) == 9
    endpoint = hook.again()
    assert (endpoint.enabled, endpoint.consecutive_failures, endpoint.failing_since) == (True, 9, NOW)


def test_waits_are_jittered(monkeypatch):
    monkeypatch.setattr(sending, "JITTER", 0.1)
    waits = {sending.wait_after(1).total_seconds() for _ in range(200)}
    assert min(waits) >= 13.5
    assert max(waits) <= 16.5
    assert len(waits) > 100


def test_a_success_after_failures_forgets_them(hook, receiver):
    receiver.status = 500
    hook.notify()
    sending.send_due(now=NOW)
    receiver.status = 204
    sending.send_due(now=NOW + timedelta(seconds=15))
    assert Delivery.objects.get().state == "delivered"
    endpoint = hook.again()
    assert (endpoint.consecutive_failures, endpoint.failing_since) == (0, None)


def test_what_does_not_answer_is_tried_again(hook, receiver):
    receiver.close()
    hook.notify()
    sending.send_due(now=NOW)
    row = Delivery.objects.get()
    assert (row.state, row.response_status) == ("pending", None)
    assert row.last_error == "The connection could not be made."


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [
        ("120", 120, 120),
        ("1", 13.5, 16.5),  # the usual wait is longer
        ("999999999999", 28_800, 28_800),
        ("-5", 13.5, 16.5),
        ("soon", 13.5, 16.5),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 13.5, 16.5),
        (timedelta(hours=2), 7100, 7300),
    ],
    ids=["two minutes", "a second", "for ever", "negative", "in words", "a date that passed", "a date in two hours"],
)
def test_a_server_that_asks_for_time_is_given_it(hook, receiver, asked, least, most):
    if isinstance(asked, timedelta):
        asked = format_datetime(datetime.now(UTC) + asked, usegmt=True)
    receiver.status, receiver.headers = 429, {"retry-after": asked}
    hook.notify()
    sending.send_due(now=NOW)
    row = Delivery.objects.get()
    assert (row.state, row.attempts, row.last_error) == ("pending", 1, "The server answered 429.")
    assert least <= (row.next_try_at - NOW).total_seconds() <= most


def test_gone_turns_the_endpoint_off_and_tells_the_owners(hook, receiver, django_capture_on_commit_callbacks, settings):
    settings.BASE_URL = "https://portal.example.com"
    developer = make.user()
    Membership.objects.create(organization=hook.organization, user=developer, role=Membership.Role.DEVELOPER)
    hook.notify("first")
    hook.notify("second")
    hook.notify("third")
    Delivery.objects.exclude(message__key="first").update(next_try_at=NOW + timedelta(hours=1))
    receiver.status = 410
    with django_capture_on_commit_callbacks(execute=True):
        sending.send_due(now=NOW)
    endpoint = hook.again()
    assert (endpoint.enabled, endpoint.disabled_reason, endpoint.disabled_at) == (
        False,
        "Your server answered 410 Gone.",
        NOW,
    )
    assert set(Delivery.objects.values_list("state", "attempts", "last_error")) == {
        ("failed", 1, "The server answered 410."),
        ("failed", 0, "The webhook was turned off."),
    }
    (message,) = mail.outbox
    assert message.to == [hook.owner.email]
    assert receiver.url in message.body
    assert f"https://portal.example.com/settings/webhooks/{endpoint.public_id}/" in message.body
    event = AuditEvent.objects.get(action="webhook.disabled")
    assert (event.actor, event.target) == (None, endpoint.public_id)
    assert services.notify(organization=hook.organization, type="balance.low", data={}, key="x") is None
    assert sending.send_due(now=NOW + timedelta(days=1)).attempts == 0


def test_three_days_without_success_turn_it_off_once(hook, receiver, django_capture_on_commit_callbacks):
    receiver.status = 500
    for day, key in ((0, "a"), (2.99, "b"), (3, "c")):
        hook.notify(key)
        Delivery.objects.filter(message__key=key).update(next_try_at=NOW + timedelta(days=day))
    with django_capture_on_commit_callbacks(execute=True):
        Delivery.objects.filter(message__key="a").update(attempts=8)
        sending.send_due(now=NOW)
        Delivery.objects.filter(message__key="b").update(attempts=8)
        sending.send_due(now=NOW + timedelta(days=2.99))
    assert hook.again().enabled
    with django_capture_on_commit_callbacks(execute=True):
        sending.send_due(now=NOW + timedelta(days=3))
    endpoint = hook.again()
    assert (endpoint.enabled, endpoint.disabled_reason) == (False, "No event arrived for three days.")
    assert len(mail.outbox) == 1


def test_a_mail_server_that_is_away_does_not_undo_it(hook, receiver, django_capture_on_commit_callbacks, settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    receiver.status = 410
    hook.notify()
    with django_capture_on_commit_callbacks(execute=True):
        sending.send_due(now=NOW)
    assert not hook.again().enabled


def test_off_and_on_again(hook, receiver):
    hook.notify("waiting")
    services.disable(hook.endpoint, user=hook.owner)
    services.disable(hook.endpoint, user=hook.owner)
    assert Delivery.objects.get().state == "failed"
    with pytest.raises(services.NotNow):
        services.replay(Delivery.objects.get())
    with pytest.raises(services.NotNow):
        services.send_test(hook.endpoint)
    services.enable(hook.endpoint, user=hook.owner)
    services.enable(hook.endpoint, user=hook.owner)
    assert sending.send_due(now=NOW).attempts == 0  # nothing old arrives by surprise
    hook.notify("new")
    assert sending.send_due(now=NOW).delivered == 1
    assert AuditEvent.objects.filter(action__startswith="webhook.").count() == 3  # created, disabled, enabled


def test_what_was_on_the_wire_when_it_was_turned_off_is_still_recorded(hook, receiver):
    hook.notify()
    (attempt,) = sending.claim(now=NOW, most=1)
    services.disable(hook.endpoint, user=hook.owner)
    assert Delivery.objects.get().state == "failed" or Delivery.objects.get().lease_expires_at
    sending.record(attempt, sending.Outcome(status=200, excerpt="", error="", took_seconds=1.0), now=NOW)
    assert Delivery.objects.get().state == "delivered"


def test_the_log_is_kept_for_thirty_days(hook, receiver):
    hook.notify("old")
    hook.notify("new")
    Message.objects.filter(key="old").update(created_at=datetime.now(UTC) - timedelta(days=31))
    assert retention.forget_old(batch=1) == 1
    assert [row.message.key for row in Delivery.objects.select_related("message")] == ["new"]
    assert Endpoint.objects.count() == 1
