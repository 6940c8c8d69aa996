"""A node's rights in RabbitMQ as expressions; what a real server makes of them stands in tests/whole/test_rabbitmq.py."""

import base64
import hashlib
import re

from apps.sites import rabbit


def test_a_node_reads_its_own_queues_by_their_whole_name_and_writes_nothing():
    rights = rabbit.permissions(["b-2", "a"])
    assert rights == {"configure": r"^(pool\.a|pool\.b\-2)$", "write": "^$", "read": r"^(pool\.a|pool\.b\-2)$"}
    for name in ("pool.ab", "xpool.a", "poolxa", "pool.a.b", "portal", "celery", ""):
        assert not re.search(rights["read"], name), name
    assert rabbit.permissions([]) == {"configure": "^$", "write": "^$", "read": "^$"}


def test_only_who_loses_something_is_made_anew():
    one, two = rabbit.permissions(["a"]), rabbit.permissions(["a", "b"])
    assert not rabbit.loses(one, two)
    assert not rabbit.loses(one, one)
    assert not rabbit.loses(rabbit.permissions([]), one)
    assert rabbit.loses(two, one)
    assert rabbit.loses({"configure": ".*", "write": ".*", "read": ".*"}, one)


def test_a_password_is_known_by_what_the_server_keeps():
    kept = base64.b64encode(b"salt" + hashlib.sha256(b"saltright").digest()).decode()
    assert rabbit.is_of("right", kept)
    assert not rabbit.is_of("wrong", kept)
    assert not rabbit.is_of("right", "")
    assert not rabbit.is_of("right", "no base64!")


def test_the_virtual_host_is_read_as_kombu_reads_it():
    assert [rabbit.vhost(f"amqp://h{path}") for path in ("", "/", "//", "/orders", "/%2F")] == [
        "/",
        "/",
        "/",
        "orders",
        "/",
    ]
