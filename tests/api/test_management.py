import json
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from apps.dispatch.models import Order
from apps.files.models import File
from apps.jobs.models import Content, Job, Refusal
from apps.keys import services as keys
from apps.ledger import services as ledger
from apps.ledger.models import Hold, Transfer
from tests import make
from tests.api.conftest import KeyClient
from tests.files.test_services import pdf

CHAT = {"model": "acme/chat", "input": {"messages": [{"role": "user", "content": "Hello"}]}}


def error(response, status: int = 400) -> tuple[str | None, str | None]:
    assert response.status_code == status, response.content
    assert response["content-type"] == "application/json"
    (body,) = response.json().values()
    assert set(body) == {"message", "type", "param", "code"}
    return body["code"], body["param"]


def post(client, data, path="/api/v1/jobs", **extra):
    return client.post(
        path, data if isinstance(data, bytes | str) else json.dumps(data), content_type="application/json", **extra
    )


def written(settings) -> list[int]:
    rows = [model.objects.count() for model in (Job, Hold, Transfer, File, Order)]
    return [*rows, sum(path.is_file() for path in Path(settings.MEDIA_ROOT).rglob("*"))]


def test_organization_balance_and_models(shop):
    body = shop.client.get("/api/v1/organization").json()
    assert (body["id"], body["name"], body["object"]) == (shop.organization.public_id, "Meridian Foods", "organization")
    assert shop.client.get("/api/v1/balance").json() == {
        "object": "balance",
        "credit_microusd": 1_000_000,
        "promotional_microusd": 0,
        "held_microusd": 0,
        "receivable_microusd": 0,
        "available_microusd": 1_000_000,
    }
    assert [model["id"] for model in shop.client.get("/api/v1/models").json()["data"]] == [
        "acme/chat",
        "acme/ocr",
        "acme/vectors",
    ]


def test_a_chat_job_waits_holds_and_is_cancelled(shop):
    response = post(shop.client, CHAT)
    assert response.status_code == 202, response.content
    job = Job.objects.get()
    body = response.json()
    assert response["location"] == f"/api/v1/jobs/{job.public_id}"
    assert (body["id"], body["state"], body["hold_microusd"]) == (job.public_id, "queued", job.hold_microusd)
    assert job.hold_microusd > 0
    assert (job.interactive, job.streaming, job.api_key_id, job.user_id) == (False, False, shop.key.pk, None)
    assert job.deadline_at - job.created_at == timedelta(hours=24)
    assert shop.client.get("/api/v1/balance").json()["held_microusd"] == job.hold_microusd

    body = post(shop.client, {}, f"/api/v1/jobs/{job.public_id}/cancel").json()
    assert (body["state"], body["charge_microusd"]) == ("cancelled", 0)
    assert [event["state"] for event in body["events"]] == ["queued", "cancelled"]
    again = post(shop.client, {}, f"/api/v1/jobs/{job.public_id}/cancel")
    assert (again.status_code, again.json()["state"]) == (200, "cancelled")
    assert ledger.balance(shop.organization.pk).available_microusd == 1_000_000


def test_an_embeddings_job(shop):
    response = post(shop.client, {"model": "acme/vectors", "input": {"input": ["cat", "dog"]}, "deadline_seconds": 60})
    assert response.status_code == 202, response.content
    job = Job.objects.get()
    assert job.deadline_at - job.created_at == timedelta(seconds=60)
    assert job.content.request == {"input": ["cat", "dog"]}


def test_a_file_is_read_by_the_page(shop, picture):
    response = shop.client.post("/api/v1/jobs", {"model": "acme/ocr", "file": SimpleUploadedFile("scan.png", picture)})
    assert response.status_code == 202, response.content
    job, file = Job.objects.get(), File.objects.get()
    assert (job.file, job.total_pages, job.hold_microusd) == (file, 1, 1000)
    assert response.json()["file"] == file.public_id
    response = shop.client.post("/api/v1/jobs", {"model": "acme/ocr", "file": SimpleUploadedFile("a.pdf", pdf(2))})
    assert response.json()["usage"]["total_pages"] == 2
    assert response.json()["hold_microusd"] == 2000


@pytest.mark.parametrize(
    ("model", "content", "code", "param"),
    [
        ("acme/ocr", b"hello", "invalid_file", "file"),
        ("acme/ocr", b"", "invalid_file", "file"),
        ("acme/ocr", pdf(3), "too_many_pages", "file"),
        ("acme/chat", None, "wrong_model_kind", "model"),
        ("acme/none", None, "model_not_found", "model"),
        ("", None, "missing_required_parameter", "model"),
    ],
)
def test_a_refused_file_is_kept_nowhere(shop, settings, picture, model, content, code, param):
    before = written(settings)
    upload = SimpleUploadedFile("scan.png", picture if content is None else content)
    response = shop.client.post("/api/v1/jobs", {"model": model, "file": upload})
    assert error(response, 404 if code == "model_not_found" else 400) == (code, param)
    assert written(settings) == before


def test_no_credit_keeps_a_refusal_and_no_file(shop, settings, picture):
    poor = make.organization()
    client = KeyClient(make.api_key(poor)[1])
    before = written(settings)
    response = client.post("/api/v1/jobs", {"model": "acme/ocr", "file": SimpleUploadedFile("scan.png", picture)})
    assert error(response, 402) == ("insufficient_credit", None)
    assert response["x-should-retry"] == "false"
    assert error(post(client, CHAT), 402)[0] == "insufficient_credit"
    assert written(settings) == before
    assert Refusal.objects.filter(organization=poor).count() == 2


def test_bad_requests_are_named_and_leave_nothing(shop, settings):
    before = written(settings)
    for data, code, param in [
        (b"", "missing_required_parameter", "model"),
        (b"[]", "invalid_json", None),
        (b'{"model": NaN}', "invalid_json", None),
        (b'{"model": "\\ud800"}', "invalid_json", None),
        (b"{" * 100_000, "invalid_json", None),
        (b'{"input":' * 500 + b"1" + b"}" * 500, "invalid_json", None),
        ({}, "missing_required_parameter", "model"),
        ({"model": 1}, "invalid_type", "model"),
        ({"model": "acme/chat"}, "invalid_type", "input"),
        ({"model": "acme/chat", "input": "hi"}, "invalid_type", "input"),
        ({**CHAT, "metadata": {}}, "unknown_parameter", "metadata"),
        ({**CHAT, "deadline_seconds": 0}, "invalid_value", "deadline_seconds"),
        ({**CHAT, "deadline_seconds": 10**9}, "invalid_value", "deadline_seconds"),
        ({**CHAT, "deadline_seconds": "x"}, "invalid_type", "deadline_seconds"),
        ({**CHAT, "deadline_seconds": True}, "invalid_type", "deadline_seconds"),
        ({"model": "acme/chat", "input": {"messages": []}}, "invalid_value", "messages"),
        ({"model": "acme/chat", "input": {**CHAT["input"], "stream": True}}, "invalid_value", "stream"),
        ({"model": "acme/chat", "input": {"messages": [{"role": "user", "content": "a\0"}]}}, "invalid_value", "input"),
        ({"model": "acme/vectors", "input": {"input": ""}}, "empty", "input"),
        ({"model": "acme/ocr", "input": {}}, "missing_required_parameter", "file"),
    ]:
        assert error(post(shop.client, data)) == (code, param), data
    assert error(shop.client.post("/api/v1/jobs", "x", content_type="text/plain"), 415)[0] == "unsupported_media_type"
    assert (
        error(shop.client.post("/api/v1/jobs", "x", content_type="multipart/form-data; boundary=x"))[0]
        == "missing_required_parameter"
    )
    assert written(settings) == before


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=12,
)


@pytest.mark.story
@limits(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(), parameters=st.dictionaries(st.text(), VALUES), other=VALUES)
def test_whatever_is_accepted_can_be_stored(shop, text, parameters, other):
    request = {
        "messages": [{"role": "user", "content": "x" + text}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": parameters}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"x": other}}},
    }
    response = post(shop.client, {"model": "acme/chat", "input": request, "deadline_seconds": 60})
    assert response.status_code in {202, 400, 402}, response.content
    if response.status_code == 202:
        job = Job.objects.order_by("-id")[0]
        assert job.content.request["messages"] == request["messages"]
        assert post(shop.client, {}, f"/api/v1/jobs/{job.public_id}/cancel").status_code == 200


def test_too_large_is_refused_before_it_is_read(shop, settings, picture):
    settings.MAX_FILE_BYTES = settings.MAX_BODY_BYTES = 1000
    data = {"model": "acme/ocr", "file": SimpleUploadedFile("a.png", picture + bytes(70_000))}
    assert error(shop.client.post("/api/v1/jobs", data), 413)[0] == "request_too_large"
    assert error(post(shop.client, b" " * 2000), 413)[0] == "request_too_large"


def test_who_may_call(shop):
    paths = [
        "organization",
        "balance",
        "models",
        "jobs",
        f"jobs/{make.job(organization=shop.organization, model=shop.chat).public_id}",
    ]
    nobody = Client(raise_request_exception=False)
    for path in paths:
        assert error(nobody.get(f"/api/v1/{path}"), 401)[0] == "invalid_api_key"
        assert error(KeyClient("cango_wrong").get(f"/api/v1/{path}"), 401)[0] == "invalid_api_key"
        assert shop.client.get(f"/api/v1/{path}").status_code == 200
    keys.revoke(key=shop.key, user=None)
    for path in paths:
        assert error(shop.client.get(f"/api/v1/{path}"), 401)[0] == "invalid_api_key"


def test_a_member_may_call_with_a_session(shop):
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.force_login(shop.owner)
    assert client.get("/api/v1/organization").json()["id"] == shop.organization.public_id
    assert error(post(client, CHAT), 403)[0] == "permission_denied"  # no CSRF token
    client = Client(raise_request_exception=False)
    client.force_login(shop.owner)
    assert post(client, CHAT).status_code == 202
    assert (Job.objects.get().user, Job.objects.get().api_key) == (shop.owner, None)


def test_a_person_without_an_organization_is_told_so(shop):
    client = Client(raise_request_exception=False)
    client.force_login(make.user())
    assert error(client.get("/api/v1/jobs"), 403)[0] == "permission_denied"


def test_others_jobs_are_not_found(shop):
    other = make.job(organization=make.organization(), model=shop.chat)
    for public_id in (other.public_id, "job_00000000000000000000000000", "job_x", "x", str(other.pk), "job_%00"):
        assert error(shop.client.get(f"/api/v1/jobs/{public_id}"), 404)[0] in {"job_not_found", "unknown_url"}
        assert error(post(shop.client, {}, f"/api/v1/jobs/{public_id}/cancel"), 404)[0] in {
            "job_not_found",
            "unknown_url",
        }
    other.refresh_from_db()
    assert other.state == "queued"
    assert shop.client.get("/api/v1/jobs").json()["data"] == []


def test_the_list_is_paged_by_key_and_filtered(shop):
    now = timezone.now()
    jobs = [
        make.job(organization=shop.organization, model=shop.chat, created_at=now - timedelta(minutes=n))
        for n in range(5)
    ]
    newest_first = [job.public_id for job in reversed(jobs)]
    first = shop.client.get("/api/v1/jobs?limit=2").json()
    assert ([job["id"] for job in first["data"]], first["has_more"]) == (newest_first[:2], True)
    second = shop.client.get(f"/api/v1/jobs?limit=3&after={first['data'][-1]['id']}").json()
    assert ([job["id"] for job in second["data"]], second["has_more"]) == (newest_first[2:], False)

    done = make.job(organization=shop.organization, model=shop.ocr, state="succeeded")
    for query in ("state=succeeded", "kind=ocr", "model=acme/ocr"):
        assert [job["id"] for job in shop.client.get(f"/api/v1/jobs?{query}").json()["data"]] == [done.public_id]
    since = (now - timedelta(seconds=90)).isoformat().replace("+", "%2B")
    assert len(shop.client.get(f"/api/v1/jobs?since={since}&kind=chat").json()["data"]) == 2
    for query, param in [
        ("state=x", "state"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("after=x", "after"),
        ("since=x", "since"),
        ("page=2", "page"),
        ("model=%00", "model"),
    ]:
        assert error(shop.client.get(f"/api/v1/jobs?{query}"))[1] == param


def test_the_list_costs_few_queries(shop, django_assert_max_num_queries):
    pool = make.pool(model=shop.chat)
    for _ in range(10):
        make.job(organization=shop.organization, model=shop.chat, state="running", pool=pool)
    with django_assert_max_num_queries(6):
        shop.client.get("/api/v1/jobs")


def test_a_finished_job_tells_all(shop):
    pool = make.pool(model=shop.chat)
    job = make.job(
        organization=shop.organization,
        model=shop.chat,
        state="succeeded",
        text="Hello",
        pool=pool,
        prompt_tokens=5,
        completion_tokens=2,
        charge_microusd=2,
        energy_wh=1.5,
        energy_quality="modelled",
        carbon_gco2e=0.57,
        finish_reason="stop",
    )
    body = shop.client.get(f"/api/v1/jobs/{job.public_id}").json()
    assert body["text"] == "Hello"
    assert body["usage"]["total_tokens"] == 7
    assert (
        body["charge_microusd"],
        body["energy_wh"],
        body["energy_quality"],
        body["energy_measured"],
        body["carbon_gco2e"],
    ) == (2, 1.5, "modelled", False, 0.57)
    assert body["site"]["name"] == pool.node.site.name
    assert body["events"][0]["state"] == "succeeded"
    assert body["error"] is None
    Content.objects.all().delete()  # what was said may be deleted; the record stays
    assert shop.client.get(f"/api/v1/jobs/{job.public_id}").json()["text"] is None


def test_text_is_not_shown_before_the_end(shop):
    job = make.job(organization=shop.organization, model=shop.chat, state="running", text="half")
    assert shop.client.get(f"/api/v1/jobs/{job.public_id}").json()["text"] is None


def test_unknown_urls_and_methods_are_json(shop):
    assert error(shop.client.get("/api/v1/nothing"), 404)[0] == "unknown_url"
    assert error(shop.client.get("/api/v1"), 404)[0] == "unknown_url"
    response = shop.client.delete("/api/v1/jobs")
    assert error(response, 405)[0] == "method_not_allowed"
    assert "POST" in response["allow"]


def test_a_bug_says_its_number_and_nothing_else(shop, monkeypatch):
    def broken(*_args, **_kwargs):
        raise RuntimeError("secret detail")

    monkeypatch.setattr("apps.ledger.services.balance", broken)
    response = shop.client.get("/api/v1/balance")
    assert error(response, 500)[0] == "server_error"
    assert b"secret detail" not in response.content
    assert b"req_" in response.content
