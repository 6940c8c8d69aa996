"""A batch from its page: the file looked at, its bad lines and its price shown, and sent when somebody says so."""

import html
import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from asgiref.sync import sync_to_async
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from apps.accounts.models import Membership
from apps.batches import checking, tasks, trying
from apps.batches.models import Batch, Draft
from apps.core.numbers import money_small as money
from apps.files.models import File
from apps.ledger import services as ledger
from apps.ledger.models import Hold
from apps.live.topics import Viewer, resolve
from cango_portal import database
from tests import make
from tests.batches.test_pages import BACKEND, client, owner, text  # noqa: F401  (fixtures)
from tests.batches.works import CHAT, deliver, finished, some

pytestmark = pytest.mark.story


def jsonl(lines) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def send(client, content: bytes, **fields):  # noqa: F811
    return client.post("/batches/new/", {"file": SimpleUploadedFile("rows.jsonl", content), "endpoint": CHAT, **fields})


def looked_at(client, content: bytes, **fields) -> tuple[Draft, str]:  # noqa: F811
    """A draft that was checked, and the path of its page."""
    answer = send(client, content, **fields)
    assert answer.status_code == 302
    draft = Draft.objects.latest("pk")
    assert answer.headers["location"] == f"/batches/{draft.public_id}/check/"
    trying.check(draft.pk)
    draft.refresh_from_db()
    return draft, answer.headers["location"]


def test_a_good_file_shows_its_worst_case_and_is_sent_once(works, client, owner):  # noqa: F811
    assert 'href="/batches/new/"' in client.get("/batches/").content.decode()
    assert "Nothing is held or started before you say so." in text(client.get("/batches/new/"))
    answer = send(client, jsonl(works.lines(3)), name="Capitals", max_power_usd_per_mwh="40")
    path = answer.headers["location"]
    waiting = client.get(path)
    assert "0 lines so far" in text(waiting)
    assert '<noscript><meta http-equiv="refresh" content="3"></noscript>' in waiting.content.decode()
    assert client.post(path, {"rows": "all"}).status_code == 422  # not before its check
    draft = Draft.objects.get()
    trying.check(draft.pk)
    trying.check(draft.pk)  # the broker may say so twice
    draft.refresh_from_db()
    assert (draft.state, draft.good, draft.bad, draft.bad_lines, draft.output_tokens) == ("checked", 3, 0, [], 60)
    shown = text(client.get(path))
    for words in (
        "at most, for 3 rows",
        "50% of each price",
        f"rest returns {money(draft.hold_microusd)}",
        "Free of your balance $1.00",
        "$40.00 per MWh",
        "Start 3 rows",
    ):
        assert words in shown, words
    assert not Batch.objects.exists()
    assert client.post(path, {"rows": "good"}).status_code == 422  # there is nothing to leave out
    assert client.post(path, {"rows": "all"}).headers["location"] == f"/batches/{draft.public_id}/"
    assert client.post(path, {"rows": "all"}).headers["location"] == f"/batches/{draft.public_id}/"
    batch = Batch.objects.get()
    assert (batch.pk, batch.user, batch.api_key, batch.metadata) == (draft.pk, owner, None, {"name": "Capitals"})
    assert (batch.max_power_usd_per_mwh, Draft.objects.count(), File.objects.count()) == (40.0, 0, 1)
    checking.check(batch.pk)
    batch.refresh_from_db()
    assert (batch.state, batch.hold_microusd, batch.input_tokens_ceiling) == (
        "in_progress",
        draft.hold_microusd,  # what was shown is what is held
        draft.input_tokens,
    )


def test_cost_and_time_are_expected_by_earlier_batches_like_it(works, client):  # noqa: F811
    draft, path = looked_at(client, jsonl(works.lines(3)))
    assert "Expected known after your first batch with this model – At most" in text(client.get(path))
    assert "Takes" not in text(client.get(path))
    Draft.objects.update(hold_microusd=400_000, good=600)

    def earlier(held: int, charged: int, seconds: int, **fields) -> None:
        """One of 100 rows."""
        began = datetime.now(UTC) - timedelta(days=2)
        Batch.objects.create(
            **{
                "organization": works.organization, "endpoint": CHAT, "input_file_id": draft.input_file_id, "state": "completed", "model": draft.model,
                "price": draft.price, "total": 100, "completed": 100, "hold_microusd": held, "charge_microusd": charged, "created_at": began,
                "in_progress_at": began, "finalizing_at": began + timedelta(seconds=seconds), "completed_at": began + timedelta(seconds=seconds),
                "expires_at": began + timedelta(days=1), **fields,
            }
        )  # fmt: skip

    earlier(8000, 8000, 1, endpoint="/v1/completions")
    earlier(8000, 8000, 1, model=make.model())
    earlier(8000, 8000, 1, organization=make.organization(owner=make.user()))
    earlier(8000, 8000, 1, state="cancelled")
    earlier(8000, 2000, 50)
    shown = text(client.get(path))
    assert "Expected by your last batch with this model $0.1000 At most" in shown
    assert "Takes once it runs, as those did 5 min Ends" in shown
    earlier(8000, 4000, 5)
    shown = text(client.get(path))
    assert "Expected by your last 2 batches with this model $0.1000 to $0.2000 At most" in shown
    assert "Takes once it runs, as those did 30 s to 5 min Ends" in shown


def test_bad_lines_are_named_and_left_out(works, client):  # noqa: F811
    lines = works.lines(4)
    lines[1]["method"] = "GET"
    lines[3]["custom_id"] = "row-1"
    draft, path = looked_at(client, jsonl(lines[:3]) + b"\nnot json\n" + jsonl(lines[3:]))
    assert (draft.good, draft.bad, draft.bad_lines) == (2, 4, [2, 5, 6])
    assert [(error["line"], error["code"]) for error in draft.errors] == [
        (2, "invalid_value"),
        (4, "invalid_json_line"),
        (5, "invalid_json_line"),
        (6, "duplicate_custom_id"),
    ]
    shown = text(client.get(path))
    assert "4 errors in the file." in shown
    assert "Start 2 rows without 3 lines" in shown
    assert client.post(path, {"rows": "all"}).status_code == 422
    assert not Batch.objects.exists()
    client.post(path, {"rows": "good"})
    batch = Batch.objects.get()
    sent = works.read(batch.input_file_id)
    assert [line["custom_id"] for line in sent] == ["row-1", "row-3"]
    checking.check(batch.pk)
    batch.refresh_from_db()
    assert (batch.state, batch.total, batch.hold_microusd) == ("in_progress", 2, draft.hold_microusd)


def test_what_is_wrong_is_said_in_the_readers_language_and_stored_in_english(works, client, owner):  # noqa: F811
    lines = works.lines(5)
    lines[0]["method"] = "GET"
    lines[4]["custom_id"] = "row-2"
    lines[2]["body"]["max_tokens"] = 0
    lines[3]["body"]["model"] = "acme/unknown"
    owner.language = "zh-hans"
    owner.save()
    draft, path = looked_at(client, jsonl(lines))
    assert [error["message"] for error in draft.errors] == [
        "Invalid value for 'method': it should be 'POST'.",
        "Invalid value for 'max_tokens': it should be greater than or equal to 1.",
        f"A batch has one model, and an earlier line names '{works.model.name}'.",
        "The custom_id 'row-2' is used by an earlier line. Each must be its own.",
    ]
    shown = html.unescape(client.get(path).content.decode())
    assert re.findall(r'role="rowheader" class="wide">(.*?)<', shown) == [
        "'method' 的值无效：应为 'POST'。",
        "'max_tokens' 的值无效：应大于或等于 1。",
        f"一个批次只有一个模型，而前面的行指定了 '{works.model.name}'。",
        "custom_id 'row-2' 已被前面的行使用。每个 custom_id 必须唯一。",
    ]
    form = client.post("/batches/new/", {"file": SimpleUploadedFile("rows.jsonl", b""), "endpoint": CHAT})
    assert "文件为空" in form.content.decode()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"\n\n", "empty_file"),
        (b"nothing of it is JSON\n", "invalid_json_line"),
        (b"\xef\xbb\xbf", "invalid_json_line"),
    ],
)
def test_of_a_file_without_a_good_line_nothing_is_started(works, client, content, code):  # noqa: F811
    draft, path = looked_at(client, content)
    assert (draft.good, draft.errors[0]["code"]) == (0, code)
    page = client.get(path)
    assert "Start" not in text(page)
    assert client.post(path, {"rows": "good"}).status_code == 422
    assert not Batch.objects.exists()


def test_a_price_above_the_balance_is_said_before(works, client):  # noqa: F811
    draft, path = looked_at(client, jsonl(works.lines(2)))
    ledger.reserve(organization=works.organization, microusd=1_000_000 - draft.hold_microusd + 3, key="other")
    shown = text(client.get(path))
    assert "$0.000003 short. The worst case of this batch is above what is free of your balance." in shown
    assert "Start 2 rows" not in shown
    assert client.post(path, {"rows": "all"}).status_code == 402
    assert (Batch.objects.count(), Draft.objects.count(), Hold.objects.count()) == (0, 1, 1)
    ledger.release(key="other")
    assert client.post(path, {"rows": "all"}).status_code == 302


def test_what_is_wrong_with_the_form_is_said_beside_it(works, client, settings):  # noqa: F811
    now = datetime.now(UTC)
    good = jsonl(works.lines(1))
    for fields, words in (
        ({"deadline_at": f"{now - timedelta(hours=1):%Y-%m-%dT%H:%M}"}, "This time has passed"),
        ({"deadline_at": f"{now + timedelta(hours=30):%Y-%m-%dT%H:%M}"}, "A batch ends within 24 hours"),
        ({"endpoint": "/v1/images"}, "Choose one of the endpoints"),
        ({"max_power_usd_per_mwh": "cheap"}, "Enter a number of dollars"),
    ):
        answer = send(client, good, **fields)
        assert answer.status_code == 422
        assert words in answer.content.decode()
    assert (File.objects.count(), Draft.objects.count()) == (0, 0)
    assert "Choose a file." in client.post("/batches/new/", {"endpoint": CHAT}).content.decode()
    assert "The file is empty." in send(client, b"").content.decode()
    settings.ORGANIZATION_STORAGE_BYTES = 1
    refused = send(client, good)
    assert (refused.status_code, "files may have 1 bytes" in refused.content.decode()) == (403, True)
    settings.ORGANIZATION_STORAGE_BYTES = 10**9
    Draft.objects.bulk_create(
        Draft(organization=works.organization, user=make.user(), endpoint=CHAT, input_file_id=works.upload(good).pk)
        for _ in range(10)
    )
    files = File.objects.count()
    assert send(client, good).status_code == 429
    assert (File.objects.count(), Draft.objects.count(), Batch.objects.count()) == (files, 10, 0)


def test_a_stored_file_is_chosen(works, client):  # noqa: F811
    file = works.upload(works.lines(2))
    assert "input.jsonl" in text(client.get("/batches/new/"))
    deadline = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(hours=2)
    gone = client.post("/batches/new/", {"stored": "file_gone", "endpoint": CHAT})
    assert (gone.status_code, "This file is not stored any more." in gone.content.decode()) == (422, True)
    both = send(client, b"{}", stored=file.public_id)
    assert (both.status_code, "Two files are chosen." in both.content.decode()) == (422, True)
    fields = {"stored": file.public_id, "endpoint": CHAT, "deadline_at": f"{deadline:%Y-%m-%dT%H:%M}"}
    assert client.post("/batches/new/", fields).status_code == 302
    draft = Draft.objects.get()
    trying.check(draft.pk)
    client.post(f"/batches/{draft.public_id}/check/", {"rows": "all"})
    batch = Batch.objects.get()
    assert (batch.input_file_id, batch.expires_at) == (file.pk, deadline)


def test_nobody_else_sees_a_draft(works, client):  # noqa: F811
    _, path = looked_at(client, jsonl(works.lines(1)))
    stranger = make.user(email="eve@other.example")
    Membership.objects.create(organization=make.organization(), user=stranger, role="owner")
    other = Client()
    other.force_login(stranger, BACKEND)
    assert (other.get(path).status_code, other.post(path, {"rows": "all"}).status_code) == (404, 404)
    assert "rows.jsonl" not in other.get("/batches/new/").content.decode()
    assert Client().get(path).headers["location"].startswith("/login/")
    assert not Batch.objects.exists()
    Draft.objects.update(created_at=datetime.now(UTC) - timedelta(days=2))
    trying.forget()
    assert client.get(path).status_code == 404


def test_the_sweep_goes_on_with_a_check_that_died(works, client, monkeypatch):  # noqa: F811
    send(client, jsonl(works.lines(1)))
    assert trying.due() == []  # its task is on the way
    Draft.objects.update(created_at=datetime.now(UTC) - timedelta(seconds=3))
    assert trying.due() == [Draft.objects.get().pk]
    sent = []
    monkeypatch.setattr(tasks.current_app, "send_task", lambda name, args, retry: sent.append((name, args)))
    tasks.sweep()
    assert sent == [("batches.check_draft", (str(Draft.objects.get().pk),))]


async def test_its_page_and_the_newest_rows_are_live(works, client, owner):  # noqa: F811
    @sync_to_async
    def begin() -> Draft:
        send(client, jsonl(works.lines(3)))
        return Draft.objects.get()

    draft = await begin()
    viewer = Viewer(owner, works.organization.pk, frozenset({works.organization.pk}))
    topic = resolve(f"draft.{draft.public_id}", viewer)
    assert await topic.allowed()
    assert not await resolve(f"draft.{draft.public_id}", Viewer(owner, owner.pk, frozenset())).allowed()
    assert await topic.news(draft.version) == []
    await sync_to_async(trying.check)(draft.pk)
    (told,) = await topic.news(draft.version)
    assert (told["k"], topic.finished) == ("html", True)
    assert "Go on to its start" in told["html"]
    assert "csrf" not in told["html"]

    @sync_to_async
    def run() -> tuple[Batch, list]:
        client.post(f"/batches/{draft.public_id}/check/", {"rows": "all"})
        checking.check(draft.pk)
        jobs = works.feed()
        deliver(some(jobs[0], [1, 2]))
        return Batch.objects.get(), jobs

    batch, jobs = await run()
    rows = resolve(f"batch.{batch.public_id}.rows", viewer)
    assert await rows.allowed()
    (told,) = await rows.news(0)
    plain = " ".join(re.sub(r"<[^>]+>", " ", told["html"]).split())
    assert "Line 2 Paris 20 < $0.0001 Line 1 Paris" in plain.replace("\u00a0", " ").replace("&lt;", "<")
    assert not rows.finished

    @sync_to_async
    def end() -> Batch:
        deliver(finished(jobs[0], [3]))
        return works.finalize(batch)

    await end()
    (told,) = await rows.news(told["v"])
    plain = " ".join(re.sub(r"<[^>]+>", " ", told["html"]).split())
    assert ("Output 3 rows" in plain, "row-1 Paris 20" in plain, rows.finished) == (True, True, True)
    assert 'id="batch-events"' in told["html"]
    assert ("Lines 1 to 3 finished" in plain, "Settled" in plain) == (True, True)
    await database.close()
