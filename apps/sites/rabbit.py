"""What an enrolled node may do in RabbitMQ, where that carries the orders: read the queues of its pools, and nothing else.

PostgreSQL says which users there are; `grant` makes the server agree through its management API, and the dispatcher runs it every
two seconds. A user that has to lose something is made anew, for a connection keeps what it was once allowed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import time
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import httpx
from django.conf import settings

from apps.core.sql import Row
from apps.runner import protocol
from apps.sites import acl

SECONDS = 3.0
LOOK_SECONDS = 30.0  # between looks at a server that was left as it should be: somebody may have changed it
NOTHING = "^$"


def permissions(pools: list[str]) -> dict[str, str]:
    """Regular expressions over names, by `rabbitmqctl set_permissions`: a worker declares its queues and consumes them.

    It publishes nothing, and no exchange is its own. A pool's code has no dot, so none of them reaches another pool.
    """
    queues = f"^({'|'.join(re.escape(protocol.queue(pool)) for pool in sorted(pools))})$" if pools else NOTHING
    return {"configure": queues, "write": NOTHING, "read": queues}


def is_of(password: str, password_hash: str) -> bool:
    """RabbitMQ keeps base64(salt + SHA-256(salt + password)), with a salt of four bytes."""
    try:
        kept = base64.b64decode(password_hash, validate=True)
    except binascii.Error:
        return False
    return kept[4:] == hashlib.sha256(kept[:4] + password.encode()).digest()


def loses(before: dict[str, str], after: dict[str, str]) -> bool:
    """Whether something that was allowed is not any more."""
    return any(not names(before[right]) <= names(after[right]) for right in after)


def names(expression: str) -> set[str]:
    return set(expression.removeprefix("^(").removesuffix(")$").split("|")) - {NOTHING}


class Server:
    """The management API of one RabbitMQ, and what it was left with."""

    def __init__(self, url: str, vhost: str) -> None:
        parts = urlsplit(url)
        self.vhost = vhost
        self.client = httpx.Client(
            base_url=parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/"),
            auth=(unquote(parts.username or ""), unquote(parts.password or "")),
            timeout=SECONDS,
            trust_env=False,
        )
        self.left: dict[str, tuple[str, dict[str, str]]] | None = None
        self.looked = 0.0

    def call(self, method: str, *path: str, content: Any = None) -> Any:
        """Raises ConnectionError where the server is away or does not let us."""
        address = "/".join(["/api", *(quote(part, safe="") for part in path)])
        try:
            answer = self.client.request(method, address, json=content)
            if not (method == "DELETE" and answer.status_code == httpx.codes.NOT_FOUND):
                answer.raise_for_status()
        except httpx.HTTPError as error:
            self.left = None
            raise ConnectionError(f"RabbitMQ's management does not do as asked: {type(error).__name__}") from error
        return answer.json() if method == "GET" else None

    def grant(self, rows: list[Row]) -> None:
        wanted = {
            acl.user(row["code"]): (acl.password(row["code"], row["generation"]), permissions(row["pools"]))
            for row in rows
        }
        if self.left == wanted and time.monotonic() - self.looked < LOOK_SECONDS:
            return
        users = {
            each["name"]: each.get("password_hash", "")
            for each in self.call("GET", "users")
            if each["name"].startswith(acl.PREFIX)
        }
        rights = {
            each["user"]: {right: each[right] for right in ("configure", "write", "read")}
            for each in self.call("GET", "permissions")
            if each["vhost"] == self.vhost
        }
        kept = {
            name
            for name, password_hash in users.items()
            if name in wanted and stays(password_hash, rights.get(name), *wanted[name])
        }
        for name in users.keys() - kept:
            self.call("DELETE", "users", name)  # and its connections
        for name, (password, given) in wanted.items():
            if name not in kept:
                self.call("PUT", "users", name, content={"password": password, "tags": ""})
            if name not in kept or rights.get(name) != given:
                self.call("PUT", "permissions", self.vhost, name, content=given)
        self.left, self.looked = wanted, time.monotonic()


def stays(password_hash: str, before: dict[str, str] | None, password: str, given: dict[str, str]) -> bool:
    """Whether a user that is there may be left with its connections."""
    return is_of(password, password_hash) and (before is None or not loses(before, given))


_servers: dict[tuple[str, str], Server] = {}


def grant(rows: list[Row]) -> None:
    """Make users and rights what PostgreSQL says. Raises ConnectionError."""
    where = (settings.RABBITMQ_MANAGEMENT_URL, vhost(settings.CELERY_BROKER_URL))
    if where not in _servers:
        _servers[where] = Server(*where)
    _servers[where].grant(rows)


def vhost(broker_url: str) -> str:
    """As kombu reads it: `amqp://host//` and `amqp://host` are the virtual host `/`, `amqp://host/orders` is `orders`."""
    path = unquote(urlsplit(broker_url).path)
    return path.removeprefix("/") or "/"
