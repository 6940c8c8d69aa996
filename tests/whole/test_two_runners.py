"""Two runner processes on one machine, each with the credentials of its own node, on one real Valkey and, once, one real
RabbitMQ: each does the work of its pool, and whatever it tries at the other's is refused and changes nothing."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import amqp
import httpx
import pytest
import redis
from django.conf import settings as conf

from apps.core import ids
from apps.core.signing import sign, signature
from apps.dispatch import outbox
from apps.jobs.models import Job
from apps.ledger.models import Transfer
from apps.runner import protocol
from apps.sites import acl, drains, rabbit
from apps.sites.models import Node
from tests import make
from tests.engine import MODEL, Running, running, text
from tests.gateway.portal import serving
from tests.machines import Machine, dispatching, until
from tests.servers import servers
from tests.whole.test_rabbitmq import refused

pytestmark = pytest.mark.timeout(300)

TOKENS = 800
LONG = "how much power is left " * 4000  # more than an order carries itself
POOLS = ("a", "ab")  # a prefix must not be enough


@pytest.fixture(params=["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def broker(request: pytest.FixtureRequest, settings: Any) -> Iterator[str]:
    """What carries the orders. Streams are in Valkey either way."""
    settings.SITES_REDIS_URL = settings.SITES_BROKER_URL = servers.redis_url
    if request.param == "rabbitmq":
        server = request.getfixturevalue("rabbitmq")
        settings.CELERY_BROKER_URL = server.url
        settings.SITES_BROKER_URL = f"amqp://127.0.0.1:{server.port}//"
        settings.RABBITMQ_MANAGEMENT_URL = server.management_url
    outbox.broker.cache_clear()
    rabbit._servers.clear()
    yield request.param
    outbox.broker.cache_clear()


@dataclass
class Chat:
    """A streamed chat as a customer sees it, read in a thread."""

    url: str
    secret: str
    model: str
    job: str = ""
    said: str = ""
    begun: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self) -> None:
        messages = [{"role": "user", "content": LONG}]
        body = {"model": self.model, "messages": messages, "max_tokens": TOKENS, "stream": True}
        headers = {"authorization": f"Bearer {self.secret}"}
        with httpx.stream("POST", f"{self.url}/v1/chat/completions", json=body, headers=headers, timeout=60) as answer:
            self.job = answer.headers.get("x-job-id", "")
            for line in answer.iter_lines():
                if line.startswith("data: {"):
                    chunk = httpx.Response(200, text=line.removeprefix("data: ")).json()
                    for choice in chunk["choices"]:
                        self.said += choice["delta"].get("content") or ""
                    if len(self.said.split()) >= 5:
                        self.begun.set()

    def row(self) -> Job:
        return Job.objects.get(pk=ids.parse("job", self.job))


@dataclass
class Site:
    url: str
    secret: str
    machines: list[Machine]
    engine: Running

    def chat(self, machine: Machine) -> Chat:
        pool = machine.node.pools.select_related("model").get()
        made = Chat(self.url, self.secret, pool.model.name)
        assert made.begun.wait(60), machine.story()
        until(lambda: made.row().state == "running")
        return made


@pytest.fixture
def site(broker: str, transactional_db: None, tmp_path: Path, valkey: redis.Redis) -> Iterator[Site]:
    staff = make.user(is_staff=True)
    _, secret = make.api_key(make.organization(credit_microusd=1_000_000))
    machines = []
    with serving() as portal, running() as engine, dispatching():
        try:
            for code in POOLS:
                node = make.node(state="pending", heartbeat_at=None)
                model = make.model(context_tokens=100_000, max_queue_seconds=30)
                make.pool(model=model, node=node, code=code, ready=False)
                machine = Machine(tmp_path / code, portal=portal.url, node=node)
                machines.append(machine)
                machine.enroll(by=staff)
                drains.move(node=node, after="admitted", reason="It is well", actor=staff, untested=True)
                machine.start(
                    {"code": code, "kind": "chat", "slots": 2, "engine": "url", "url": engine.url, "model": MODEL}
                )
            for machine in machines:
                machine.wait_ready()
            yield Site(portal.url, secret, machines, engine)
        finally:
            engine.control(tokens_per_second=0)
            for machine in machines:
                machine.stop()
            Node.objects.update(state="retired")
            until(lambda: not [name for name in valkey.acl_users() if name.startswith(acl.PREFIX)])


def test_each_does_its_own_work_and_reaches_nothing_of_the_others(site: Site, broker: str, valkey: redis.Redis) -> None:
    site.engine.control(tokens_per_second=10)
    chats = [site.chat(machine) for machine in site.machines]
    for mine, theirs in ((0, 1), (1, 0)):
        machine, target = site.machines[mine], chats[theirs]
        before = facts(target)
        as_me = machine.rights()
        tried_in_valkey(valkey, as_me.redis_url, chats[mine], target)
        if broker == "rabbitmq":
            tried_in_rabbitmq(as_me.broker_url, POOLS[mine], POOLS[theirs])
        tried_at_the_door(site, as_me.token, chats[mine], target)
        assert facts(target) == before
        for path in (machine.key, machine.directory / "spool"):
            assert path.stat().st_mode & 0o077 == 0
    site.engine.control(tokens_per_second=0)
    for chat, code in zip(chats, POOLS, strict=True):
        chat.thread.join(60)
        assert text(TOKENS).startswith(chat.said)
        until(lambda chat=chat: chat.row().finished_at)
        job = chat.row()
        assert (job.state, job.attempt, job.completion_tokens, job.pool.code) == ("succeeded", 1, TOKENS, code)
        assert chat.said == text(TOKENS)
        assert charged(job) == [job.charge_microusd]


def tried_in_valkey(valkey: redis.Redis, url: str, mine: Chat, theirs: Chat) -> None:
    own, other = mine.row(), theirs.row()
    key = protocol.stream(other.pool.code, str(other.pk), 1)
    queue = protocol.queue(other.pool.code)
    forged = protocol.Entry(claimant=other.claimant, fence=str(other.fence), seq=0).model_dump_json()
    refused = [
        ("XRANGE", key, "-", "+"), ("XREAD", "STREAMS", key, 0), ("XADD", key, "*", "e", forged), ("DEL", key), ("EXPIRE", key, 1),
        ("EXISTS", key), ("TYPE", key), ("EVALSHA", "0" * 40, 1, key), ("EVAL", "return redis.call('XLEN', KEYS[1])", 1, key),
        ("BRPOP", queue, 1), ("RPOP", queue), ("LPUSH", queue, "order"), ("LLEN", queue), ("DEL", queue),
        ("XREAD", "STREAMS", protocol.control(other.claimant), 0), ("XADD", protocol.control(other.claimant), "*", "e", "{}"),
        ("XADD", protocol.control(own.claimant), "*", "e", "{}"), ("SCAN", 0), ("KEYS", "*"), ("ACL", "LIST"), ("MONITOR",),
        ("SUBSCRIBE", "x"), ("CLIENT", "LIST"), ("CONFIG", "GET", "*"), ("FLUSHALL",),
    ]  # fmt: skip
    lengths = (
        valkey.llen(queue),
        valkey.xlen(protocol.control(other.claimant)),
        valkey.xlen(protocol.control(own.claimant)),
    )
    with redis.Redis.from_url(url) as client:
        assert client.xrange(protocol.stream(own.pool.code, str(own.pk), 1), count=1)
        for command in refused:
            with pytest.raises(
                (redis.exceptions.NoPermissionError, redis.ResponseError), match=r"(?i)permission|NOPERM"
            ):
                client.execute_command(*command)
    assert lengths == (
        valkey.llen(queue), valkey.xlen(protocol.control(other.claimant)), valkey.xlen(protocol.control(own.claimant))
    )  # fmt: skip
    entries: Any = valkey.xrange(key)
    written = [protocol.Entry.model_validate_json(fields["e"]) for _, fields in entries]
    assert {(entry.claimant, entry.fence) for entry in written} == {(other.claimant, str(other.fence))}
    assert valkey.ttl(key) > 60


def tried_in_rabbitmq(url: str, mine: str, theirs: str) -> None:
    parts = urlsplit(url)
    connection = amqp.Connection(
        host=f"{parts.hostname}:{parts.port}", userid=parts.username.replace("%3A", ":"), password=parts.password,
        virtual_host="/", connect_timeout=5, read_timeout=15,
    )  # fmt: skip
    connection.connect()
    queue = protocol.queue(theirs)
    assert not refused(connection, lambda c: c.queue_declare(protocol.queue(mine), passive=True))
    for act in (
        lambda c: c.basic_get(queue, no_ack=True),
        lambda c: c.basic_consume(queue),
        lambda c: c.queue_declare(queue, durable=True, auto_delete=False),
        lambda c: c.queue_purge(queue),
        lambda c: c.queue_delete(queue),
        lambda c: c.basic_publish(amqp.Message("order"), "", queue),
        lambda c: c.basic_publish(amqp.Message("order"), "", protocol.queue(mine)),
        lambda c: c.basic_publish(amqp.Message("order"), "amq.topic", queue),
        lambda c: c.queue_bind(protocol.queue(mine), "amq.topic"),
        lambda c: c.exchange_declare("mine", "fanout"),
    ):
        assert refused(connection, act)
    connection.close()


def tried_at_the_door(site: Site, token: str, mine: Chat, theirs: Chat) -> None:
    """As a node that has guessed job, fence and claimant of the other's work."""
    own, other = mine.row(), theirs.row()
    lease = {"job": str(other.pk), "attempt": 1, "fence": str(other.fence)}
    pool = {"pool": other.pool.code, "ready": False, "reason": "out of order"}
    with httpx.Client(base_url=site.url, headers={"authorization": f"Bearer {token}"}, timeout=20) as client:
        for claimant in (other.claimant, own.claimant):
            about = {**lease, "claimant": claimant, "at": 0.0}
            reports = [
                {**about, "kind": "started"},
                {**about, "kind": "finished", "state": "failed", "failure": {"code": "engine_error", "message": "No"}},
                {
                    **about,
                    "kind": "finished",
                    "state": "succeeded",
                    "text": "Not so.",
                    "usage": {"completion_tokens": 9999},
                },
            ]
            told = client.post("/agent/v1/reports", json={"reports": reports}).json()["answers"]
            assert [each["accepted"] for each in told] == [False] * 3
        beat = {"claimant": own.claimant, "leases": [lease], "pools": [pool]}
        # The real runner beats under this name as well: of two beats at the same moment the later one is answered.
        stops = [client.post("/agent/v1/heartbeat", json=beat).json()["stop"] for _ in range(3)]
        assert [{"job": str(other.pk), "attempt": 1}] in stops
        result = {"pool": other.pool.code, "test": 1, "passed": False, "findings": [], "seconds": 1, "levels": []}
        assert client.post("/agent/v1/burn-in", json=result).json() == {"accepted": False}
        other.pool.refresh_from_db()
        assert (other.pool.ready, other.pool.reason) == (True, "")

        expires = int(own.deadline_at.timestamp())  # as its order named it
        given = urlsplit(sign(f"/agent/v1/bodies/{own.pk}", expires=expires, secret=conf.SECRET_KEY))
        query = dict(httpx.QueryParams(given.query))
        assert client.get(given.path, params=query).json()["messages"][0]["content"] == LONG
        later = str(int(query["expires"]) + 3600)
        upload = {"purpose": (None, "user_data"), "file": ("secret.txt", b"secret")}
        headers = {"authorization": f"Bearer {site.secret}"}
        kept = client.post("/v1/files", files=upload, headers=headers).json()["id"]
        body, file = f"/agent/v1/bodies/{other.pk}", f"/agent/v1/files/{ids.parse('file', kept)}"
        for path, tampered in (
            (given.path, {**query, "expires": later}),
            (given.path, {**query, "signature": signature(given.path, query["expires"], "guessed")}),
            (body, query),
            (body, {}),
            (f"{given.path}/../{other.pk}", query),
            (file, query),
            (file, {}),
        ):
            answer = client.get(path, params=tampered)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "invalid_signature"), path


def facts(chat: Chat) -> tuple[Any, ...]:
    """All of a running job that somebody else could have changed."""
    job = chat.row()
    names = (
        "state",
        "attempt",
        "fence",
        "claimant",
        "pool_id",
        "cancel_requested_at",
        "finished_at",
        "charge_microusd",
    )
    return (*(getattr(job, name) for name in names), job.events.count(), charged(job))


def charged(job: Job) -> list[int]:
    rows = Transfer.objects.filter(hold__key=f"job:{job.pk}", debit="held", credit="revenue")
    return list(rows.values_list("amount_microusd", flat=True))
