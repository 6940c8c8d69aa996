"""Two nodes with users of their own on one real Valkey: neither sees the other's queues, streams or anything else."""

import asyncio
from collections.abc import Iterator

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from apps.dispatch.dispatcher import Dispatcher
from apps.runner import protocol, worker
from apps.runner.output import Output, Writer, Written
from apps.sites import acl
from apps.sites.models import Node
from cango_portal import valkey as hot
from tests import make
from tests.runner.conftest import order
from tests.servers import servers

NOTHING = redis.exceptions.NoPermissionError


@pytest.fixture
def site(transactional_db, valkey, settings) -> Iterator[tuple[Node, Node]]:
    """Two enrolled nodes with the pools `a` and `ab`: a prefix must not be enough."""
    settings.SITES_REDIS_URL = settings.SITES_BROKER_URL = servers.redis_url
    nodes = (make.node(code="n", public_key="k", generation=1), make.node(code="n2", public_key="k", generation=1))
    for node, code in zip(nodes, ("a", "ab"), strict=True):
        make.pool(model=make.model(), node=node, code=code)
    Dispatcher().grant()
    yield nodes
    for name in valkey.acl_users():
        if name.startswith("node:"):
            valkey.acl_deluser(name)


def of(node: str, generation: int = 1) -> redis.Redis:
    """As the node; what is refused is not asked again."""
    return redis.Redis(
        unix_socket_path=str(servers.redis_socket),
        username=acl.user(node),
        password=acl.password(node, generation),
        retry=Retry(NoBackoff(), 0),
    )


def control(node: str) -> str:
    return protocol.control(f"{protocol.claimant_prefix(node)}1234")


def watching(node: str) -> str:
    return protocol.watching(f"{protocol.claimant_prefix(node)}1234")


def test_each_reaches_its_own_and_nothing_else(site, valkey):
    for mine, theirs, pool, other in (("n", "n2", "a", "ab"), ("n2", "n", "ab", "a")):
        client = of(mine)
        valkey.lpush(f"pool.{pool}", "order")
        assert client.brpop([f"pool.{pool}"], timeout=1)
        client.xadd(f"out:{pool}:job:1", {"e": "x"})
        client.set(f"pool.{pool}.kombu.unacked_mutex", "1")
        assert client.xread({control(mine): 0, watching(mine): 0}) in ([], {})
        refused = [
            ("BRPOP", f"pool.{other}", 1), ("LLEN", f"pool.{other}"), ("SET", f"pool.{other}.kombu.unacked", 1),
            ("XADD", f"out:{other}:job:1", "*", "e", "x"), ("XRANGE", f"out:{other}:job:1", "-", "+"),
            ("XREAD", "STREAMS", control(theirs), 0), ("XREAD", "STREAMS", watching(theirs), 0), ("XADD", control(mine), "*", "e", "x"),
            ("XADD", watching(mine), "*", "e", "x"), ("XADD", protocol.rows(other, "job", 1), "*", "e", "x"), ("DEL", protocol.rows(other, "job", 1)),
            ("GET", "slots:a"),
            ("BRPOP", "portal", 1), ("GET", "cache:x"), ("SET", "anything", 1), ("XADD", f"out:{pool}", "*", "e", "x"),
            ("KEYS", "*"), ("SCAN", 0), ("FLUSHALL",), ("ACL", "LIST"), ("CONFIG", "GET", "*"), ("SUBSCRIBE", "x"),
            ("PUBLISH", "x", "y"), ("MONITOR",), ("CLIENT", "LIST"), ("EVAL", "return redis.call('GET', KEYS[1])", 1, "slots:a"),
            ("EVAL", "return redis.call('KEYS', '*')", 0),
        ]  # fmt: skip
        for command in refused:
            with pytest.raises((NOTHING, redis.ResponseError), match=r"(?i)permission|NOPERM"):
                client.execute_command(*command)
        client.close()
    assert valkey.llen("pool.ab") == valkey.llen("pool.a") == 0


def test_rights_follow_the_rows_and_a_server_that_forgot(site, valkey):
    first, _ = site
    client = of("n")
    make.pool(model=make.model(), node=first, code="later")
    with pytest.raises(NOTHING):
        client.llen("pool.later")
    Dispatcher().grant()
    assert client.llen("pool.later") == 0
    valkey.acl_deluser("node:n")
    Dispatcher().grant()
    assert of("n").llen("pool.a") == 0
    log = valkey.acl_getuser("node:n")
    Dispatcher().grant()
    assert valkey.acl_getuser("node:n") == log


@pytest.mark.parametrize("state", ["quarantined", "retired"])
def test_who_may_not_speak_is_cut_off_and_a_new_enrolment_ends_the_old_password(site, valkey, state):
    waiting = of("n")
    assert waiting.ping()
    Node.objects.filter(code="n2").update(generation=2)
    Node.objects.filter(code="n").update(state=state)
    Dispatcher().grant()
    for client in (waiting, of("n"), of("n2")):
        with pytest.raises((redis.AuthenticationError, redis.ResponseError, redis.ConnectionError)):
            client.ping()
    assert of("n2", generation=2).ping()


def test_the_address_carries_user_and_password():
    given = acl.url("rediss://old:secret@cache.example.com:6379/0", "n", 3)
    assert given == f"rediss://node%3An:{acl.password('n', 3)}@cache.example.com:6379/0"
    assert acl.url("", "n", 3) == ""


@pytest.mark.story
async def test_a_runner_needs_no_more_than_these_rights(site, valkey, tmp_path):
    """Its worker, its streams and its ear, and the server's own log of what was refused."""
    hot.client().execute_command("ACL", "LOG", "RESET")
    secret = acl.password("n", 1)
    got: list[dict] = []
    app = worker.application(
        broker_url=f"redis+socket://{acl.user('n').replace(':', '%3A')}:{secret}@{servers.redis_socket}",
        pools=["a"],
        accept=got.append,
    )
    running = worker.Worker(app)
    running.start()
    client = redis.asyncio.Redis(unix_socket_path=str(servers.redis_socket), username=acl.user("n"), password=secret)
    try:
        assert await asyncio.to_thread(running.ready.wait, 20)
        from apps.dispatch import outbox

        job = order(pool="a")
        await asyncio.to_thread(outbox.publish, job)
        for _ in range(100):
            if got:
                break
            await asyncio.sleep(0.1)
        assert got[0]["job"] == job.job
        output = Output(Writer(client), job, "me")
        assert await output.claim() is Written.OURS
        assert await output.append(output.entry(seq=0)) is Written.OURS
        assert await output.show(protocol.Writing(running=1), "begin") is Written.OURS
        assert await output.show(protocol.Writing(running=2), "append") is Written.OURS
        await output.leave()
        assert 0 < valkey.ttl(output.rows_key) <= 10
        valkey.delete(output.rows_key)
        assert await output.show(protocol.Writing(running=2), "append") is Written.GONE
        await client.xread({control("n"): "0", watching("n"): "0"}, block=10)
    finally:
        await asyncio.to_thread(running.stop)
        await client.aclose()
    refused = valkey.execute_command("ACL", "LOG")
    assert refused == []
