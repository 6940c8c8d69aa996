"""Two nodes with users of their own on one real RabbitMQ and one real Valkey: neither sees what is the other's."""

import asyncio
import time
from collections.abc import Iterator

import amqp
import httpx
import pytest
import redis

from apps.dispatch import outbox
from apps.dispatch.dispatcher import Dispatcher
from apps.runner import protocol, worker
from apps.runner.output import Output, Writer, Written
from apps.sites import acl, rabbit
from apps.sites.models import Node
from cango_portal.launcher.rabbitmq import RabbitMQ
from tests import make
from tests.runner.conftest import order
from tests.servers import servers

pytestmark = [pytest.mark.rabbitmq, pytest.mark.timeout(300)]


@pytest.fixture
def site(rabbitmq, transactional_db, valkey, settings) -> Iterator[tuple[Node, Node]]:
    """Two enrolled nodes with the pools `a` and `ab`: a prefix must not be enough."""
    settings.CELERY_BROKER_URL = rabbitmq.url
    settings.SITES_REDIS_URL = servers.redis_url
    settings.SITES_BROKER_URL = f"amqp://127.0.0.1:{rabbitmq.port}//"
    settings.RABBITMQ_MANAGEMENT_URL = rabbitmq.management_url
    nodes = (make.node(code="n", public_key="k", generation=1), make.node(code="n2", public_key="k", generation=1))
    for node, code in zip(nodes, ("a", "ab"), strict=True):
        make.pool(model=make.model(), node=node, code=code)
    outbox.broker.cache_clear()
    rabbit._servers.clear()
    grant()
    yield nodes
    outbox.broker.cache_clear()
    Node.objects.update(state="retired")
    grant()


def grant() -> None:
    """As the dispatcher does it at each turn."""
    Dispatcher().grant()
    Dispatcher().grant_in_rabbitmq()


def of(rabbitmq: RabbitMQ, node: str, generation: int = 1) -> amqp.Connection:
    """As the node."""
    connection = amqp.Connection(
        host=f"127.0.0.1:{rabbitmq.port}", userid=acl.user(node), password=acl.password(node, generation),
        virtual_host="/", connect_timeout=5, read_timeout=15,
    )  # fmt: skip
    connection.connect()
    return connection


def refused(connection: amqp.Connection, act) -> bool:
    """A refusal closes the channel, so each has its own."""
    channel = connection.channel()
    try:
        act(channel)
        connection.drain_events(timeout=1)
    except amqp.AccessRefused:
        return True
    except TimeoutError:
        return False
    return False


def test_each_reaches_its_own_queue_and_nothing_else(rabbitmq, site):
    for pool in ("a", "ab"):
        assert outbox.publish(order(pool=pool))
    for mine, pool, other in (("n", "a", "ab"), ("n2", "ab", "a")):
        connection = of(rabbitmq, mine)
        channel = connection.channel()
        channel.queue_declare(f"pool.{pool}", durable=True, auto_delete=False)
        assert channel.basic_get(f"pool.{pool}", no_ack=True) is not None
        acts = [
            lambda c, other=other: c.basic_get(f"pool.{other}", no_ack=True),
            lambda c, other=other: c.basic_consume(f"pool.{other}"),
            lambda c, other=other: c.queue_declare(f"pool.{other}", durable=True, auto_delete=False),
            lambda c, other=other: c.queue_purge(f"pool.{other}"),
            lambda c, other=other: c.queue_delete(f"pool.{other}"),
            lambda c: c.queue_declare("portal", durable=True),
            lambda c: c.queue_declare("anything"),
            lambda c: c.exchange_declare("mine", "fanout"),
            lambda c, pool=pool: c.queue_bind(f"pool.{pool}", "celeryev"),
            lambda c, other=other: c.basic_publish(amqp.Message("order"), "", f"pool.{other}"),
            lambda c: c.basic_publish(amqp.Message("order"), "amq.topic", "x"),
        ]
        assert [refused(connection, act) for act in acts] == [True] * len(acts)
        # What RabbitMQ asks no right for: whether a queue of a known name is there, and how long it is. Nothing of what is in it.
        assert not refused(connection, lambda c, other=other: c.queue_declare(f"pool.{other}", passive=True))
        connection.close()
        told = httpx.get(
            f"{rabbitmq.management_url.replace('guest:guest@', '')}/api/queues",
            auth=(acl.user(mine), acl.password(mine, 1)),
        )
        assert told.status_code == 401
    admin = httpx.get(f"{rabbitmq.management_url}/api/exchanges").json()
    assert "mine" not in {exchange["name"] for exchange in admin}


async def test_a_runner_needs_no_more_than_these_rights(rabbitmq, site):
    """Its worker on RabbitMQ and its streams on Valkey, and what the one beside it sees of that."""
    got: list[dict] = []
    mine = acl.url(f"amqp://127.0.0.1:{rabbitmq.port}//", "n", 1)
    running = worker.Worker(worker.application(broker_url=mine, pools=["a"], accept=got.append))
    running.start()
    unix = {"unix_socket_path": str(servers.redis_socket)}
    client = redis.asyncio.Redis(**unix, username=acl.user("n"), password=acl.password("n", 1))
    other = redis.Redis(**unix, username=acl.user("n2"), password=acl.password("n2", 1))
    try:
        assert await asyncio.to_thread(running.ready.wait, 30)
        job = order(pool="a")
        assert await asyncio.to_thread(outbox.publish, job)
        for _ in range(100):
            if got:
                break
            await asyncio.sleep(0.1)
        assert got[0]["job"] == job.job
        output = Output(Writer(client), job, "me")
        assert await output.claim() is Written.OURS
        key = protocol.stream("a", job.job, 1)
        assert (await client.xrange(key))[0]
        with pytest.raises(redis.exceptions.NoPermissionError):
            other.xrange(key)
    finally:
        await asyncio.to_thread(running.stop)
        await client.aclose()
        other.close()


def test_rights_follow_the_rows_and_whoever_may_not_speak_is_cut_off(rabbitmq, site):
    first, second = site
    connection = of(rabbitmq, "n")
    make.pool(model=make.model(), node=first, code="later")
    assert refused(connection, lambda c: c.queue_declare("pool.later", durable=True, auto_delete=False))
    grant()
    assert not refused(connection, lambda c: c.queue_declare("pool.later", durable=True, auto_delete=False))
    assert connection.connected  # who only gains keeps its connection
    first.pools.filter(code="later").update(node=second)
    grant()
    assert ended(connection)  # who loses something does not
    connection = of(rabbitmq, "n")
    assert refused(connection, lambda c: c.basic_get("pool.later"))
    Node.objects.filter(pk=first.pk).update(state="quarantined")
    Node.objects.filter(pk=second.pk).update(generation=2)
    grant()
    assert ended(connection)
    for node, generation in (("n", 1), ("n2", 1)):
        with pytest.raises((amqp.AccessRefused, amqp.NotAllowed)):
            of(rabbitmq, node, generation)
    of(rabbitmq, "n2", 2).close()


def test_a_server_that_forgot_has_its_users_again_and_one_that_is_away_is_said(rabbitmq, site, settings, monkeypatch):
    httpx.delete(f"{rabbitmq.management_url}/api/users/{acl.user('n').replace(':', '%3A')}").raise_for_status()
    grant()  # it was looked at a moment ago
    with pytest.raises((amqp.AccessRefused, amqp.NotAllowed)):
        of(rabbitmq, "n")
    monkeypatch.setattr(rabbit, "LOOK_SECONDS", 0.0)
    grant()
    of(rabbitmq, "n").close()
    settings.RABBITMQ_MANAGEMENT_URL = "http://guest:wrong@127.0.0.1:1"
    with pytest.raises(ConnectionError):
        Dispatcher().grant_in_rabbitmq()
    settings.RABBITMQ_MANAGEMENT_URL = rabbitmq.management_url


def ended(connection: amqp.Connection, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            connection.drain_events(timeout=0.5)
        except TimeoutError:
            continue
        except (OSError, amqp.exceptions.AMQPError):
            return True
    return False
