"""The pages of batches: all of them, one, its files, its end, and its failed rows once more."""

import csv
import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient, Client

from apps.accounts.models import Membership
from apps.batches import checking, topics
from apps.batches.models import Batch, Row
from apps.batches.pages import batch as pages
from apps.batches.pages import listing
from apps.batches.pages.events import EventsPage
from apps.core.numbers import money_small as money
from apps.files.models import File
from apps.jobs.models import Job
from apps.ledger import services as ledger
from apps.ledger.models import Hold
from apps.live.topics import Viewer, resolve
from cango_portal import database
from tests import make
from tests.batches.works import TOO_LONG, deliver, finished, lose, report, row, some, started

pytestmark = pytest.mark.story
BACKEND = "allauth.account.auth_backends.AuthenticationBackend"


@pytest.fixture
def owner(works):
    user = make.user(email="lena@meridian.example", name="Lena Ortiz")
    Membership.objects.create(organization=works.organization, user=user, role="owner")
    return user


@pytest.fixture
def client(owner):
    client = Client()
    client.force_login(owner, BACKEND)
    return client


def text(response) -> str:
    assert response.status_code == 200
    plain = re.sub(r"<[^>]+>", " ", response.content.decode().partition("<main")[2])
    return " ".join(plain.replace("\u00a0", " ").split())


def path(batch: Batch, more: str = "") -> str:
    return f"/batches/{batch.public_id}/{more}"


def test_a_batch_that_runs_and_its_cancel(works, client):
    assert "No batches yet" in text(client.get("/batches/"))
    batch = works.begin(200)
    assert "Running Waiting for a free GPU – $0.0000 –" in text(client.get("/batches/"))
    (job,) = works.feed()
    deliver(started(job))
    assert "Running – $0.0000 –" in text(client.get("/batches/"))  # it has a place
    deliver(some(job, list(range(1, 51))))
    Batch.objects.update(in_progress_at=datetime.now(UTC) - timedelta(seconds=50))
    shown = text(client.get(path(batch)))
    for words in (
        "input.jsonl",
        "Running",
        "50 of 200 rows",
        "25% done",
        "0 failed 150 left",
        f"200 rows, {money(batch.hold_microusd)} held from your balance",
        f"At {works.pool.node.site.name}",
        "Batch price 50% of each price",
        "Input tokens, at $0.12 per million 500",
        "Output tokens, at $0.36 per million 1,000",
        "Cost so far $0.0003",
        "Expected at the end by the rows so far $0.0010 At most",  # every row costs the same
        "Output and errors are here when the batch has ended.",
    ):
        assert words in shown, words
    listed = text(client.get("/batches/", {"show": "open"}))
    assert "50 of 200 rows" in listed
    assert "Running 0.0023 Wh $0.0003 3 min" in listed
    assert "No batch has ended yet." in text(client.get("/batches/", {"show": "ended"}))
    asked = text(client.get(path(batch, "cancel/")))
    assert "What is finished stays and is charged: $0.0003 so far for 50 of 200 rows" in asked
    assert Batch.objects.get().state == "in_progress"  # asking changes nothing
    assert client.post(path(batch, "cancel/")).headers["location"] == path(batch)
    deliver(finished(job, [], state="cancelled"))
    works.finalize(batch)
    assert batch.state == "cancelled"
    shown = text(client.get(path(batch)))
    assert "Cancelled" in shown
    assert f"$0.0003 charged, {money(batch.hold_microusd - batch.charge_microusd)} returned" in shown
    assert "Run the rest" in shown
    assert "There is nothing left to cancel" in text(client.get(path(batch, "cancel/")))
    assert client.post(path(batch, "cancel/")).status_code == 302
    works.correct(batch)


async def test_files_are_downloaded_as_they_are(works, owner):
    @sync_to_async
    def run() -> Batch:
        batch = works.begin(2)
        (job,) = works.feed()
        deliver(report(job, "finished", [row(1), row(2, failure=TOO_LONG)]))
        return works.finalize(batch)

    batch = await run()
    client = AsyncClient()
    await client.aforce_login(owner, BACKEND)
    got = {}
    for name in ("input", "output", "errors"):
        answer = await client.get(path(batch, f"{name}.jsonl"))
        assert answer.headers["content-disposition"].startswith("attachment; filename=")
        content = b"".join([part async for part in answer.streaming_content])
        assert answer.headers["content-length"] == str(len(content))
        got[name] = [json.loads(line)["custom_id"] for line in content.splitlines()]
    assert got == {"input": ["row-1", "row-2"], "output": ["row-1"], "errors": ["row-2"]}
    assert (await client.get(path(batch, "other.jsonl"))).status_code == 404


def test_failed_rows_are_run_again_as_a_batch_of_their_own(works, client, owner):
    batch = works.begin(3)
    (job,) = works.feed()
    deliver(report(job, "finished", [row(1), row(2, failure=TOO_LONG), row(3, failure=TOO_LONG)]))
    works.finalize(batch)
    shown = text(client.get(path(batch)))
    assert "Done with errors" in shown
    assert "Run failed rows again" in shown
    page = client.get(path(batch, "again/"))
    assert "Run 2 rows again?" in text(page)
    assert Batch.objects.count() == 1
    ticket = re.search(r'name="batch" value="([^"]+)"', page.content.decode())[1]
    first = client.post(path(batch, "again/"), {"batch": ticket})
    assert client.post(path(batch, "again/"), {"batch": ticket}).headers["location"] == first.headers["location"]
    made = Batch.objects.exclude(pk=batch.pk).get()
    assert (first.headers["location"], made.user, made.api_key) == (path(made), owner, None)
    assert File.objects.filter(purpose="batch").count() == 2
    checking.check(made.pk)
    works.run_to_end(made)
    assert [line["custom_id"] for line in works.read(made.output_file_id)] == ["row-2", "row-3"]
    assert client.get(path(made, "again/")).headers["location"] == path(made)  # nothing is left to run
    works.correct(made)


async def test_what_has_ended_can_be_had_while_the_rest_runs(works, owner):
    batch, job = await sync_to_async(lambda: (works.begin(4), works.feed()[0]))()
    client = AsyncClient()
    await client.aforce_login(owner, BACKEND)
    await sync_to_async(lambda: (deliver(started(job)), deliver(some(job, [1, 3]))))()
    assert "Results so far" in (await client.get(path(batch))).content.decode()
    answer = await client.get(path(batch, "so-far.jsonl"))
    assert answer["content-disposition"].startswith("attachment; filename=")
    told = [json.loads(line) for line in b"".join([part async for part in answer]).splitlines()]
    assert [line["custom_id"] for line in told] == ["row-1", "row-3"]
    assert told[0]["response"]["body"]["choices"][0]["message"]["content"] == "Paris"
    await sync_to_async(lambda: (deliver(finished(job)), works.finalize(batch)))()
    gone = await client.get(path(batch, "so-far.jsonl"))
    assert (gone.status_code, gone.headers["location"]) == (302, path(batch))
    stranger = AsyncClient()
    await stranger.aforce_login(
        await sync_to_async(lambda: make.organization(owner=make.user()).memberships.get().user)(), BACKEND
    )
    assert (await stranger.get(path(batch, "so-far.jsonl"))).status_code == 404


def test_a_batch_tells_what_happened_to_it(works, client):
    batch = works.begin(5)
    (job,) = works.feed()
    deliver(started(job))
    deliver(some(job, [1, 2]))
    lose(job)
    works.run_to_end(batch)
    site = works.pool.node.site.name
    happened = [(each.what, each.why) for each in EventsPage(pages.load(batch.pk)).shown]
    assert [what for what, _ in reversed(happened)] == [
        "Batch accepted", "File checked", f"Lines 1 to 5 routed to {site}", "Lines 1 to 5 back in the queue",
        f"Lines 1 to 5 routed to {site}", "Lines 1 to 5 finished", "Rows ended, the files are written", "Settled",
    ]  # fmt: skip
    assert ("File checked", f"5 rows, {money(batch.hold_microusd)} held from your balance") in happened
    shown = client.get(path(batch)).content.decode()
    assert shown.split('id="batch-events"')[1].split("</section>")[0].count("<li>") == 8
    answer = client.get(path(batch, "events.csv"))
    assert answer["content-disposition"] == f'attachment; filename="{batch.public_id}_events.csv"'
    table = list(csv.reader(answer.content.decode("utf-8-sig").splitlines()))
    assert table[0] == ["at", "event", "reason"]
    assert [tuple(line[1:]) for line in table[1:]] == happened[::-1]
    stranger = Client()
    stranger.force_login(make.organization(owner=make.user()).memberships.get().user, BACKEND)
    assert stranger.get(path(batch, "events.csv")).status_code == 404


async def test_a_charge_names_its_batch(works, owner):
    batch = await sync_to_async(lambda: works.run_to_end(works.begin(2)))()
    client = AsyncClient()
    await client.aforce_login(owner, BACKEND)
    page = (await client.get("/billing/movements/")).content.decode()
    assert f'<a class="row" href="{path(batch)}">Work<span' in page
    exported = await client.get("/billing/movements.csv")
    text = b"".join([part async for part in exported.streaming_content]).decode("utf-8-sig")
    assert [(row["batch"], row["job"]) for row in csv.DictReader(text.splitlines()) if row["what"] == "Work"] == [
        (batch.public_id, "")
    ]
    told = (await client.get("/api/v1/transfers")).json()["data"]
    assert {each["batch"] for each in told if each["credit"] == "revenue"} == {batch.public_id}


def test_a_page_shows_the_newest_events(works):
    batch = works.run_to_end(works.begin(1))
    page = pages.load(batch.pk)
    assert "Line 1 finished" in [each.what for each in EventsPage(page).shown]
    assert [each.what for each in EventsPage(page, most=2).shown] == ["Settled", "Rows ended, the files are written"]
    assert len(EventsPage(page, most=None).rows) == 1 + len(EventsPage(page).shown) == 1 + 6


def test_all_of_a_batch_is_run_again(works, client):
    batch = works.run_to_end(works.begin(2))
    assert "Run all again" in text(client.get(path(batch)))
    page = client.get(path(batch, "again/?rows=all"))
    assert "Run all 2 rows again?" in text(page)
    assert "charged again" in text(page)
    ticket = re.search(r'name="batch" value="([^"]+)"', page.content.decode())[1]
    first = client.post(path(batch, "again/"), {"batch": ticket, "rows": "all"})
    made = Batch.objects.exclude(pk=batch.pk).get()
    assert first.headers["location"] == path(made)
    checking.check(made.pk)
    works.run_to_end(made)
    assert [line["custom_id"] for line in works.read(made.output_file_id)] == ["row-1", "row-2"]
    works.correct(made)


def test_without_room_nothing_is_run_again(works, client, settings):
    batch = works.begin(1)
    (job,) = works.feed()
    deliver(report(job, "finished", [row(1, failure=TOO_LONG)]))
    works.finalize(batch)
    assert "Failed" in text(client.get(path(batch)))  # never "Done" where every row failed
    settings.ORGANIZATION_STORAGE_BYTES = 1
    files = File.objects.count()
    refused = client.post(path(batch, "again/"))
    assert refused.status_code == 403
    assert b"Nothing was stored." in refused.content
    assert (Batch.objects.count(), File.objects.count(), Hold.objects.filter(state="open").count()) == (1, files, 0)


def test_a_file_that_is_wrong_names_its_lines(works, client):
    batch = works.begin(b"no\n" * 60)
    shown = text(client.get(path(batch)))
    assert "60 errors in the file Nothing was held or charged" in shown
    assert "invalid_json_line" in shown
    assert "And 10 more, in the API’s answer for this batch." in shown
    assert "The request body is not valid JSON" in text(client.get("/batches/"))
    assert ledger.balance(works.organization.pk).held_microusd == 0


def test_batches_of_others_are_not_found(works, client):
    batch = works.begin(1)
    stranger = make.user(email="x@example.org")
    make.organization(owner=stranger)
    other = Client()
    other.force_login(stranger, BACKEND)
    for more in ("", "cancel/", "again/", "input.jsonl"):
        assert other.get(path(batch, more)).status_code == 404
        assert Client().get(path(batch, more)).status_code == 302
    assert other.post(path(batch, "cancel/")).status_code == 404
    assert batch.public_id not in other.get("/batches/").content.decode()
    assert Batch.objects.get().state == "in_progress"


def test_the_end_is_expected_as_a_range_within_what_is_charged_and_held(works):
    batch = works.begin(200)
    (job,) = works.feed()
    deliver(some(job, list(range(1, 51))))

    def expected(first: int, second: int, **fields) -> str:
        Row.objects.filter(line__lte=25).update(charge_microusd=first)
        Row.objects.filter(line__gt=25).update(charge_microusd=second)
        begun = datetime.now(UTC) - timedelta(seconds=50)
        charge = 25 * (first + second)
        Batch.objects.update(**{"in_progress_at": begun, "charge_microusd": charge, "hold_microusd": 60_000, **fields})
        return pages.load(batch.pk).expected

    assert expected(100, 200) == "$0.0275 to $0.0325"
    assert expected(100, 200, hold_microusd=31_000) == "$0.0275 to $0.0310"
    assert expected(0, 1000, hold_microusd=500_000) == "$0.0753 to $0.1247"
    assert expected(150, 150) == "$0.0300"
    assert expected(100, 200, completed=2, total=200, in_progress_at=datetime.now(UTC)) == ""  # too early
    assert expected(100, 200, state="finalizing") == ""


def test_rows_without_an_answer_are_shown_while_the_rest_runs(works, client):
    batch = works.begin(4)
    (job,) = works.feed()
    deliver(report(job, "rows", [row(1)]))
    assert "Rows without an answer" not in text(client.get(path(batch)))
    deliver(report(job, "rows", [row(2, failure=TOO_LONG), row(3)]))
    shown = text(client.get(path(batch)))
    assert "Rows without an answer 1 row so far, free of charge" in shown
    failed, newest = shown.split("Rows without an answer 1 row")[1].split("the newest rows")[:2]
    assert "Line 2 The prompt is too long. – free" in failed
    assert "Line 3" not in failed
    assert "Line 3" in newest


def test_energy_says_how_it_was_come_by_once_a_shard_has_said_so(works, client):
    batch = works.begin(2)
    (job,) = works.feed()
    deliver(some(job, [1]))
    assert "Energy so far Used" in text(client.get(path(batch)))
    Job.objects.update(energy_quality="modelled")
    assert "Energy so far estimated from a model of the machine Used" in text(client.get(path(batch)))
    Job.objects.update(energy_quality="counter")
    assert "Energy so far measured at the GPU Used" in text(client.get(path(batch)))


def test_pages_go_by_key(works, client, monkeypatch):
    monkeypatch.setattr(listing, "SIZE", 2)
    made = [works.create(works.lines(1)) for _ in range(3)]
    first = client.get("/batches/").content.decode()
    assert [batch.public_id in first for batch in made] == [False, True, True]
    older = client.get("/batches/", {"before": made[1].public_id}).content.decode()
    assert [f"row-{batch.public_id}" in older for batch in made] == [True, False, False]
    assert Job.objects.count() == 0


async def test_its_topic_says_figures_and_each_new_phase_its_parts(works, owner):
    batch = await sync_to_async(works.begin)(3)
    viewer = Viewer(owner, works.organization.pk, frozenset({works.organization.pk}))
    topic = resolve(f"batch.{batch.public_id}", viewer)
    assert isinstance(topic, topics.BatchTopic)
    assert await topic.allowed()
    stranger = resolve(f"batch.{batch.public_id}", Viewer(owner, owner.pk, frozenset()))
    assert stranger is not None
    assert not await stranger.allowed()
    assert await topic.news(batch.version) == []  # the page has it all
    (first,) = await topic.news(0)
    assert (first["k"], first["v"]) == ("html", batch.version)
    assert all(f'id="{part}"' in first["html"] for part in ("batch-state", "batch-progress", "batch-facts"))

    @sync_to_async
    def go_on() -> Job:
        (job,) = works.feed()
        deliver(some(job, [1, 2]))
        return job

    job = await go_on()
    (told,) = await topic.news(first["v"])
    assert (told["k"], told["set"]["done"], told["set"]["value"], told["set"]["left"]) == ("set", "2", 2, "1")
    assert told["set"]["cost"] == "<\u00a0$0.0001"

    @sync_to_async
    def end() -> Batch:
        deliver(finished(job))
        return works.finalize(batch)

    ended = await end()
    (last,) = await topic.news(told["v"])
    assert (last["k"], last["v"], topic.finished) == ("html", ended.version, True)
    assert "Download output" in last["html"]
    assert await topic.news(last["v"]) == []
    await database.close()
