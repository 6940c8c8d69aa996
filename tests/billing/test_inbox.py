"""The door of Stripe's events and what becomes of them, whatever they are about."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.core import mail
from django.test import Client
from django.urls import reverse
from kombu.exceptions import OperationalError
from stripe import WebhookSignature

from apps.accounts.models import AuditEvent
from apps.billing import handlers, inbox, tasks
from apps.billing.booking import NotBooked
from apps.billing.models import Event, TopUp
from apps.ledger.models import Transfer
from tests import make
from tests.threads import run_in_threads

pytestmark = pytest.mark.django_db(transaction=True)
URL = "/webhooks/stripe/"


@pytest.fixture
def queued(monkeypatch):
    """Events handed to the queue, in order. No worker takes them."""
    sent: list[str] = []
    monkeypatch.setattr(tasks.handle_event, "apply_async", lambda args, **options: sent.append(args[0]))
    return sent


@pytest.fixture
def handler(monkeypatch):
    """`thing.changed` is handled by counting its object ids."""
    seen: list[str] = []

    def changed(event):
        return lambda: seen.append(event.object_id)

    monkeypatch.setitem(handlers.HANDLERS, "thing.changed", changed)
    return seen


def body(event_id="evt_1", kind="thing.changed", **fields) -> str:
    event = {
        "id": event_id,
        "object": "event",
        "type": kind,
        "created": int(time.time()),
        "livemode": False,
        "data": {"object": {"id": "thing_1", "object": "thing"}},
        **fields,
    }
    return json.dumps(event)


def post(payload: str | bytes, *, secret=None, timestamp=None, header=None, settings=None):
    from django.conf import settings

    text = payload.decode("utf-8", "replace") if isinstance(payload, bytes) else payload
    header = header or WebhookSignature.generate_signature_header(
        text, secret or settings.STRIPE_WEBHOOK_SECRETS[0], timestamp
    )
    return Client(enforce_csrf_checks=True).post(
        URL, payload, content_type="application/json", headers={"Stripe-Signature": header}
    )


def test_an_event_is_stored_queued_and_handled_once(queued, handler):
    assert reverse("billing:stripe_webhook") == URL
    assert post(body()).status_code == 200
    assert post(body()).content == b"Known.\n"
    assert queued == ["evt_1"]
    event = Event.objects.get()
    assert (event.state, event.type, event.attempts, event.object_id) == ("waiting", "thing.changed", 0, "thing_1")
    for _ in range(3):
        tasks.handle_event("evt_1")
    event.refresh_from_db()
    assert (event.state, event.next_try_at, event.error) == ("handled", None, "")
    assert event.handled_at is not None
    assert handler == ["thing_1"]


def test_a_replay_of_a_handled_delivery_changes_nothing(queued, handler):
    payload = body()
    post(payload)
    tasks.handle_event("evt_1")
    assert post(payload).status_code == 200
    tasks.handle_event("evt_1")
    assert queued == ["evt_1"]
    assert handler == ["thing_1"]
    assert Event.objects.get().state == "handled"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"secret": "whsec_wrong"}, 400),
        ({"timestamp": int(time.time()) - 400}, 400),
        ({"header": "nonsense"}, 400),
        ({"header": "t=1,v0=abc"}, 400),
    ],
)
def test_what_is_not_signed_now_by_our_secret_is_refused(queued, change, status):
    answer = post(body(), **change)
    assert answer.status_code == status
    assert answer["Content-Type"].startswith("text/plain")
    assert not Event.objects.exists()
    assert queued == []


def test_a_missing_signature_another_method_and_a_changed_body_are_refused(queued):
    assert Client().post(URL, body(), content_type="application/json").status_code == 400
    assert Client().get(URL).status_code == 405
    header = WebhookSignature.generate_signature_header(body(), "whsec_a")
    assert post(body("evt_2"), header=header).status_code == 400
    assert post(b"\xff\xfe not utf-8").status_code == 400
    assert not Event.objects.exists()


def test_two_secrets_are_taken_while_one_is_rotated(settings, queued):
    settings.STRIPE_WEBHOOK_SECRETS = ["whsec_new", "whsec_old"]
    assert post(body("evt_1"), secret="whsec_new").status_code == 200
    assert post(body("evt_2"), secret="whsec_old").status_code == 200
    settings.STRIPE_WEBHOOK_SECRETS = ["whsec_new"]
    assert post(body("evt_3"), secret="whsec_old").status_code == 400
    assert queued == ["evt_1", "evt_2"]


def test_a_huge_body_is_refused_unread(queued):
    assert post(body(padding="x" * (256 * 1024))).status_code == 413
    fits = body()
    assert post(fits[:-1] + " " * (256 * 1024 - len(fits)) + "}").status_code == 200
    assert queued == ["evt_1"]


@pytest.mark.parametrize(
    "payload",
    [
        "not json",
        "[]",
        "{}",
        body(event_id=""),
        body(event_id="evt_" + "x" * 70),
        body(event_id="evt_\u0000"),
        body(event_id=7),
        body(created="now"),
        body(created=1 << 40),
        body(data=[]),
        body(data={"object": "pi_1"}),
        body(livemode=True),
    ],
)
def test_a_signed_body_that_is_no_event_of_ours_is_refused(queued, payload):
    assert post(payload).status_code == 400
    assert not Event.objects.exists()
    assert queued == []


def test_a_live_portal_refuses_events_of_test_mode(settings, queued):
    settings.STRIPE_SECRET_KEY = "sk_live_x"
    assert post(body()).status_code == 400
    assert post(body(livemode=True)).status_code == 200


def test_text_that_postgresql_cannot_hold_is_stored_by_its_ids(queued):
    thing = {"id": "thing_1", "payment_intent": "pi_1", "name": "a\u0000b", "other": "\ud800"}
    assert post(body(data={"object": thing})).status_code == 200
    event = Event.objects.get()
    assert event.payload["data"]["object"] == {"id": "thing_1", "payment_intent": "pi_1"}
    assert event.related("payment_intent") == "pi_1"


def test_an_unknown_type_is_stored_and_ignored(queued):
    assert post(body(kind="issuing_card.created")).status_code == 200
    tasks.handle_event("evt_1")
    event = Event.objects.get()
    assert (event.state, event.next_try_at) == ("ignored", None)
    assert not Transfer.objects.exists()
    assert not TopUp.objects.exists()


def test_an_event_that_is_not_stored_or_has_no_object_id_harms_nothing(queued, handler):
    tasks.handle_event("evt_none")
    post(body(data={"object": {}}))
    tasks.handle_event("evt_1")
    assert handler == [""]


def test_the_answer_does_not_need_the_broker(monkeypatch, handler):
    def away(*args, **options):
        raise OperationalError("away")

    monkeypatch.setattr(tasks.handle_event, "apply_async", away)
    assert post(body()).status_code == 200
    assert Event.objects.get().state == "waiting"
    tasks.sweep_events()  # away still: nothing is lost


def test_a_broker_that_nobody_listens_at_costs_a_few_seconds_at_most(settings, monkeypatch):
    monkeypatch.setattr(tasks.handle_event.app.conf, "broker_url", "redis://127.0.0.1:1/0")
    monkeypatch.setattr(tasks.handle_event.app.conf, "broker_write_url", "redis://127.0.0.1:1/0")
    began = time.monotonic()
    assert post(body()).status_code == 200
    assert time.monotonic() - began < 5
    assert Event.objects.get().state == "waiting"


def test_a_crash_between_storing_and_handling_loses_nothing(queued, handler):
    post(body())
    queued.clear()  # the worker died with it
    tasks.sweep_events()
    assert queued == []  # not yet: the queue has 30 seconds
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=31), tick=False):
        tasks.sweep_events()
        tasks.sweep_events()
    assert queued == ["evt_1"]  # once: the next sweep leaves it for a minute
    tasks.handle_event("evt_1")
    assert handler == ["thing_1"]
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=1), tick=False):
        tasks.sweep_events()
    assert queued == ["evt_1"]


def test_a_crash_while_handling_takes_its_writes_back(queued, monkeypatch):
    organization = make.organization()

    def crash(event):
        def write():
            TopUp.objects.create(organization=organization, source="checkout", amount_cents=500)
            raise SystemExit

        return write

    monkeypatch.setitem(handlers.HANDLERS, "thing.changed", crash)
    post(body())
    with pytest.raises(SystemExit):
        tasks.handle_event("evt_1")
    assert not TopUp.objects.exists()
    assert Event.objects.get().state == "waiting"
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=31), tick=False):
        tasks.sweep_events()
    assert queued == ["evt_1", "evt_1"]


def test_a_failure_is_kept_shown_and_tried_again_after_a_growing_pause(queued, monkeypatch):
    def fail(event):
        raise NotBooked("Stripe holds $5.00, we sold $6.00. " + "x" * 600)

    staff = make.user(is_staff=True)
    make.user()

    monkeypatch.setitem(handlers.HANDLERS, "thing.changed", fail)
    post(body())
    pauses = []
    for attempt in range(1, inbox.MAX_ATTEMPTS + 1):
        tasks.handle_event("evt_1")
        event = Event.objects.get()
        assert (event.state, event.attempts, len(event.error)) == ("failed", attempt, 500)
        assert event.error.startswith("NotBooked: Stripe holds $5.00, we sold $6.00.")
        pauses.append(round((event.next_try_at - datetime.now(UTC)).total_seconds()) if event.next_try_at else None)
    assert pauses[:4] == [30, 60, 120, 240]
    [alarm] = mail.outbox
    assert alarm.to == [staff.email]
    assert alarm.subject == "A Stripe event cannot be handled: thing.changed"
    assert "Stripe holds $5.00" in alarm.body
    assert "/admin/billing/event/evt_1/change/" in alarm.body
    assert pauses[12:] == [21600] * 7 + [None]


def test_staff_replay_a_failed_event_with_a_reason(queued, handler, monkeypatch):
    staff = make.user(is_staff=True, is_superuser=True)
    post(body())
    Event.objects.update(state="failed", attempts=20, next_try_at=None, error="NotBooked: x")
    browser = Client()
    browser.force_login(staff)
    page = browser.get("/admin/billing/event/evt_1/change/")
    assert b"NotBooked: x" in page.content
    assert b"Replay" in page.content
    url = "/admin/billing/event/"
    form = {"action": "replay", "_selected_action": ["evt_1"], "confirm": "1"}
    assert browser.post(url, {**form, "reason": ""}).status_code == 200
    assert Event.objects.get().state == "failed"
    assert browser.post(url, {**form, "reason": "fixed the row"}).status_code == 302
    tasks.sweep_events()
    tasks.handle_event("evt_1")
    assert Event.objects.get().state == "handled"
    assert handler == ["thing_1"]
    audit = AuditEvent.objects.get(action="stripe_event.replayed")
    assert (audit.target, audit.reason, audit.actor) == ("evt_1", "fixed the row", staff)
    with pytest.raises(inbox.AlreadyHandled):
        inbox.replay(event=Event.objects.get(), actor=staff, reason="again")


def test_64_deliveries_at_once_are_stored_once_and_handled_once(queued, handler):
    payload = body()
    answers = run_in_threads(64, lambda n: post(payload).status_code)
    assert answers == [200] * 64
    assert queued == ["evt_1"]
    run_in_threads(16, lambda n: tasks.handle_event("evt_1"))
    tasks.handle_event("evt_1")
    assert handler == ["thing_1"]
    assert Event.objects.get().state == "handled"


def test_one_worker_at_a_time_is_at_an_object(queued, handler):
    post(body("evt_1"))
    post(body("evt_2"))

    def other() -> None:
        tasks.handle_event("evt_2")

    with inbox.alone("thing_1"):
        run_in_threads(1, lambda n: other())
        assert handler == []
        assert Event.objects.get(pk="evt_2").state == "waiting"
        assert Event.objects.get(pk="evt_2").attempts == 0
    tasks.sweep_events()  # it is due at once
    assert queued == ["evt_1", "evt_2", "evt_2"]
    tasks.handle_event("evt_2")
    assert handler == ["thing_1"]


def test_a_signature_that_is_not_ascii_is_wrong(queued):
    header = f"t={int(time.time())},v1=\xe9\xe9"
    answer = Client().post(URL, body(), content_type="application/json", headers={"Stripe-Signature": header})
    assert answer.status_code == 400
    assert not Event.objects.exists()
