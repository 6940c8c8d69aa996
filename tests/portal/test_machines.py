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


def old(directive="script-src", page="/verify/abc/?secret=1") -> tuple[str, str]:
    """As `report-uri` sends it."""
    report = {
        "effective-directive": directive,
        "blocked-uri": "inline",
        "document-uri": f"http://testserver{page}",
        "script-sample": "private",
    }
    return json.dumps({"csp-report": report}), "application/csp-report"


def new(directive="script-src", page="/invite/token/") -> tuple[str, str]:
    """As `report-to` sends it, beside one of another kind."""
    body = {
        "effectiveDirective": directive,
        "blockedURL": "https://evil.example/x?y",
        "documentURL": f"http://testserver{page}",
        "sample": "private",
    }
    return json.dumps(
        [{"type": "deprecation", "body": {}}, {"type": "csp-violation", "body": body}]
    ), "application/reports+json"


def test_policy_reports_are_logged_once_without_content(client, caplog, valkey):
    with caplog.at_level(logging.WARNING, logger="apps.portal.machines"):
        for body, kind in (
            old(),
            old(page="/verify/other/"),
            old(directive="img-src"),
            new(),
            new(page="/invite/second/"),
            new(page="/nowhere/"),
        ):
            assert client.post("/csp/", body, content_type=kind).status_code == 204
    told = [(vars(each)["directive"], vars(each)["page"], vars(each)["blocked"]) for each in caplog.records]
    assert told == [
        ("script-src", "^verify/(?P<key>[-:\\w]+)/$", "inline"),
        ("img-src", "^verify/(?P<key>[-:\\w]+)/$", "inline"),
        ("script-src", "invite/<str:token>/", "https://evil.example/x"),
        ("script-src", "no page of ours", "https://evil.example/x"),
    ]
    assert not any(
        word in str(vars(each)) for each in caplog.records for word in ("abc", "secret", "token/x", "private")
    )


def test_reports_are_few_whoever_sends_them(client, caplog, valkey):
    with caplog.at_level(logging.WARNING, logger="apps.portal.machines"):
        for number in range(70):
            body, kind = old(directive=f"made-up-{number}")
            client.post("/csp/", body, content_type=kind)
    assert len(caplog.records) == 60


def test_pages_say_where_reports_go(client, db):
    answer = client.get("/login/")
    assert answer.headers["Reporting-Endpoints"] == 'csp="/csp/"'
    policy = answer.headers["Content-Security-Policy"]
    assert "report-to csp" in policy
    assert "report-uri /csp/" in policy


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"csp-report": []}', b"x" * 20_000])
def test_broken_reports_are_ignored(client, body):
    assert client.post("/csp/", body, content_type="application/csp-report").status_code == 204
    assert client.get("/csp/").status_code == 405


def test_not_ready_before_migrations(client, db, monkeypatch):
    monkeypatch.setattr(machines, "_known", lambda: frozenset({("portal", "9999_not_yet")}))
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["migrations"] == "1 to apply"
