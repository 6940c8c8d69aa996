"""A row in progress on its batch's page: a real shard's text by the page's socket, for as long as somebody listens."""

import asyncio
import re

import pytest
import redis.asyncio
from asgiref.sync import sync_to_async
from django.test import Client

from apps.accounts.models import Membership
from apps.batches import ending, live, writing
from apps.batches.models import Batch
from apps.live import bell, consumers, streams
from apps.runner import protocol, showing
from apps.runner.heartbeat import Ear
from cango_portal import database
from tests import make
from tests.batches.test_pages import BACKEND, path
from tests.batches.works import TOO_LONG, deliver, finished, report, row, some, started
from tests.live.sockets import connected
from tests.runner.portal import FakePortal, running
from tests.runner.test_execution import until
from tests.runner.test_showing import SAID, Shard
from tests.servers import servers

pytestmark = pytest.mark.story
CLAIMANT = "a" * 32
LIVE = "/ws/organization/"


@pytest.fixture(autouse=True)
async def _closed():
    yield
    await bell.close()
    await streams.close()
    await database.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(showing, "PACE_SECONDS", 0.01)
    monkeypatch.setattr(showing, "ROW_SECONDS", 0.3)
    monkeypatch.setattr(live, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(live.LiveTopic, "per_second", 50)


@pytest.fixture
def portal():
    with running() as portal:
        yield portal


@pytest.fixture
def owner(works):
    user = make.user(email="lena@meridian.example")
    Membership.objects.create(organization=works.organization, user=user, role="owner")
    return user


class Site:
    """The runner that has a batch's shards, with ears of its own."""

    def __init__(self, client: redis.asyncio.Redis, portal: FakePortal, valkey) -> None:
        self.client, self.portal, self.valkey = client, portal, valkey
        self.shards: dict[str, Shard] = {}
        self.ear = Ear(redis=client, claimant=CLAIMANT, stop=lambda _: None, cancel=lambda _: None, watch=self.watch)

    def watch(self, watch: protocol.Watch) -> None:
        if shard := self.shards.get(watch.job):
            shard.execution.showing.watch(watch)

    async def take(self, works, job, rows: int, first: int = 1) -> Shard:
        await sync_to_async(lambda: deliver(started(job, claimant=CLAIMANT)))()
        fields = {"job": str(job.pk), "attempt": job.attempt, "fence": str(job.fence), "pool": works.pool.code}
        made = self.shards[str(job.pk)] = Shard(self.client, self.portal, self.valkey, rows, first, **fields)
        await until(lambda: len(made.engine.steps) == 2)
        return made


@pytest.fixture
async def site(portal, valkey):
    client = redis.asyncio.Redis.from_url(servers.redis_url)
    made = Site(client, portal, valkey)
    made.ear.start()
    yield made
    await made.ear.stop()
    for shard in made.shards.values():
        shard.execution.finish("stop")
        await shard.running
    await client.aclose()


async def begun(works, rows: int = 3):
    return await sync_to_async(lambda: (works.begin(rows), works.feed()[0]))()


async def box(socket) -> str:
    """The part with a row in it."""
    while "row-text" not in (html := (await socket.hear("html"))["html"]):
        pass
    return html


def text_topic(html: str) -> tuple[str, int]:
    name, at = re.search(r'id="row-text" data-topic="([^"]+)" data-at="(\d+)"', html).groups()
    return name, int(at)


async def test_text_of_a_row_is_heard_exactly_while_it_is_written_and_then_of_the_next(works, owner, site):
    batch, job = await begun(works)
    shard = await site.take(works, job, 3)
    live = f"batch.{batch.public_id}.live"
    async with connected(owner, LIVE) as socket:
        await socket.say(sub={live: 0})
        shard.engine.say("row 2", *SAID[:2])
        html = await box(socket)
        assert "<b>Row 2</b><span>row-2</span>" in html
        assert "Showing 1 of 2 rows in progress" in html
        assert f'href="/batches/{batch.public_id}/rows/2/"' in html
        topic, at = text_topic(html)
        assert re.fullmatch(rf"batch\.{batch.public_id}\.row\.2\.\d{{13}}", topic)
        begun_with = re.search(r'data-at="\d+">([^<]*)</span>', html)[1]
        assert at == len(begun_with.encode("utf-16-le")) // 2
        await socket.say(sub={topic: at})
        shard.engine.say("row 2", *SAID[2:], None)
        assert begun_with + await socket.text(topic, at) == "".join(SAID)
        html = await box(socket)
        assert "<b>Row 3</b>" in html
        second, _ = text_topic(html)
        assert second != topic
        shard.engine.say("row 3", "面包")
        await until(lambda: str(shard.heard.text) == "面包")
        async with connected(
            owner, LIVE
        ) as late:  # who comes late has it from its start, and where they were from there
            await late.say(sub={second: 1})
            shard.engine.say("row 3", "🥐")
            said = ""
            while said != "包🥐":
                said += (await late.hear("add"))["d"]
            await late.say(sub={topic: 3})  # another row has taken its place: it ends where it is
            assert await late.hear() == {"k": "add", "t": topic, "off": 3, "d": "", "end": 0}
        shard.engine.say("row 3", None)
        html = await box(socket)
        assert "<b>Row 1</b>" in html
        assert "Showing 1 of 1 row in progress" in html
        await shard.end(3)
        assert works.pool.code in shard.key
        assert 0 < site.valkey.ttl(shard.key) <= 10  # its shard has ended
        await sync_to_async(lambda: (deliver(finished(job, claimant=CLAIMANT)), works.finalize(batch)))()
        while 'id="batch-live"' not in (html := (await socket.hear("html"))["html"]) or " hidden" not in html:
            pass
    await sync_to_async(works.correct)(batch)


async def test_nothing_is_sent_where_nobody_listens_and_no_more_once_they_have_left(
    works, owner, site, valkey, monkeypatch
):
    monkeypatch.setattr(writing, "WATCH_SECONDS", 0.4)
    monkeypatch.setattr(live, "RENEW_SECONDS", 0.1)
    batch, job = await begun(works)
    shard = await site.take(works, job, 3)
    shard.engine.say("row 2", "unseen")
    async with connected(owner, LIVE) as socket:
        await socket.say(sub={f"batch.{batch.public_id}": 0, f"batch.{batch.public_id}.rows": 0})
        await asyncio.sleep(0.3)
        assert (valkey.keys("out:*:rows"), valkey.keys("ctl:*")) == ([], [])  # others of its topics ask for nothing
        await socket.say(sub={f"batch.{batch.public_id}.live": 0})
        assert "unseen" in await box(socket)
        for n in range(4):  # renewed while the socket lives: longer than one watch
            await asyncio.sleep(0.2)
            shard.engine.say("row 2", f" {n}")
            await until(lambda n=n: str(shard.heard.text).endswith(f" {n}"), 2)
    await asyncio.wait_for(shard.execution.showing.telling, 3)
    written = shard.said
    shard.engine.say("row 2", " unheard")
    await asyncio.sleep(0.1)
    assert shard.said == written
    assert 0 < valkey.ttl(shard.key) <= 60
    assert 0 < valkey.ttl(protocol.watching(CLAIMANT)) <= 60


async def test_of_several_shards_one_is_shown_and_all_are_counted(works, owner, site, monkeypatch):
    monkeypatch.setattr("apps.batches.checking.SHARD_ROWS", 2)
    batch, jobs = await sync_to_async(lambda: (works.begin(4), works.feed()))()
    first, second = [await site.take(works, job, 2, first=1 + 2 * n) for n, job in enumerate(jobs)]
    second.engine.say("row 4", "unseen")
    async with connected(owner, LIVE) as socket:
        await socket.say(sub={f"batch.{batch.public_id}.live": 0})
        first.engine.say("row 2", "seen")
        assert "<b>Row 2</b>" in await box(socket)
        await until(lambda: second.said)
        assert [(entry.running, entry.line) for entry in second.said] == [(2, None)]
        first.engine.say("row 2", " by all")
        while (said := (await socket.hear("set"))["set"]["showing"]) != "Showing 1 of 4 rows in progress":
            assert said == "Showing 1 of 2 rows in progress"
        first.execution.finish("stop")
        await first.running
        await sync_to_async(lambda: deliver(finished(jobs[0], claimant=CLAIMANT)))()
        assert "<b>Row 4</b><span>row-4</span>" in await box(socket)  # the next shard


async def test_another_organization_hears_nothing_of_it(works, owner, site, valkey):
    batch, job = await begun(works)
    shard = await site.take(works, job, 3)
    stranger = await sync_to_async(lambda: make.organization(owner=make.user()).memberships.get().user)()
    async with connected(owner, LIVE) as socket:
        await socket.say(sub={f"batch.{batch.public_id}.live": 0})
        shard.engine.say("row 2", "ours")
        topic, _ = text_topic(await box(socket))
    for name in (f"batch.{batch.public_id}.live", topic):
        async with connected(stranger, LIVE) as socket:
            await socket.say(sub={name: 0})
            assert await socket.closed() == consumers.NO_RIGHT
    other = await sync_to_async(lambda: make.organization(owner=owner).pk)()
    theirs = await sync_to_async(lambda: Batch.objects.filter(organization=other).count())()
    assert theirs == 0


async def test_a_membership_that_ends_ends_its_text(works, owner, site, monkeypatch):
    monkeypatch.setattr(consumers, "CHECK_SECONDS", 0.2)
    batch, job = await begun(works)
    await site.take(works, job, 3)
    async with connected(owner, LIVE) as socket:
        await socket.say(sub={f"batch.{batch.public_id}.live": 0})
        await sync_to_async(Membership.objects.filter(user=owner).delete)()
        assert await socket.closed() == consumers.NO_RIGHT


async def test_a_socket_hears_more_texts_than_it_may_hear_at_once(works, owner, site, monkeypatch):
    monkeypatch.setattr(consumers, "MAX_TOPICS", 3)
    batch, job = await begun(works, 8)
    shard = await site.take(works, job, 8)
    live = f"batch.{batch.public_id}.live"
    async with connected(owner, LIVE) as socket:
        await socket.say(sub={live: 0})
        for _ in range(6):
            topic, at = text_topic(await box(socket))
            line = topic.split(".")[3]
            await socket.say(sub={live: 1, topic: at})
            shard.engine.say(f"row {line}", f"text {line}", None)
            assert await socket.text(topic, at) == f"text {line}"


async def test_the_text_of_the_last_row_arrives_whole(works, owner, site, monkeypatch):
    batch, job = await begun(works, 2)
    shard = await site.take(works, job, 2)
    async with connected(owner, LIVE) as socket:
        await socket.say(sub={f"batch.{batch.public_id}.live": 0})
        shard.engine.say("row 2", SAID[0])
        topic, _ = text_topic(await box(socket))
        await socket.say(sub={topic: 0})
        assert (await socket.hear("add"))["d"] == SAID[0]
        monkeypatch.setattr(showing, "PACE_SECONDS", 60)
        await asyncio.sleep(0.1)  # the runner would not look again before the shard has ended
        shard.engine.say("row 2", *SAID[1:])
        await shard.end(2)
        await sync_to_async(lambda: deliver(finished(job, claimant=CLAIMANT)))()
        start = len(SAID[0].encode("utf-16-le")) // 2
        assert await socket.text(topic, start) == "".join([*SAID[1:], "x"])


@pytest.mark.parametrize("gone", ["job", "stream"])
async def test_a_text_without_an_end_ends_with_its_shard(works, owner, site, valkey, monkeypatch, gone):
    monkeypatch.setattr(consumers, "CHECK_SECONDS", 0.2)
    batch, job = await begun(works)
    shard = await site.take(works, job, 3)
    async with connected(owner, LIVE) as socket:
        await socket.say(sub={f"batch.{batch.public_id}.live": 0})
        shard.engine.say("row 2", "so far")
        topic, _ = text_topic(await box(socket))
        await socket.say(sub={topic: 0})
        assert (await socket.hear("add"))["d"] == "so far"
        if gone == "job":  # it was taken from the runner, which says nothing more
            await sync_to_async(lambda: deliver(finished(job, claimant=CLAIMANT)))()
        else:
            valkey.set(shard.key, "no stream")
        assert await socket.hear("add", 5) == {"k": "add", "t": topic, "off": 6, "d": "", "end": 2}


async def test_of_finished_topics_the_newest_are_remembered_and_no_invented_number_is_heard(works, owner, monkeypatch):
    monkeypatch.setattr(consumers, "MAX_OVER", 2)
    batch, _ = await begun(works)  # no runner has it
    name = f"batch.{batch.public_id}.row.1.{{}}"
    async with connected(owner, LIVE) as socket:

        async def ended(number: int) -> bool:
            await socket.say(sub={name.format(number): 0})
            try:
                message = await socket.hear(seconds=0.5)
            except TimeoutError:
                return False
            return message == {"k": "add", "t": name.format(number), "off": 0, "d": "", "end": 0}

        assert [await ended(number) for number in (1, 2, 3)] == [True, True, True]
        assert [await ended(number) for number in (3, 2, 1)] == [False, False, True]
        assert await ended(2**53 - 1)
        await socket.say(sub={name.format(2**53): 0})
        assert await socket.closed() == consumers.NO_RIGHT


async def test_vectors_are_no_text_and_what_has_ended_is_not_watched(works, owner, valkey):
    @sync_to_async
    def make_both() -> tuple[Batch, Batch]:
        ended = works.run_to_end(works.begin(1))
        model = make.model(kind="embeddings")
        make.pool(model=model, slots=4)
        body = {"model": model.name, "input": "Bread"}
        lines = [works.line(1, url="/v1/embeddings", body=body)]
        vectors = works.begin(lines, endpoint="/v1/embeddings")
        (job,) = works.feed()
        deliver(started(job))
        return ended, vectors

    ended, vectors = await make_both()
    client = Client()
    await sync_to_async(client.force_login)(owner, BACKEND)
    for batch in (ended, vectors):
        assert b"batch-live" not in (await sync_to_async(client.get)(path(batch))).content
        async with connected(owner, LIVE) as socket:
            await socket.say(sub={f"batch.{batch.public_id}.live": 0})
            assert " hidden" in (await socket.hear("html"))["html"]
            assert await socket.quiet(0.2)
    assert valkey.keys("ctl:*") == []
    assert vectors.state == "in_progress"


async def test_a_batch_that_is_cancelled_shows_no_row(works, owner, site):
    batch, job = await begun(works)
    shard = await site.take(works, job, 3)
    async with connected(owner, LIVE) as socket:
        await socket.say(sub={f"batch.{batch.public_id}.live": 0})
        shard.engine.say("row 2", "seen")
        await box(socket)
        await sync_to_async(lambda: database.run(ending.cancel(batch.pk)))()
        await bell.ring_async(f"batch.{batch.public_id}")
        assert " hidden" in (await socket.hear("html"))["html"]


def test_a_row_has_a_page(works, owner):
    client = Client()
    client.force_login(owner, BACKEND)
    batch = works.begin(3)
    (job,) = works.feed()
    deliver(some(job, [1]))
    deliver(report(job, "rows", [row(2, failure=TOO_LONG)]))
    shown = client.get(path(batch, "rows/1/")).content.decode()
    assert 'Of 3 rows in “input.jsonl”. <code class="muted">row-1</code>' in shown
    assert f"{batch.public_id}.answer" not in shown  # it has come
    assert '<p class="stream-text stream-short">Paris</p>' in shown
    assert "20 tokens, &lt;\u00a0$0.0001" in shown
    assert "Capital 1?" in shown
    assert "The prompt is too long." in client.get(path(batch, "rows/2/")).content.decode()
    assert "It has not ended yet." in client.get(path(batch, "rows/3/")).content.decode()
    for line in ("0", "4", "99999999999999999999", "x"):
        assert client.get(path(batch, f"rows/{line}/")).status_code == 404
    stranger = Client()
    stranger.force_login(make.organization(owner=make.user()).memberships.get().user, BACKEND)
    assert stranger.get(path(batch, "rows/1/")).status_code == 404
    deliver(finished(job))
    works.finalize(batch)
    after = client.get(path(batch, "rows/1/")).content.decode()
    assert "what was asked and answered is in its files" in after
    assert "Capital" not in after


async def test_the_page_of_a_row_has_its_answer_as_soon_as_there_is_one(works, owner):
    batch, job = await begun(works)
    client = Client()
    await sync_to_async(client.force_login)(owner, BACKEND)
    topic = f"batch.{batch.public_id}.answer.2"
    shown = (await sync_to_async(client.get)(path(batch, "rows/2/"))).content.decode()
    assert f'data-topic="{topic}" data-at="0"' in shown
    async with connected(owner, LIVE) as socket:
        await socket.say(sub={topic: 0})
        await sync_to_async(lambda: deliver(some(job, [1])))()
        assert await socket.quiet(0.3)
        await sync_to_async(lambda: deliver(some(job, [2])))()
        html = (await socket.hear("html"))["html"]
        assert '<p class="stream-text stream-short">Paris</p>' in html
        assert "data-topic" not in html
    stranger = await sync_to_async(lambda: make.organization(owner=make.user()).memberships.get().user)()
    async with connected(stranger, LIVE) as socket:
        await socket.say(sub={topic: 0})
        assert await socket.closed() == consumers.NO_RIGHT
