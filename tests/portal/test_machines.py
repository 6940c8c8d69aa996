"""What machines ask: alive, ready, violations of the content policy; and sign-in while Redis is away."""

import json
import logging

import pytest
import redis
from django.db import OperationalError

from apps.portal import machines
from cango_portal import valkey
from tests import make


@pytest.fixture
def without_redis(monkeypatch):
    def away(*args, **kwargs):
        raise redis.ConnectionError

    monkeypatch.setattr(redis.connection.ConnectionPool, "get_connection", away)


def test_alive_asks_nothing(client):
    answer = client.get("/healthz")
    assert (answer.status_code, answer.content) == (200, b"ok\n")


def test_ready(client, db):
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"ready": True, "database": "ok", "migrations": "ok", "redis": "ok"}


def test_not_ready_without_redis(client, db, without_redis):
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["redis"] == "away"


def test_not_ready_without_database(client, db, monkeypatch):
    class Away:
        def cursor(self):
            raise OperationalError("secret host name")

    monkeypatch.setattr(machines, "connections", {"default": Away()})
    monkeypatch.setattr(machines, "_migrations", lambda: "unknown")
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert b"secret" not in answer.content


def test_signing_in_works_without_redis(client, db, without_redis):
    user = make.user()
    make.organization(owner=user)
    assert client.get("/login/").status_code == 200
    answer = client.post("/login/", {"login": user.email, "password": "correct horse battery"})
    assert answer.headers["location"] == "/dashboard/"
    assert valkey.Away


def test_guessing_is_slowed_down(client, db):
    user = make.user()
    for _ in range(5):
        client.post("/login/", {"login": user.email, "password": "wrong wrong wrong"})
    answer = client.post("/login/", {"login": user.email, "password": "correct horse battery"})
    assert answer.status_code == 200
    assert b"Too many attempts" in answer.content
    assert "_auth_user_id" not in client.session


def test_policy_reports_are_logged_without_content(client, caplog):
    report = {
        "csp-report": {
            "effective-directive": "script-src",
            "blocked-uri": "inline",
            "document-uri": "http://testserver/verify/abc?secret=1",
            "script-sample": "private",
        }
    }
    with caplog.at_level(logging.WARNING, logger="apps.portal.machines"):
        answer = client.post("/csp/", json.dumps(report), content_type="application/csp-report")
    assert answer.status_code == 204
    record = caplog.records[0]
    assert vars(record)["effective-directive"] == "script-src"
    assert "secret" not in str(vars(record))
    assert "private" not in str(vars(record))


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"csp-report": []}', b"x" * 20_000])
def test_broken_reports_are_ignored(client, body):
    assert client.post("/csp/", body, content_type="application/csp-report").status_code == 204
    assert client.get("/csp/").status_code == 405


def test_not_ready_before_migrations(client, db, monkeypatch):
    monkeypatch.setattr(machines, "_known", lambda: frozenset({("portal", "9999_not_yet")}))
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["migrations"] == "1 to apply"
