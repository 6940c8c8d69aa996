"""The one socket of a page, against real PostgreSQL and Valkey: rights, resuming, exact text, lost bells."""

import asyncio
import itertools
import json

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from apps.accounts.models import Membership
from apps.core.ids import public, uuid7
from apps.jobs.models import Job
from apps.jobs.pages import job as job_pages
from apps.jobs.pages.job import VERSION_SHIFT
from apps.live import bell, consumers
from apps.runner import protocol
from tests import make
from tests.live.sockets import closed, connected  # noqa: F401 - a fixture

STORY = "Brot 🥐 und 面包.\r\nThe flags 🇩🇪🇫🇷 and a family 👨‍👩‍👧 end it.\n"


@pytest.fixture
def owner(transactional_db):
    return make.user()


@pytest.fixture
def organization(owner):
    return make.organization(owner=owner, credit_microusd=5_000_000)


@pytest.fixture
def model(transactional_db):
    return make.model()


@pytest.fixture
def running(organization, model):
    return make.job(
        organization=organization, model=model, state="running", started_at=timezone.now(), max_completion_tokens=4096
    )


def units(text):
    return len(text.encode("utf-16-le")) // 2


def write(valkey, job, chunks, *, seq=0, tokens=0, done=None, end=None, attempt=1):
    entry = protocol.Entry(
        claimant="c",
        fence=str(job.fence),
        seq=seq,
        chunks=[[{"index": 0, "delta": {"content": chunk}}] for chunk in chunks],
        usage=protocol.Usage(prompt_tokens=7, completion_tokens=tokens or seq + len(chunks)),
        done=done,
        end=end,
    )
    valkey.xadd(protocol.stream(job.pool.code, str(job.pk), attempt), {"e": entry.model_dump_json()})


@sync_to_async
def finish(job, text, *, ring=True, **fields):
    make.answer(job, text=text)
    version = Job.objects.get(pk=job.pk).version + 1
    changes = {
        "state": "succeeded",
        "charge_microusd": 500,
        "finished_at": timezone.now(),
        "version": version,
        **fields,
    }
    Job.objects.filter(pk=job.pk).update(**changes)
    job.events.create(number=version, state=changes["state"], attempt=1, at=timezone.now())
    if ring:
        bell.ring(f"job.{job.public_id}", f"organization.{job.organization_id}")


# Who may listen ----------------------------------------------------------------------------------------------------------


async def test_a_visitor_is_told_to_sign_in(running):
    for path in ("/ws/organization/", f"/ws/jobs/{running.public_id}/"):
        async with connected(None, path) as socket:
            assert await socket.closed() == consumers.SIGNED_OUT


async def test_a_stranger_hears_nothing_of_a_job(running, valkey):
    stranger = await sync_to_async(make.user)()
    await sync_to_async(make.organization)(owner=stranger)
    write(valkey, running, ["secret"])
    async with connected(stranger, f"/ws/jobs/{running.public_id}/") as socket:
        assert await socket.closed() == consumers.NO_RIGHT
    for topic in (f"job.{running.public_id}", f"job.{running.public_id}.out.1"):
        async with connected(stranger, "/ws/organization/") as socket:
            await socket.say(sub={topic: 0})
            assert await socket.closed() == consumers.NO_RIGHT


async def test_a_job_that_is_not_there_is_like_a_strangers(owner, organization):
    async with connected(owner, f"/ws/jobs/{public('job', uuid7())}/") as socket:
        assert await socket.closed() == consumers.NO_RIGHT


async def test_someone_without_an_organization_has_no_right(transactional_db):
    lonely = await sync_to_async(make.user)()
    async with connected(lonely, "/ws/organization/") as socket:
        assert await socket.closed() == consumers.NO_RIGHT


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://testserver.evil.example",
        "http://testserver:81",
        "https://testserver",
        "null",
        None,
    ],
)
async def test_another_sites_page_opens_no_socket(owner, organization, origin):
    async with connected(owner, "/ws/organization/", origin=origin, accepted=False):
        pass


async def test_a_trusted_origin_is_taken_exactly(owner, organization, settings):
    settings.CSRF_TRUSTED_ORIGINS = ["https://portal.example"]
    async with connected(owner, "/ws/organization/", origin="https://portal.example"):
        pass
    async with connected(owner, "/ws/organization/", origin="https://portal.example.org", accepted=False):
        pass


@pytest.mark.parametrize("path", ["/ws/", "/ws/fleet/", "/ws/jobs/", "/elsewhere"])
async def test_unknown_addresses_are_refused(owner, organization, path):
    async with connected(owner, path, accepted=False):
        pass


async def test_signing_out_and_leaving_end_an_open_socket(owner, organization, running, monkeypatch):
    monkeypatch.setattr(consumers, "CHECK_SECONDS", 0.2)
    async with connected(owner, f"/ws/jobs/{running.public_id}/") as socket:
        await sync_to_async(Membership.objects.filter(user=owner).delete)()
        assert await socket.closed() == consumers.NO_RIGHT
    await sync_to_async(Membership.objects.create)(user=owner, organization=organization, role="developer")
    async with connected(owner, "/ws/organization/") as socket:
        await sync_to_async(_change_password)(owner)
        assert await socket.closed() == consumers.SIGNED_OUT


def _change_password(user):
    user.set_password("another horse battery")
    user.save()


# State -------------------------------------------------------------------------------------------------------------------


async def test_state_resumes_by_version(owner, running):
    topic = f"job.{running.public_id}"
    async with connected(owner, f"/ws/jobs/{running.public_id}/") as socket:
        await socket.say(sub={topic: 0})
        message = await socket.hear()
        assert (message["k"], message["t"], message["v"]) == ("html", topic, VERSION_SHIFT)
        assert 'id="job-progress"' in message["html"]
        assert 'id="job-facts"' in message["html"]
        assert f'id="row-{running.public_id}"' in message["html"]
    async with connected(owner, f"/ws/jobs/{running.public_id}/") as socket:
        await socket.say(sub={topic: VERSION_SHIFT})
        assert await socket.quiet()


async def test_counts_move_between_phases(owner, running, valkey):
    topic = f"job.{running.public_id}"
    async with connected(owner, f"/ws/jobs/{running.public_id}/") as socket:
        await socket.say(sub={topic: VERSION_SHIFT})
        write(valkey, running, ["a", "b", "c"], tokens=1312)
        message = await socket.hear()
        assert (message["k"], message["v"]) == ("set", VERSION_SHIFT + 1319)
        assert message["set"]["done"] == "1,312"
        assert message["set"]["value"] == 1312
        assert message["set"]["cost"] == "$0.0005"
        assert message["set"]["output_sub"] == "1,312 tok at $0.36 per million"


async def test_figures_never_hide_a_phase_that_began_while_they_were_read(
    owner, organization, model, valkey, monkeypatch
):
    job = await sync_to_async(make.job)(organization=organization, model=model, state="dispatched")
    load = job_pages.load

    def begun(job_id):
        if Job.objects.filter(pk=job_id, state="dispatched").update(
            state="running", version=2, started_at=timezone.now()
        ):
            job.events.create(number=2, state="running", attempt=1, at=timezone.now())
        return load(job_id)

    monkeypatch.setattr(job_pages, "load", begun)
    async with connected(owner, f"/ws/jobs/{job.public_id}/") as socket:
        await socket.say(sub={f"job.{job.public_id}": VERSION_SHIFT})
        assert await socket.quiet(0.3)
        write(valkey, job, ["a", "b"])
        message = await socket.hear()
        assert (message["k"], message["v"] // VERSION_SHIFT) == ("html", 2)
        assert "Running" in message["html"]


async def test_a_phase_change_comes_at_once_and_ends_the_topic(owner, running):
    topic = f"job.{running.public_id}"
    async with connected(owner, f"/ws/jobs/{running.public_id}/") as socket:
        await socket.say(sub={topic: VERSION_SHIFT})
        assert await socket.quiet(0.3)
        await finish(running, "All of it.")
        message = await socket.hear(seconds=2)
        assert (message["k"], message["v"]) == ("html", 2 * VERSION_SHIFT)
        assert "Done" in message["html"]
        assert "$0.0005 charged, $0.0005 returned" in message["html"]


async def test_who_is_behind_the_end_of_a_topic_is_served_again(owner, running):
    topic, text = f"job.{running.public_id}", f"job.{running.public_id}.out.1"
    async with connected(owner, f"/ws/jobs/{running.public_id}/") as socket:
        await socket.say(sub={topic: VERSION_SHIFT, text: 0})
        assert await socket.quiet(0.3)
        await finish(running, "All of it.")
        assert {(await socket.hear(seconds=2))["k"] for _ in range(2)} == {"html", "add"}
        assert await socket.quiet(0.3)
        await socket.say(sub={topic: 2 * VERSION_SHIFT, text: 10})
        assert await socket.quiet(0.3)
        for _ in range(2):
            await socket.say(sub={topic: VERSION_SHIFT})  # a row that was read just before the end, swapped in after it
            message = await socket.hear(seconds=2)
            assert (message["k"], message["v"]) == ("html", 2 * VERSION_SHIFT)
            assert "Done" in message["html"]
            assert await socket.quiet(0.3)
        await socket.say(sub={text: 4})
        assert await socket.hear(seconds=2) == {"k": "add", "t": text, "off": 4, "d": "of it.", "end": 3}


async def test_a_job_that_ends_before_it_began_ends_its_box(owner, organization, model):
    job = await sync_to_async(make.job)(organization=organization, model=model)
    topic = f"job.{job.public_id}"
    async with connected(owner, f"/ws/jobs/{job.public_id}/") as socket:
        await socket.say(sub={topic: VERSION_SHIFT})
        assert await socket.quiet(0.3)
        await finish(job, "", state="cancelled", charge_microusd=0)
        message = await socket.hear(seconds=2)
        assert 'aria-busy="false"' in message["html"]
        assert "Nothing had been written." in message["html"]


async def test_a_lost_bell_loses_nothing(owner, running, monkeypatch):
    monkeypatch.setattr(bell, "FLOOR_SECONDS", 0.5)
    topic = f"job.{running.public_id}"
    async with connected(owner, f"/ws/jobs/{running.public_id}/") as socket:
        await socket.say(sub={topic: VERSION_SHIFT})
        assert await socket.quiet(0.3)
        await finish(running, "All of it.", ring=False)
        assert (await socket.hear(seconds=5))["v"] == 2 * VERSION_SHIFT


@pytest.mark.story
async def test_the_organizations_money_is_sent_when_it_changes(owner, organization):
    async with connected(owner, "/ws/organization/") as socket:
        await socket.say(sub={"organization": 0})
        message = await socket.hear()
        assert message["set"] == {
            "balance": "$5.00",
            "held": "",
            "free": "$5.00",
            "hold": "$0.00",
            "spend": "$0.00",
            "pace": "",
        }
        await bell.ring_async(f"organization.{organization.pk}")
        assert await socket.quiet(1.5)


async def test_what_runs_now_is_rendered_anew(owner, organization, running):
    async with connected(owner, "/ws/organization/") as socket:
        await socket.say(sub={"running": 0})
        message = await socket.hear()
        assert message["k"] == "html"
        assert running.public_id in message["html"]
        await finish(running, "")
        assert "Nothing runs now." in (await socket.hear(seconds=3))["html"]


# Text --------------------------------------------------------------------------------------------------------------------


@pytest.mark.story
async def test_text_streams_exactly_and_ends(owner, running, valkey):
    topic = f"job.{running.public_id}.out.1"
    async with connected(owner, f"/ws/jobs/{running.public_id}/") as socket:
        await socket.say(sub={topic: 0})
        reading = asyncio.create_task(socket.text(topic))
        for number, character in enumerate(STORY * 20):
            write(valkey, running, [character], seq=number)
            if number % 200 == 0:
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
        await finish(running, STORY * 20)
        assert await reading == STORY * 20


@pytest.mark.parametrize("start", range(0, 40, 3))
async def test_text_goes_on_at_any_offset(owner, running, valkey, start):
    topic = f"job.{running.public_id}.out.1"
    write(valkey, running, list(STORY))
    whole = STORY.encode("utf-16-le")
    async with connected(owner, f"/ws/jobs/{running.public_id}/") as socket:
        await socket.say(sub={topic: start})
        message = await socket.hear("add")
        assert message["off"] <= start
        assert whole[2 * message["off"] :].decode("utf-16-le").startswith(message["d"])  # never half a pair
        assert message["off"] in (start, start - 1)


async def test_a_gap_is_served_again(owner, running, valkey):
    topic = f"job.{running.public_id}.out.1"
    write(valkey, running, ["one ", "two ", "three"])
    async with connected(owner, f"/ws/jobs/{running.public_id}/") as socket:
        await socket.say(sub={topic: 8})
        assert (await socket.hear("add"))["d"] == "three"
        await socket.say(sub={topic: 4})
        message = await socket.hear("add")
        assert (message["off"], message["d"]) == (4, "two three")


async def test_a_flushed_valkey_loses_no_text(owner, running, valkey):
    topic = f"job.{running.public_id}.out.1"
    async with connected(owner, f"/ws/jobs/{running.public_id}/") as socket:
        await socket.say(sub={topic: 0})
        reading = asyncio.create_task(socket.text(topic))
        write(valkey, running, ["Bread ", "🥐 "])
        await asyncio.sleep(0.3)
        valkey.flushall()
        write(valkey, running, ["more"], seq=3)  # the runner has not noticed yet
        write(valkey, running, ["Bread ", "🥐 ", "and ", "more"])
        await asyncio.sleep(0.5)
        await finish(running, "Bread 🥐 and more", ring=False)
        await bell.ring_async(topic.removesuffix(".out.1"))
        assert await reading == "Bread 🥐 and more"


async def test_text_of_a_job_that_ended_comes_from_the_database(owner, organization, model):
    job = await sync_to_async(make.job)(
        organization=organization, model=model, state="succeeded", attempt=1, text=STORY * 3000
    )
    topic = f"job.{job.public_id}.out.1"
    start = units("Brot 🥐")
    async with connected(owner, f"/ws/jobs/{job.public_id}/") as socket:
        await socket.say(sub={topic: start})
        assert await socket.text(topic, start) == (STORY * 3000)[len("Brot 🥐") :]


async def test_a_second_attempt_has_a_text_of_its_own(owner, running, valkey):
    state, first = f"job.{running.public_id}", f"job.{running.public_id}.out.1"
    async with connected(owner, f"/ws/jobs/{running.public_id}/") as socket:
        await socket.say(sub={state: VERSION_SHIFT, first: 0})
        assert await socket.quiet(0.2)
        await sync_to_async(Job.objects.filter(pk=running.pk).update)(attempt=2, version=2)
        await bell.ring_async(state)
        message = await socket.hear("html")
        assert f'data-topic="{state}.out.2" data-at="0"' in message["html"]
        await socket.say(sub={f"{state}.out.2": 0})
        write(valkey, running, ["again"], attempt=2)
        message = await socket.hear("add")
        assert (message["t"], message["d"]) == (f"{state}.out.2", "again")


# Limits ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame", ["no json", "[]", '"text"', '{"sub": [1]}', '{"sub": {"a": "b"}}', '{"sub": {"a": 1e999}}', "[" * 20000]
)
async def test_nonsense_closes(owner, organization, frame):
    async with connected(owner, "/ws/organization/") as socket:
        await socket.send(frame)
        assert await socket.closed() == consumers.POLICY


async def test_large_frames_close(owner, organization):
    async with connected(owner, "/ws/organization/") as socket:
        await socket.send(json.dumps({"sub": {}, "x": "x" * 70_000}))
        assert await socket.closed() == consumers.TOO_BIG


async def test_a_client_that_talks_too_much_is_closed(owner, organization):
    async with connected(owner, "/ws/organization/") as socket:
        for _ in range(40):
            await socket.say(hidden=True)
        assert await socket.closed() == consumers.POLICY


async def test_a_page_names_as_many_topics_as_it_may_have_and_no_client_names_ever_more(owner, organization):
    names = [f"weather.{n}" for n in range(consumers.MAX_TOPICS)]
    async with connected(owner, "/ws/organization/") as socket:
        await socket.say(sub={**dict.fromkeys(names[1:], 0), "organization": 0})
        at = (await socket.hear())["v"]
        for _ in range(15):
            await socket.say(sub={"organization": at})  # where it stands costs nothing
        assert await socket.quiet()
        for _ in range(3):
            await socket.say(sub=dict.fromkeys(names, 0))
        assert await socket.closed() == consumers.POLICY


async def test_unknown_topics_are_ignored(owner, organization):
    async with connected(owner, "/ws/organization/") as socket:
        await socket.say(sub={"weather": 0, "job.": 0, "organization": 0})
        assert (await socket.hear())["t"] == "organization"


async def test_one_user_has_so_many_sockets(owner, organization, monkeypatch):
    monkeypatch.setattr(consumers, "MAX_SOCKETS", 1)
    async with connected(owner, "/ws/organization/"), connected(owner, "/ws/organization/") as second:
        assert await second.closed() == consumers.TRY_AGAIN
    assert not consumers.PageConsumer.sockets
    async with connected(owner, "/ws/organization/") as socket:
        await socket.say(sub={"organization": 0})
        assert await socket.hear()


async def test_a_client_that_takes_nothing_is_closed(owner, organization, monkeypatch):
    monkeypatch.setattr(consumers, "STALL_SECONDS", 0.2)
    stuck = asyncio.Event()

    async def send(self, text_data=None, bytes_data=None, close=False):
        await stuck.wait()

    monkeypatch.setattr(consumers.PageConsumer, "send", send)
    async with connected(owner, "/ws/organization/") as socket:
        assert await socket.closed() == consumers.TRY_AGAIN


async def test_a_client_that_left_is_no_fault(owner, organization, monkeypatch, caplog):
    tried = asyncio.Event()

    async def gone(self, *_, **__):
        tried.set()
        raise OSError

    monkeypatch.setattr(consumers.PageConsumer, "send", gone)
    monkeypatch.setattr(consumers.PageConsumer, "close", gone)
    async with connected(owner, "/ws/organization/") as socket:
        await socket.say(sub={"organization": 0})
        await tried.wait()
        await socket.say(sub={"running": 0})
        assert await socket.quiet()
    assert [record.message for record in caplog.records if record.name == consumers.log.name] == []


@pytest.mark.story
async def test_a_hidden_tab_hears_half_as_often(owner, running, valkey):
    topic = f"job.{running.public_id}.out.1"
    async with connected(owner, f"/ws/jobs/{running.public_id}/") as socket:
        await socket.say(hidden=True, sub={topic: 0})
        loop = asyncio.get_running_loop()
        times = []
        for number in range(60):
            write(valkey, running, ["x"], seq=number)
            await asyncio.sleep(0.02)
            while not socket.communicator.output_queue.empty():
                if json.loads((await socket.receive())["text"])["k"] == "add":
                    times.append(loop.time())
        gaps = [after - before for before, after in itertools.pairwise(times)]
        assert len(gaps) > 2
        assert min(gaps[1:]) > 0.15  # the first follows what was there at once
