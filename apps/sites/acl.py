"""What an enrolled node may do in Redis: a user of its own, cut to the queues, streams and bookkeeping of its pools.

PostgreSQL says which users there are; `grant` makes the servers agree, and the dispatcher runs it every two seconds. So a
server that lost its users has them again, a node whose state does not let it speak loses its user and its connections, and a
pool that is added is reached without a new password.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from functools import cache
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import redis
from django.conf import settings

from apps.core.sql import Plan, Row, Statement
from apps.runner import protocol
from apps.sites import lifecycle
from cango_portal import valkey

PREFIX = "node:"

# What the runner's Celery worker, its streams and its ear send; no command that lists keys or reads another's.
COMMANDS = (
    "+ping", "+hello", "+auth", "+select", "+client|setinfo", "+client|setname", "+multi", "+exec", "+watch", "+unwatch",
    "+brpop", "+rpop", "+llen", "+exists", "+type", "+evalsha", "+eval", "+script|load", "+xadd", "+xrange", "+xread", "+expire",
    "+set", "+get", "+del", "+zrange", "+zrevrangebyscore", "+zadd", "+zrem", "+hset", "+hget", "+hdel",
)  # fmt: skip

NODES = """
SELECT n.code, n.generation, array(SELECT p.code FROM sites_pool p WHERE p.node_id = n.id ORDER BY p.code)::text[] AS pools
FROM sites_node n WHERE n.public_key <> '' AND n.state = ANY(%(heard)s) ORDER BY n.code
"""


def nodes() -> Plan[list[Row]]:
    """Enrolled nodes that may speak now, with their pools."""
    return (yield Statement(NODES, {"heard": list(lifecycle.HEARD)}, alone=True))


def user(node: str) -> str:
    return f"{PREFIX}{node}"


def password(node: str, generation: int) -> str:
    """Not stored: made again from the portal's secret. Enrolling again changes it."""
    return hmac.new(settings.SECRET_KEY.encode(), f"redis:{node}:{generation}".encode(), hashlib.sha256).hexdigest()


def keys(node: str, pools: Iterable[str]) -> list[str]:
    """Key patterns of one node. A pool's code has no dot and no colon, so none of them reaches another pool."""
    patterns = [f"%R~{protocol.control(protocol.claimant_prefix(node))}*"]
    for pool in pools:
        patterns += [f"~{protocol.queue(pool)}", f"~{protocol.queue(pool)}.*", f"~{protocol.stream_prefix(pool)}*"]
    return patterns


def rules(node: str, generation: int, pools: Iterable[str]) -> list[str]:
    """The arguments of ACL SETUSER; with `reset` first they replace whatever the user was."""
    hashed = hashlib.sha256(password(node, generation).encode()).hexdigest()
    return ["reset", "on", f"#{hashed}", "resetchannels", *keys(node, pools), *COMMANDS]


def grant(rows: list[Row]) -> None:
    """Make users and rights on all servers what PostgreSQL says. Raises `valkey.Away`."""
    wanted = {user(row["code"]): rules(row["code"], row["generation"], row["pools"]) for row in rows}
    for server in servers():
        there = {name for name in map(str, server.acl_users()) if name.startswith(PREFIX)}
        for name in there - set(wanted):
            server.acl_deluser(name)  # closes its connections too
        for name, given in wanted.items():
            if name not in there or mark(given) not in set(marks(server, name)):
                server.execute_command("ACL", "SETUSER", name, *given, f"~{mark(given)}")  # type: ignore[no-untyped-call]


def mark(given: list[str]) -> str:
    """A pattern that matches no key of ours and names what a user was given, so that only what differs is written again."""
    return f"acl:{hashlib.sha256(' '.join(given).encode()).hexdigest()[:16]}"


def marks(server: redis.Redis, name: str) -> list[str]:
    found: Any = server.acl_getuser(name) or {}
    return [str(pattern).lstrip("~") for pattern in found.get("keys") or () if "acl:" in str(pattern)]


def servers() -> list[redis.Redis]:
    """The one for streams, and the broker where it is another Redis. A RabbitMQ has rights of its own (`rabbit.py`)."""
    streams = settings.REDIS_URL
    broker = settings.CELERY_BROKER_URL.replace("redis+socket://", "unix://")
    return [valkey.client()] + ([other(broker)] if broker != streams and broker.startswith(("redis", "unix")) else [])


@cache
def other(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, **valkey.OPTIONS)


def url(public: str, node: str, generation: int) -> str:
    """`public`, an address of a server as sites reach it, with the node's user and password. Empty where there is none."""
    if not public:
        return ""
    parts = urlsplit(public)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(user(node), safe='')}:{password(node, generation)}@{host}"))
