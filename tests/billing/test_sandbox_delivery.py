"""Events of the double: signed, delivered to our own endpoint, again where that failed, and listed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import stripe as library
import time_machine

from apps.billing.client import client
from apps.billing.models import Event
from apps.billing.sandbox import delivery, tasks
from tests.billing import till
from tests.stripe import Double


@pytest.fixture
def endpoint(stripe: Double, settings: Any) -> Double:
    """The running portal's own address is the test's server."""
    settings.BASE_URL = stripe.url
    return stripe


def test_a_signature_that_the_library_takes(stripe: Double, settings: Any) -> None:
    till.customer()
    event = stripe.events()[0]
    body = delivery.payload(event)
    secret = settings.STRIPE_WEBHOOK_SECRETS[0]
    made = library.Webhook.construct_event(body, delivery.signature(body), secret)
    assert (made.type, made.api_version, made.livemode) == ("customer.created", "2026-10-28.endive", False)
    assert made.data.object["object"] == "customer"
    with pytest.raises(library.SignatureVerificationError):
        library.Webhook.construct_event(body + " ", delivery.signature(body), secret)
    with pytest.raises(library.SignatureVerificationError):
        library.Webhook.construct_event(body, delivery.signature(body, timestamp=1_000_000_000), secret)


def test_an_event_holds_its_object_as_it_was(stripe: Double) -> None:
    buyer = till.customer()
    client().v1.customers.update(buyer, {"name": "Meridian Foods GmbH"})
    created, updated = stripe.events()
    assert created["data"]["object"]["name"] == "Meridian Foods"
    assert updated["data"]["object"]["name"] == "Meridian Foods GmbH"
    assert updated["data"]["previous_attributes"] == {"name": "Meridian Foods"}


def test_the_fixture_delivers(stripe: Double) -> None:
    till.customer()
    assert [answer.status_code for answer in stripe.deliver(twice=True, handle=False)] == [200, 200]
    assert stripe.events() == []
    assert Event.objects.count() == 1
    till.customer()
    assert [answer.status_code for answer in stripe.deliver(secret="whsec_wrong")] == [400]
    assert len(stripe.events()) == 1


def test_the_worker_delivers_once(endpoint: Double) -> None:
    till.customer()
    event = endpoint.events()[0]
    tasks.deliver(event["id"])
    tasks.deliver(event["id"])
    assert Event.objects.get().pk == event["id"]
    assert endpoint.get(event["id"])["pending_webhooks"] == 0
    assert endpoint.get(event["id"])["_attempts"] == 1


def test_the_sweep_sends_what_was_missed_and_backs_off(stripe: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = [500, httpx.ConnectError("away"), 200]
    posted = []

    def post(url: str, **sent: Any) -> httpx.Response:
        posted.append((url, sent["headers"]["Stripe-Signature"]))
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer)

    monkeypatch.setattr(delivery.httpx, "post", post)
    start = datetime.now(UTC)
    till.customer()
    tasks.sweep()
    assert posted == []
    for seconds, tries in ((30, 1), (60, 1), (95, 2), (160, 2), (220, 3), (400, 3)):
        with time_machine.travel(start + timedelta(seconds=seconds)):
            tasks.sweep()
        assert len(posted) == tries
    assert posted[0][0] == "http://127.0.0.1:8000/webhooks/stripe/"
    assert stripe.events() == []


def test_it_gives_up_after_three_days_and_the_list_tells(stripe: Double) -> None:
    till.customer()
    lost = stripe.events()[0]["id"]
    with time_machine.travel(datetime.now(UTC) + timedelta(days=3)):
        delivery.note(lost, taken=False)
    assert stripe.events() == []
    till.customer()
    stripe.deliver(handle=False)
    events = client().v1.events
    assert [event.id for event in events.list({"delivery_success": False}).data] == [lost]
    assert len(events.list({"delivery_success": True}).data) == 1
    assert len(events.list({"types": ["customer.created", "invoice.paid"]}).data) == 2
    assert len(events.list({"type": "customer.*"}).data) == 2
    assert events.list({"type": "invoice.paid"}).data == []
    assert events.retrieve(lost).type == "customer.created"
    with pytest.raises(library.InvalidRequestError) as refusal:
        events.list({"type": "a", "types": ["b"]})
    assert refusal.value.param == "types"


def test_with_real_money_nothing_is_delivered(stripe: Double, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    till.customer()
    settings.SANDBOX_MONEY = False
    monkeypatch.setattr(delivery.httpx, "post", lambda *args, **sent: pytest.fail("sent"))
    tasks.deliver(stripe.events()[0]["id"])
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=1)):
        tasks.sweep()
        tasks.go_on()
