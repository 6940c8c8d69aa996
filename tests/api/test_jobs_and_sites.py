"""Finding jobs, sending one once more, and where work can run."""

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from PIL import Image

from apps.core.ids import public
from apps.files.models import File
from apps.jobs.models import Job
from apps.ledger.models import Hold, Transfer
from apps.sites.models import Drain
from tests import make
from tests.api.conftest import KeyClient
from tests.threads import run_in_threads

CHAT = {"model": "acme/chat", "input": {"messages": [{"role": "user", "content": "Hello"}], "temperature": 0.5}}


def post(client, data, path="/api/v1/jobs"):
    return client.post(path, json.dumps(data), content_type="application/json")


def ids(response) -> list[str]:
    assert response.status_code == 200, response.content
    return [job["id"] for job in response.json()["data"]]


def test_jobs_are_found_by_state_key_and_beginning(shop):
    other, _ = make.api_key(shop.organization)
    waiting = make.job(organization=shop.organization, model=shop.chat, api_key=shop.key)
    ended = make.job(organization=shop.organization, model=shop.chat, state="succeeded", api_key=other)
    stranger = make.organization()
    make.job(organization=stranger, model=shop.chat)
    get = shop.client.get
    assert ids(get("/api/v1/jobs?state=open")) == [waiting.public_id]
    assert ids(get(f"/api/v1/jobs?key={public('key', other.pk)}")) == [ended.public_id]
    assert ids(get(f"/api/v1/jobs?search={ended.public_id.lower()}")) == [ended.public_id]
    assert ids(get(f"/api/v1/jobs?search={ended.public_id[:10]}")) == [ended.public_id, waiting.public_id]
    assert ids(get("/api/v1/jobs?search=nobody!")) == []
    refused = get("/api/v1/jobs?key=nobody")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "key")


def test_jobs_are_found_by_metadata(shop):
    def job(organization=shop.organization, **metadata):
        return make.job(organization=organization, model=shop.chat, api_key=shop.key, metadata=metadata)

    plain, first = job(), job(order="4711", shop="Bonn")
    second = job(order="4711", shop="Köln & Söhne", empty="", **{"a.b c": " x "})
    job(make.organization(), order="4711")
    get = shop.client.get
    assert ids(get("/api/v1/jobs?metadata[order]=4711")) == [second.public_id, first.public_id]
    assert ids(get("/api/v1/jobs?metadata[order]=4711&metadata%5Bshop%5D=Bonn")) == [first.public_id]
    assert ids(get("/api/v1/jobs", {"metadata[shop]": "Köln & Söhne", "metadata[a.b c]": " x "})) == [second.public_id]
    assert ids(get("/api/v1/jobs?metadata[empty]=")) == [second.public_id]
    assert ids(get("/api/v1/jobs?metadata[order]=4712")) == ids(get("/api/v1/jobs?metadata[order]=47")) == []
    assert ids(get(f"/api/v1/jobs?metadata[order]=4711&search={first.public_id}&state=open")) == [first.public_id]
    assert ids(get(f"/api/v1/jobs?metadata[order]=4711&search={plain.public_id}")) == []
    page = get("/api/v1/jobs?metadata[order]=4711&limit=1").json()
    assert (page["data"][0]["metadata"]["order"], page["has_more"]) == ("4711", True)
    assert ids(get(f"/api/v1/jobs?metadata[order]=4711&after={page['data'][0]['id']}")) == [first.public_id]
    many = "&".join(f"metadata[{n}]=x" for n in range(17))
    for query in ("metadata=x", many, "metadata[]=x", f"metadata[{'n' * 65}]=x", "metadata[a]b=x", "metadata[a]=%00"):
        assert get(f"/api/v1/jobs?{query}").json()["error"]["param"].startswith("metadata")


MANY = """
INSERT INTO jobs_job SELECT (jsonb_populate_record(j, jsonb_build_object(
    'id', gen_random_uuid(), 'metadata', jsonb_build_object('order', n::text, 'shop', 'Bonn')
))).* FROM jobs_job j, generate_series(1, 20000) n
"""


@pytest.mark.story
def test_a_search_by_metadata_reads_an_index(shop):
    """What is rare is found by its words, what is common by going back in time."""
    make.job(organization=shop.organization, model=shop.chat)
    with connection.cursor() as cursor:
        cursor.execute(MANY)
        cursor.execute("ANALYZE jobs_job")
    jobs = Job.objects.of(shop.organization).order_by("-id")
    assert "jobs_job_metadata" in jobs.described({"order": "4711"})[:21].explain()
    assert "jobs_job_history" in jobs.described({"shop": "Bonn"})[:21].explain()
    client, all_ids = KeyClient(shop.secret), [job.public_id for job in jobs[:2001]]
    (old,) = client.get("/api/v1/jobs?metadata[order]=4711").json()["data"]
    assert old["metadata"] == {"order": "4711", "shop": "Bonn"}
    page = client.get("/api/v1/jobs?metadata[shop]=Bonn&limit=5").json()
    assert ([job["id"] for job in page["data"]], page["has_more"]) == (all_ids[:5], True)
    later = client.get(f"/api/v1/jobs?metadata[shop]=Bonn&limit=5&after={all_ids[1000]}").json()
    assert [job["id"] for job in later["data"]] == all_ids[1001:1006]
    assert client.get("/api/v1/jobs?metadata[shop]=Bonn&state=failed").json()["data"] == []


def ask_with(shop, key, picture=None, **fields):
    client = KeyClient(shop.secret)
    headers = {"idempotency-key": key}
    if picture is None:
        return client.post("/api/v1/jobs", json.dumps({**CHAT, **fields}), "application/json", headers=headers)
    file = SimpleUploadedFile("page.png", picture, "image/png")
    return client.post("/api/v1/jobs", {"model": "acme/ocr", "file": file, **fields}, headers=headers)


def left(settings) -> list[int]:
    rows = [model.objects.count() for model in (Job, Hold, Transfer, File)]
    return [*rows, sum(path.is_file() for path in Path(settings.MEDIA_ROOT).rglob("*"))]


@pytest.mark.parametrize("form", [False, True])
def test_a_job_sent_twice_is_one_job(shop, picture, settings, form):
    sent = picture if form else None
    first = ask_with(shop, "one", sent)
    assert (first.status_code, "idempotent-replayed" in first) == (202, False)
    before = left(settings)
    again = ask_with(shop, "one", sent)  # of a form: with another boundary
    assert (again.status_code, again["idempotent-replayed"]) == (202, "true")
    assert (again.json()["id"], again["location"]) == (first.json()["id"], first["location"])
    assert (again.json()["file"] is None) is not form
    assert again.json()["file"] == first.json()["file"]
    others = [ask_with(shop, "one", sent, deadline_seconds=60)]
    if form:
        others += [ask_with(shop, "one", b"%PDF-nothing"), ask_with(shop, "one", other_picture())]
    for other, (status, code) in zip(others, [REUSED, (400, "invalid_file"), REUSED], strict=False):
        assert (other.status_code, other.json()["error"]["code"]) == (status, code)
    assert left(settings) == before
    assert ask_with(shop, "two", sent).json()["id"] != first.json()["id"]


REUSED = (409, "idempotency_key_reused")


def other_picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "black").save(out, "PNG")
    return out.getvalue()


@pytest.mark.story
@pytest.mark.parametrize("form", [False, True])
def test_a_job_sent_many_times_at_once_is_one_job(shop, picture, settings, form):
    answers = run_in_threads(8, lambda _: ask_with(shop, "one", picture if form else None))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer for answer in answers) == 1
    reserved = Transfer.objects.filter(key__startswith="reserve:").count()
    assert (Job.objects.count(), Hold.objects.count(), reserved) == (1, 1, 1)
    assert left(settings)[3:] == ([1, 1] if form else [0, 0])


def test_the_same_work_once_more_is_a_job_of_its_own(shop):
    first = post(shop.client, CHAT).json()
    again = post(shop.client, {}, f"/api/v1/jobs/{first['id']}/retry")
    assert again.status_code == 202, again.content
    made = again.json()
    assert again["location"] == f"/api/v1/jobs/{made['id']}"
    assert made["id"] != first["id"]
    assert made["hold_microusd"] == first["hold_microusd"]
    newest, oldest = Job.objects.order_by("-pk")
    assert newest.content.request == oldest.content.request
    assert newest.api_key_id == shop.key.pk
    assert Hold.objects.count() == 2


def test_what_is_not_kept_is_not_sent_again(shop, picture):
    job = make.job(organization=shop.organization, model=shop.chat, state="failed")
    for path in (f"/api/v1/jobs/{job.public_id}/retry",):
        refused = post(shop.client, {}, path)
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "job_not_repeatable")
        assert refused["x-should-retry"] == "false"
    read = shop.client.post("/api/v1/jobs", {"model": "acme/ocr", "file": SimpleUploadedFile("scan.png", picture)})
    File.objects.all().delete()
    refused = post(shop.client, {}, f"/api/v1/jobs/{read.json()['id']}/retry")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "job_not_repeatable")
    assert (Job.objects.count(), Hold.objects.count()) == (2, 1)


def test_another_organizations_job_is_not_found_and_no_credit_keeps_nothing(shop):
    job = make.job(
        organization=shop.organization,
        model=shop.chat,
        state="succeeded",
        request={"messages": [{"role": "user", "content": "x"}]},
    )
    _, secret = make.api_key(make.organization(credit_microusd=1_000_000))
    missing = post(KeyClient(secret), {}, f"/api/v1/jobs/{job.public_id}/retry")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "job_not_found")
    poor = make.organization()
    theirs = make.job(
        organization=poor, model=shop.chat, state="succeeded", request={"messages": [{"role": "user", "content": "x"}]}
    )
    refused = post(KeyClient(make.api_key(poor)[1]), {}, f"/api/v1/jobs/{theirs.public_id}/retry")
    assert refused.status_code == 402
    assert (Job.objects.count(), Hold.objects.count()) == (2, 0)


def test_sites_say_what_they_offer_and_what_takes_work_now(shop):
    site = make.site(code="oman-1", name="Oman 1", region="Muscat", country="OM")
    node = make.node(site=site)
    make.pool(model=shop.chat, node=node, slots=3)
    make.pool(
        model=shop.chat, node=make.node(site=site, heartbeat_at=datetime.now(UTC) - timedelta(minutes=1)), slots=2
    )
    make.pool(model=shop.embeddings, node=node, draining=True)
    make.pool(model=make.model(name="acme/hidden", listed=False), node=node)
    make.site(code="empty-1")
    body = shop.client.get("/api/v1/sites").json()
    assert [each["code"] for each in body["data"]] == ["oman-1"]
    (found,) = body["data"]
    assert (found["name"], found["region"], found["country"], found["grid_gco2e_per_kwh"]) == (
        "Oman 1",
        "Muscat",
        "OM",
        380.0,
    )
    assert found["models"] == [
        {"model": "acme/chat", "slots": 5, "ready": True},
        {"model": "acme/vectors", "slots": 4, "ready": False},
    ]
    assert "power_usd_per_mwh" not in found
    assert found["maintenance"] == []


def test_sites_say_which_maintenance_was_announced(shop):
    node = make.node(site=make.site(code="oman-1"))
    make.pool(model=shop.chat, node=node)
    now = datetime(2030, 5, 1, 8, tzinfo=UTC)

    def drain(starts_at: datetime, **fields):
        at = {"starts_at": starts_at, "deadline_at": starts_at, "announced_at": now, **fields}
        Drain.objects.create(node=node, purpose="maintenance", reason="Secret", actor=None, **at)

    drain(now + timedelta(days=3), ends_at=now + timedelta(days=4))
    drain(now + timedelta(days=2))
    drain(now + timedelta(days=1), ended_at=now)
    drain(now + timedelta(days=1), announced_at=None)
    (found,) = shop.client.get("/api/v1/sites").json()["data"]
    assert found["maintenance"] == [
        {"starts_at": "2030-05-03T08:00:00Z", "ends_at": None},
        {"starts_at": "2030-05-04T08:00:00Z", "ends_at": "2030-05-05T08:00:00Z"},
    ]
