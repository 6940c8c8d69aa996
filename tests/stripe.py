"""The Stripe double for tests: a pytest plugin.

`stripe` serves the portal's own URLs over real HTTP on the loopback, so that the real library talks to
`/sandbox/stripe/v1/…` as it would to Stripe. What a customer, a bank or an outage does is done through the fixture;
events wait until a test delivers them, in the order it likes.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.http import HttpResponse
from django.test import Client
from pytest_django import Settings

from apps.billing.sandbox import cards, checkout, delivery, disputes, refunds, rows, sessions, subscriptions, wire

MOUNT = "/sandbox/stripe"
HANG_UP = "tests.hang_up"


class Received(NamedTuple):
    """A request of the library: `path` such as "/v1/customers", `params` decoded but untyped."""

    method: str
    path: str
    params: dict[str, Any]
    headers: dict[str, str]


@dataclass
class Outage:
    """The next `times` requests fail: with a status, or (0) by a connection that breaks.

    `after`: the request is executed and only its answer gets lost.
    """

    method: str
    path: str
    status: int
    times: int = 1
    after: bool = False


@dataclass
class Wire:
    """What the server saw, and what it is to get wrong."""

    requests: list[Received] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, method: str, path: str) -> Outage | None:
        with self.lock:
            for outage in self.outages:
                if outage.method == method and path.startswith(outage.path) and outage.times:
                    outage.times -= 1
                    return outage
        return None


class Broken(ConnectionAbortedError):
    """The connection breaks: the server writes no answer for this one."""


class Application:
    """Django's WSGI application, watched."""

    def __init__(self) -> None:
        self.django = WSGIHandler()
        self.wire = Wire()
        self.kept: list[BaseDatabaseWrapper] = []

    def connect(self) -> None:
        """A connection of this thread's own, as long as its client stays: the threads of a test may hold all of the
        pool's while they wait for us."""
        if "pool" in connection.settings_dict["OPTIONS"]:
            mine = connection.copy()
            mine.settings_dict["OPTIONS"].pop("pool")
            mine.settings_dict["CONN_MAX_AGE"] = None
            mine.inc_thread_sharing()  # `disconnect` is called elsewhere
            connections["default"] = mine
            self.kept.append(mine)

    def disconnect(self) -> None:
        """So that the test database can be dropped."""
        for each in self.kept:
            each.close()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        self.connect()
        path = environ["PATH_INFO"]
        if not path.startswith(MOUNT):
            return self.django(environ, start_response)
        path, method = path.removeprefix(MOUNT), environ["REQUEST_METHOD"]
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = _Body(body)
        text = body.decode() or environ.get("QUERY_STRING", "")
        headers = {
            name.removeprefix("HTTP_").replace("_", "-").title(): value
            for name, value in environ.items()
            if name.startswith("HTTP_")
        }
        with self.wire.lock:
            self.wire.requests.append(Received(method, path, wire.decode(text), headers))
        outage = self.wire.take(method, path)
        if outage and outage.after:
            lost = self.django(environ, lambda status, headers, *rest: None)
            lost.close()  # Django gives its database connection back here
        if outage and not outage.status:
            environ[HANG_UP]()
            raise Broken
        if outage:
            start_response(f"{outage.status} Outage", [("Content-Type", "application/json")])
            return [b'{"error": {"type": "api_error", "message": "The sandbox was told to fail."}}']
        return self.django(environ, start_response)


class _Body:
    def __init__(self, body: bytes) -> None:
        self.body = body

    def read(self, size: int = -1) -> bytes:
        size = len(self.body) if size is None or size < 0 else size
        taken, self.body = self.body[:size], self.body[size:]
        return taken

    def readline(self, size: int = -1) -> bytes:
        return self.read(size)


class _Handler(WSGIRequestHandler):
    disable_nagle_algorithm = True  # head and body are two writes: the second would wait 40 ms for an acknowledgement

    def get_environ(self) -> dict[str, Any]:
        def hang_up() -> None:
            self.close_connection = True

        return {**super().get_environ(), HANG_UP: hang_up}

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server:
    """One for the whole run."""

    def __init__(self) -> None:
        self.application = Application()
        self.http = ThreadedWSGIServer(("127.0.0.1", 0), _Handler, connections_override={})
        self.http.daemon_threads = True
        self.http.set_app(self.application)
        self.http.handle_error = lambda request, address: None  # type: ignore[method-assign]
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()
        self.application.disconnect()


class Double:
    """Stripe's side of a test: what the customer, the bank and the network do. Amounts are cents."""

    def __init__(self, server: Server, wire: Wire) -> None:
        self.url = server.url
        self.wire = wire

    @property
    def requests(self) -> list[Received]:
        """What the library sent, oldest first."""
        return list(self.wire.requests)

    def asked(self, method: str, path: str) -> list[Received]:
        return [request for request in self.requests if (request.method, request.path) == (method, path)]

    def fail_next(self, method: str, path: str, status: int = 500, *, times: int = 1, after: bool = False) -> None:
        """The next `times` requests whose path begins so fail. `status` 0 breaks the connection; with `after` the
        request is executed first, so that only its answer is lost."""
        with self.wire.lock:
            self.wire.outages.append(Outage(method, path, status, times, after))

    # Objects -----------------------------------------------------------------------------------------------------------

    def get(self, identifier: str) -> dict[str, Any]:
        """Any object as the double has it now."""
        found = rows.find(identifier)
        assert found is not None, f"no {identifier}"
        return found

    def every(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        """Oldest first: `every("refund", charge=…)`."""
        return rows.every(kind, **fields)

    def balance_cents(self) -> int:
        """What Stripe holds for us."""
        return sum(entry["net"] for entry in rows.every("balance_transaction"))

    # What a customer does --------------------------------------------------------------------------------------------------

    def pay(
        self,
        session_id: str,
        *,
        card: str = "4242424242424242",
        save: bool = True,
        name: str = "Meridian Foods GmbH",
        email: str = "",
        country: str = "US",
        tax_id: str = "",
    ) -> bool:
        """Pay on the checkout page; False where the bank refused. `card` is a number or name of `sandbox.cards.CARDS`.

        The card is kept where the session asked for that (`setup_future_usage`), or by `save` where it offers the choice.
        """
        payer = checkout.Payer(name=name, email=email, country=country, tax_id=tax_id)
        with rows.writing():
            return checkout.pay(session_id, card=card, payer=payer, save=save)

    def expire(self, session_id: str) -> None:
        """Nobody paid in time."""
        with rows.writing():
            sessions.expire({}, session_id)

    def save_card(self, customer_id: str, card: str = "4242424242424242", *, only: bool = False) -> str:
        """The id of a payment method the customer saved; `only` takes the others away."""
        with rows.writing():
            for method in cards.saved(customer_id) if only else []:
                cards.detach(method["id"], customer=customer_id)
            method = cards.add(cards.known(card))
            cards.attach(method, customer_id)
            return str(method["id"])

    def remove_cards(self, customer_id: str) -> None:
        with rows.writing():
            for method in cards.saved(customer_id):
                cards.detach(method["id"], customer=customer_id)

    def pay_invoice(self, invoice_id: str, *, card: str = "") -> bool:
        """Pay an open invoice on its page, with another card where one is named (it becomes the subscription's)."""
        with rows.writing():
            return subscriptions.pay_with(invoice_id, card=card)

    # What a bank does ---------------------------------------------------------------------------------------------------------

    def dispute(self, payment_intent_id: str) -> str:
        """The cardholder disputes a payment: the dispute's id."""
        with rows.writing():
            charge = rows.get("charge", rows.get("payment_intent", payment_intent_id)["latest_charge"])
            return str(disputes.open_for(charge)["id"])

    def close_dispute(self, dispute_id: str, *, won: bool) -> None:
        with rows.writing():
            disputes.close(dispute_id, won=won)

    def warn(self, payment_intent_id: str) -> str:
        """An early fraud warning."""
        with rows.writing():
            charge = rows.get("charge", rows.get("payment_intent", payment_intent_id)["latest_charge"])
            return str(disputes.warn(charge)["id"])

    def fail_refund(self, refund_id: str) -> None:
        """The bank sends the money of a refund back to us."""
        with rows.writing():
            refunds.fail(refund_id)

    def arrive(self, payment_intent_id: str, *, paid: bool = True) -> None:
        """The money of a delayed payment (card="bank_debit") arrives, or will not."""
        with rows.writing():
            checkout.arrive(payment_intent_id, paid=paid)

    # What time does ------------------------------------------------------------------------------------------------------------

    def advance(self, subscription_id: str) -> dict[str, Any]:
        """The next period begins: its invoice is paid, or not, by the card; a subscription to be cancelled ends."""
        with rows.writing():
            return subscriptions.advance(subscription_id)

    def retry(self, invoice_id: str) -> bool:
        """Stripe tries an unpaid invoice again by itself."""
        with rows.writing():
            return subscriptions.pay(invoice_id, absent=True)

    # Events ---------------------------------------------------------------------------------------------------------------------

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        """Those that wait to be delivered, oldest first; of these types, where any are named."""
        found = rows.every("event", pending_webhooks__gt=0)
        return [event for event in found if not kinds or event["type"] in kinds]

    def post(
        self,
        payload: str | bytes,
        *,
        secret: str | None = None,
        timestamp: int | None = None,
        signature: str | None = None,
    ) -> HttpResponse:
        """Any body to `/webhooks/stripe/`, signed by the library's own code unless `signature` is given."""
        text = payload.decode(errors="replace") if isinstance(payload, bytes) else payload
        header = delivery.signature(text, secret=secret, timestamp=timestamp) if signature is None else signature
        return Client().post(  # type: ignore[return-value]
            "/webhooks/stripe/", payload, content_type="application/json", headers={"stripe-signature": header}
        )

    def deliver(
        self,
        event: str | dict[str, Any] | None = None,
        *,
        twice: bool = False,
        secret: str | None = None,
        timestamp: int | None = None,
        handle: bool = True,
    ) -> list[HttpResponse]:
        """POST the signed payloads: of one event, or of all that wait, in order, until none is left. What was taken is
        then handled as the worker would (`handle=False`: only stored). The answers, one for each POST."""
        answers = []
        for _ in range(10):
            waiting = self.events() if event is None else [self.get(event["id"] if isinstance(event, dict) else event)]
            for each in waiting:
                answers += self._deliver(each, twice, secret, timestamp, handle)
            if event is not None or not waiting or any(answer.status_code >= 300 for answer in answers):
                break
        return answers

    def _deliver(
        self, event: dict[str, Any], twice: bool, secret: str | None, timestamp: int | None, handle: bool
    ) -> list[HttpResponse]:
        from apps.billing import tasks

        body = delivery.payload(event)
        answers = [self.post(body, secret=secret, timestamp=timestamp) for _ in range(1 + twice)]
        if all(answer.status_code < 300 for answer in answers):
            delivery.note(event["id"], taken=True)
            for _ in answers if handle else []:
                tasks.handle_event(event["id"])
        return answers


@pytest.fixture(scope="session")
def _stripe_server(django_db_setup: None) -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def stripe(transactional_db: None, _stripe_server: Server, settings: Settings) -> Iterator[Double]:
    """Stripe's side of the test. The library does not retry by itself here: an outage is seen at once."""
    settings.SANDBOX_MONEY = True
    settings.STRIPE_API_BASE = _stripe_server.url + MOUNT
    settings.STRIPE_RETRIES = 0
    application = _stripe_server.application
    application.wire = Wire()
    yield Double(_stripe_server, application.wire)
    application.wire = Wire()
