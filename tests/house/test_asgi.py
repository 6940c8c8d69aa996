"""The outermost layer: which application answers, and what never reaches one."""

import asyncio
import json
import logging
import re

import httpx
import pytest
from django.test import Client
from django.utils import translation

from apps.core import asgi
from cango_portal.asgi import FORM_BYTES, application
from tests import make
from tests.house.style import inline

WORDS = "The file is larger than 20 MiB. Nothing was started or charged. Go back and choose a smaller one."


def call(method: str, path: str, **fields):
    async def one():
        transport = httpx.ASGITransport(application, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **fields)

    return asyncio.run(one())


def too_large(settings, path, **headers):
    size = str(settings.MAX_FILE_BYTES + FORM_BYTES + 1)
    return call("POST", path, headers={"content-length": size, **headers}, content=b"")


def test_a_body_that_says_it_is_too_large_is_refused_with_a_page(settings):
    answer = too_large(settings, "/playground/", referer="http://localhost/playground/?a=b")
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert WORDS in answer.text
    assert 'href="/playground/?a=b"' in answer.text
    assert inline(answer.text) == []
    assert call("POST", "/login/", headers={"content-length": "x"}, content=b"").status_code == 413


def test_the_refusal_is_in_the_readers_language_whatever_the_thread_said_last(settings):
    with translation.override("zh-hans"):
        assert WORDS in too_large(settings, "/playground/").text
    assert '<html lang="zh-hans">' in too_large(settings, "/playground/", **{"accept-language": "zh-CN"}).text
    assert '<html lang="zh-hans">' in too_large(settings, "/playground/", cookie="language=zh-hans").text


@pytest.mark.parametrize("referer", ["http://evil.example/models/acme/ocr/", "http://localhost//evil.example", "x", ""])
def test_the_way_back_stays_here(settings, referer):
    assert '<a class="btn" href="/models/">Go back</a>' in too_large(settings, "/login/", referer=referer).text


@pytest.mark.django_db(transaction=True)
def test_a_batch_may_be_as_large_as_the_api_takes_it_from_whoever_is_signed_in(settings):
    settings.MAX_BATCH_FILE_BYTES = settings.MAX_FILE_BYTES + 5 * 1024 * 1024
    user, client = make.user(), Client()
    client.force_login(user, "allauth.account.auth_backends.AuthenticationBackend")
    signed_in = f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"
    csrf = "x" * 32  # none of ours: Django refuses what it has read
    form = {
        "data": {"csrfmiddlewaretoken": csrf},
        "files": {"file": ("rows.jsonl", bytes(settings.MAX_FILE_BYTES + 2**21))},
    }
    assert call("POST", "/batches/new/", headers={"cookie": signed_in}, **form).status_code == 403
    assert "larger than 20 MiB" in call("POST", "/batches/new/", **form).text
    assert "larger than 20 MiB" in call("POST", "/batches/new/", headers={"cookie": "sessionid=0"}, **form).text
    assert "larger than 20 MiB" in call("POST", "/models/", headers={"cookie": signed_in}, **form).text
    size = str(settings.MAX_BATCH_FILE_BYTES + FORM_BYTES + 1)
    over = call("POST", "/batches/new/", headers={"content-length": size, "cookie": signed_in}, content=b"")
    assert (over.status_code, "larger than 25 MiB" in over.text) == (413, True)


def test_the_api_keeps_to_the_official_shape(settings):
    answer = too_large(settings, "/api/v1/jobs")
    assert answer.status_code == 413
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("request_too_large", "file")
    assert "20 MiB" in error["message"]


def test_a_body_that_does_not_say_its_length_stops_at_the_limit_and_gets_the_answer(settings, monkeypatch):
    settings.MAX_FILE_BYTES = 0
    monkeypatch.setattr(asgi, "DISCARD_BYTES", FORM_BYTES)
    sent = 0

    async def endless():
        nonlocal sent
        while sent < 100 * FORM_BYTES:
            sent += 65536
            yield b"x" * 65536

    answer = call("POST", "/models/", content=endless())
    assert (answer.status_code, "larger than 0 MiB" in answer.text) == (413, True)
    assert sent <= 2 * FORM_BYTES + 3 * 65536


@pytest.mark.django_db(transaction=True)
def test_every_answer_has_its_number_and_a_mistake_quotes_it(monkeypatch, caplog):
    from apps.scheduling.offered import ModelsView

    def mistake(*_):
        raise RuntimeError("oops")

    answer = call("GET", "/api/v1/nothing")
    assert re.fullmatch("req_[0-9a-f]{32}", answer.headers["x-request-id"])
    monkeypatch.setattr(ModelsView, "initial", mistake)
    with caplog.at_level(logging.ERROR):
        answer = call("GET", "/api/v1/models")
    number = answer.headers["x-request-id"]
    assert (answer.status_code, number in answer.json()["error"]["message"]) == (500, True)
    assert [record.request for record in caplog.records if record.message == "request failed"] == [number]


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/v1/models"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_bare_base_url_says_what_it_is(settings, method, path):
    answer = call(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")
    assert f"The base URL is {settings.BASE_URL}/v1;" in answer.json()["error"]["message"]
    assert answer.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/v1/models", "GET, HEAD"),
        ("DELETE", "/v1/models/acme/chat", "GET, HEAD"),
        ("PUT", "/v1/chat/completions", "GET, HEAD, POST"),
        ("GET", "/v1/embeddings", "POST"),
        ("GET", "/agent/v1/reports", "POST"),
        ("POST", "/agent/v1/files/x", "GET, HEAD"),
    ],
)
def test_a_method_that_is_not_allowed_names_those_that_are(method, path, allow):
    answer = call(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/models"), ("POST", "/agent/v1/heartbeat")])
def test_who_is_not_known_is_told_the_scheme(method, path):
    answer = call(method, path)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_head_has_no_body():
    got, headed = call("GET", "/v1/models"), call("HEAD", "/v1/models")
    assert (headed.status_code, headed.content) == (401, b"")
    assert headed.headers["content-length"] == str(len(got.content))
    assert json.loads(got.content)["error"]["code"] == "invalid_api_key"
