"""The Celery worker over a broker that dies and comes back."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery

from apps.runner import worker
from apps.runner.protocol import TASK, queue
from cango_portal.launcher.servers import Servers

pytestmark = pytest.mark.whole


@pytest.fixture
def broker() -> Iterator[Servers]:
    with tempfile.TemporaryDirectory(prefix="cango-", dir="/tmp") as directory:
        servers = Servers(Path(directory), durable=False)
        servers.start_valkey()
        yield servers
        servers.stop()


def test_orders_come_again_after_the_broker_did(broker: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "BLOCK_SECONDS", 0.05)
    url = broker.redis_url.replace("unix://", "redis+socket://")
    got: list[dict[str, int]] = []
    taker = worker.Worker(worker.application(broker_url=url, pools=["a", "b"], accept=got.append))
    taker.start()
    assert taker.ready.wait(10)

    def send(number: int) -> None:
        with Celery("portal", broker=url, set_as_current=False) as sender:
            sender.send_task(TASK, args=[{"number": number}], queue=queue("b"), ignore_result=True)
        deadline = time.monotonic() + 10
        while len(got) < number:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    send(1)
    assert broker.valkey
    broker.valkey.kill()
    broker.valkey.wait()
    socket = Path(broker.redis_url.removeprefix("unix://"))
    socket.unlink(missing_ok=True)
    broker.start_valkey()
    while not socket.exists():
        time.sleep(0.01)
    send(2)
    taker.stop()
    assert not taker.thread.is_alive()
    assert [order["number"] for order in got] == [1, 2]


def test_names_lie_below_the_pool() -> None:
    """One Redis pattern per pool covers what a node may touch."""
    app = worker.application(broker_url="redis://127.0.0.1:9", pools=["a", "b"], accept=print)
    options = app.conf.broker_transport_options
    keys = [options[name] for name in ("unacked_key", "unacked_index_key", "unacked_mutex_key", "fanout_prefix")]
    assert all(key.startswith("pool.a.") for key in keys)
    assert {name: (queue.exchange.name, queue.no_ack) for name, queue in app.amqp.queues.items()} == {
        "pool.a": ("", True),
        "pool.b": ("", True),
    }
