"""/v1/responses with `background`: jobs that wait, read again, ended and deleted by their ids."""

import httpx
import openai
import pytest

from apps.jobs.models import Content, Job
from apps.runner.protocol import Failure
from tests.gateway.portal import Attempt
from tests.gateway.test_chat import place_again, settled, wait_for
from tests.gateway.test_responses import read, types_of


def away(shop) -> None:
    shop.pool.ready = False
    shop.pool.save()


def until_cancelled(attempt: Attempt) -> None:
    attempt.claim()
    attempt.say("Hel")
    attempt.wait_for_cancel()
    attempt.finish("cancelled")


def again(shop, response_id: str, **query) -> list[dict]:
    answer = httpx.get(
        f"{shop.url}/v1/responses/{response_id}",
        headers={"authorization": f"Bearer {shop.secret}"},
        params={"stream": "true", **query},
        timeout=15,
    )
    assert answer.status_code == 200, answer.text
    return read(answer.text)


def test_it_is_answered_at_once_and_fetched_when_it_is_done(client, shop, site):
    answer = client.responses.create(model=shop.model.name, input="Say hello", background=True)
    assert (answer.status, answer.background, answer.output, answer.usage) == ("queued", True, [], None)
    wait_for(lambda: Job.objects.get().is_final)
    done = client.responses.retrieve(answer.id)
    assert (done.id, done.status, done.output_text) == (answer.id, "completed", "Hello world")
    assert done.usage.cost_microusd == 2
    job = Job.objects.get()
    assert (job.interactive, job.streaming) == (False, False)
    settled(shop.organization, 2)


def test_it_waits_beyond_the_patience_of_who_waits_now(client, shop):
    away(shop)
    answer = client.responses.create(model=shop.model.name, input="Say hello", background=True)
    job = Job.objects.get()
    assert (job.state, (job.deadline_at - job.created_at).total_seconds()) == ("queued", 86_400)
    assert client.responses.retrieve(answer.id).status == "queued"
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model=shop.model.name, input="More", previous_response_id=answer.id)
    assert refused.value.code == "previous_response_not_ended"


def test_one_that_waits_is_cancelled_at_no_cost(client, shop):
    away(shop)
    answer = client.responses.create(model=shop.model.name, input="Say hello", background=True)
    for _ in range(2):
        cancelled = client.responses.cancel(answer.id)
        assert (cancelled.status, cancelled.error, cancelled.output) == ("cancelled", None, [])
    settled(shop.organization, 0)


def test_one_that_runs_is_stopped_and_charged_as_far_as_it_came(client, shop, site):
    site.script = until_cancelled
    answer = client.responses.create(model=shop.model.name, input="Say hello", background=True)
    wait_for(lambda: Job.objects.get().state == "running")
    assert client.responses.retrieve(answer.id).status == "in_progress"
    cancelled = client.responses.cancel(answer.id)
    assert cancelled.status == "cancelled"
    assert (cancelled.output[0].status, cancelled.output_text) == ("incomplete", "Hel")
    settled(shop.organization, 2)


def test_what_has_ended_stays_as_it_ended(client, shop, site):
    answer = client.responses.create(model=shop.model.name, input="Say hello", background=True)
    wait_for(lambda: Job.objects.get().is_final)
    assert client.responses.cancel(answer.id).status == "completed"


def test_only_work_in_the_background_is_cancelled_or_streamed_again(client, shop, site):
    answer = client.responses.create(model=shop.model.name, input="Say hello")
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.cancel(answer.id)
    assert refused.value.code == "not_in_background"
    for query in (
        {"stream": True},
        {"stream": False, "starting_after": 2},
        {"include": ["file_search_call.results"]},
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            client.responses.retrieve(answer.id, **query)
        assert refused.value.param == list(query)[-1]


@pytest.mark.story
def test_a_stream_is_read_on_from_where_it_broke(client, shop, site):
    first = client.responses.create(model=shop.model.name, input="Say hello", background=True, stream=True)
    events = []
    for event in first:
        events.append(event)
        if event.type == "response.output_text.delta":
            break
    first.close()
    response_id, seen = events[0].response.id, events[-1].sequence_number
    assert [event.type for event in events[:3]] == ["response.created", "response.queued", "response.in_progress"]
    rest = client.responses.retrieve(response_id, stream=True, starting_after=seen)
    events += rest
    assert [event.sequence_number for event in events] == list(range(11))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "Hello world"
    assert events[-1].response.output_text == "Hello world"
    settled(shop.organization, 2)
    with client.responses.stream(response_id=response_id, starting_after=seen) as stream:
        assert stream.get_final_response().output_text == "Hello world"


def test_hanging_up_leaves_it_running(client, shop, site):
    heard = []

    def script(attempt: Attempt) -> None:
        attempt.claim()
        attempt.say("Hel")
        wait_for(lambda: bool(heard))
        attempt.say("lo")
        attempt.finish()

    site.script = script
    stream = client.responses.create(model=shop.model.name, input="Say hello", background=True, stream=True)
    next(event for event in stream if event.type == "response.output_text.delta")
    stream.close()
    heard.append(True)
    wait_for(lambda: Job.objects.get().is_final)
    assert (Job.objects.get().state, Content.objects.get().text) == ("succeeded", "Hello")
    settled(shop.organization, 2)


@pytest.mark.story
def test_a_stream_that_is_lost_is_made_again_from_the_answer(client, shop, site, valkey):
    answer = client.responses.create(model=shop.model.name, input="Say hello", background=True)
    wait_for(lambda: Job.objects.get().is_final)
    valkey.flushall()
    whole = again(shop, answer.id)
    assert [event["delta"] for event in whole if event["type"] == "response.output_text.delta"] == ["Hello world"]
    (last,) = again(shop, answer.id, starting_after=40)
    assert (last["type"], last["sequence_number"]) == ("response.completed", 41)
    assert last["response"]["output"] == whole[-1]["response"]["output"]


def test_a_failure_is_the_last_event_and_its_status(client, shop, site):
    def script(attempt: Attempt) -> None:
        attempt.claim()
        attempt.finish("failed", failure=Failure(code="too_long", message="The prompt is too long.", status=400))

    site.script = script
    answer = client.responses.create(model=shop.model.name, input="Say hello", background=True)
    wait_for(lambda: Job.objects.get().is_final)
    failed = client.responses.retrieve(answer.id)
    assert (failed.status, failed.error.code, failed.error.reason) == ("failed", "invalid_prompt", "too_long")
    events = again(shop, answer.id)
    assert types_of(events)[-1] == "failed"
    assert events[-1]["response"] == failed.to_dict()
    settled(shop.organization, 0)


def test_a_second_attempt_ends_the_reading_and_not_the_work(client, shop, site):
    """Not streamed, so it runs again although a reader has a part of the first attempt."""

    def script(attempt: Attempt) -> None:
        attempt.claim()
        attempt.say("one" if attempt.order.attempt == 1 else "two")
        if attempt.order.attempt == 2:
            return attempt.finish()
        wait_for(lambda: bool(reading))
        attempt.finish(
            "failed", failure=Failure(code="lost", message="The engine stopped.", status=502, retryable=True)
        )
        return place_again(attempt)

    reading = []
    site.script = script
    answer = client.responses.create(model=shop.model.name, input="Say hello", background=True)
    events = []
    for event in client.responses.retrieve(answer.id, stream=True):
        events.append(event)
        if event.type == "response.output_text.delta":
            reading.append(event.delta)
    assert reading == ["one"]
    assert (events[-1].type, events[-1].code) == ("error", "site_lost")
    wait_for(lambda: Job.objects.get().is_final)
    assert client.responses.retrieve(answer.id).output_text == "two"
    assert types_of(again(shop, answer.id))[-1] == "completed"
    settled(shop.organization, 2)


def test_deleting_what_runs_ends_it_and_keeps_no_text(client, shop, site):
    site.script = until_cancelled
    answer = client.responses.create(model=shop.model.name, input="Say hello", background=True)
    wait_for(lambda: Job.objects.get().state == "running")
    client.responses.delete(answer.id)
    assert not Content.objects.exists()
    wait_for(lambda: Job.objects.get().is_final)
    assert Job.objects.get().state == "cancelled"
    assert not Content.objects.exists()
    settled(shop.organization, 2)


def test_deleting_what_waits_ends_it(client, shop):
    away(shop)
    answer = client.responses.create(model=shop.model.name, input="Say hello", background=True)
    client.responses.delete(answer.id)
    assert Job.objects.get().state == "cancelled"
    assert not Content.objects.exists()
    settled(shop.organization, 0)
