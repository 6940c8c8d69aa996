import json
import time
from uuid import UUID

import httpx
import openai
import pytest

from apps.accounts.models import Organization
from apps.dispatch import backlog, outbox
from apps.jobs.models import Job
from apps.ledger import services as ledger
from apps.ledger.models import Hold
from apps.live import bell
from apps.runner.protocol import Failure
from apps.scheduling import placement, selectors
from apps.sites.models import Site
from cango_portal import database
from tests.gateway.portal import Attempt, chat

ASK = [{"role": "user", "content": "Say hello"}]


def settled(organization: Organization, charge: int) -> None:
    """One final job, charged so much; no hold left."""
    job = Job.objects.get()
    assert job.is_final
    assert job.charge_microusd == charge
    assert not Hold.objects.filter(state="open").exists()
    balance = ledger.balance(organization.pk)
    assert balance.held_microusd == 0
    assert balance.available_microusd == 1_000_000 - charge


def test_an_answer(client, shop, site):
    Site.objects.update(market_gco2e_per_kwh=19)
    answer = client.chat.completions.create(model=shop.model.name, messages=ASK, temperature=0, max_completion_tokens=9)
    job = Job.objects.get()
    assert answer.id == f"chatcmpl-{job.public_id.removeprefix('job_')}"
    assert answer.object == "chat.completion"
    assert abs(answer.created - time.time()) < 5
    assert answer.model == shop.model.name
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", "Hello world", "stop")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (5, 2, 7)
    assert answer.usage.completion_tokens_details.reasoning_tokens == 0
    assert answer.usage.cost_microusd == job.charge_microusd == 2  # 5 × 0.12 and 2 × 0.36, each rounded up
    assert answer.usage.energy_wh == pytest.approx(1 * job.energy_factor)
    assert answer.usage.energy_quality == "modelled"
    assert answer.usage.carbon_gco2e == pytest.approx(job.energy_wh * 0.38)
    assert answer.usage.carbon_market_gco2e == pytest.approx(job.energy_wh * 0.019)
    assert answer.site == shop.pool.node.site.name
    settled(shop.organization, 2)
    (order,) = site.orders
    assert order.body == {"messages": ASK, "temperature": 0, "max_tokens": 9}
    assert order.max_completion_tokens == 9


def test_headers(client, shop, site):
    raw = client.chat.completions.with_raw_response.create(model=shop.model.name, messages=ASK)
    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.parse()._request_id == raw.headers["x-request-id"]
    assert raw.headers["openai-version"] == "2020-10-01"
    assert int(raw.headers["openai-processing-ms"]) >= 0
    assert raw.headers["openai-organization"] == shop.organization.public_id
    assert raw.headers["x-job-id"] == Job.objects.get().public_id


def test_a_stream(client, shop, site):
    stream = client.chat.completions.create(model=shop.model.name, messages=ASK, stream=True)
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello world"
    assert {(chunk.id, chunk.created, chunk.object) for chunk in chunks} == {
        (chunks[0].id, chunks[0].created, "chat.completion.chunk")
    }
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None, "stop"]
    assert all(chunk.usage is None for chunk in chunks)
    settled(shop.organization, 2)


def test_a_stream_with_usage_ends_with_the_settled_cost(client, shop, site):
    stream = client.chat.completions.create(
        model=shop.model.name, messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = list(stream)
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert (last.usage.prompt_tokens, last.usage.completion_tokens, last.usage.cost_microusd) == (5, 2, 2)
    assert last.site == shop.pool.node.site.name


def test_the_events_on_the_wire(shop, site):
    with httpx.stream(
        "POST",
        f"{shop.url}/v1/chat/completions",
        headers={"authorization": f"Bearer {shop.secret}"},
        json={"model": shop.model.name, "messages": ASK, "stream": True, "stream_options": {"include_usage": True}},
    ) as response:
        lines = response.read().decode().split("\n\n")
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert lines[-2:] == ["data: [DONE]", ""]
    events = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    assert [event["usage"] is None for event in events] == [True, True, True, False]
    assert all("\n" not in line for line in lines)


def test_pieces_arrive_as_they_are_written(client, shop, site):
    def slowly(attempt: Attempt) -> None:
        attempt.claim()
        for word in ("a", "b", "c"):
            attempt.say(word)
            time.sleep(0.15)
        attempt.finish()

    site.script = slowly
    times = [
        time.monotonic()
        for chunk in client.chat.completions.create(model=shop.model.name, messages=ASK, stream=True)
        if chunk.choices[0].delta.content
    ]
    assert len(times) == 3
    assert times[1] - times[0] > 0.1
    assert times[2] - times[1] > 0.1


def test_several_choices_tools_and_logprobs(client, shop, site):
    def script(attempt: Attempt) -> None:
        attempt.claim()
        call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"ci'}}
        attempt.write([{"index": 0, "delta": {"role": "assistant", "tool_calls": [call]}, "finish_reason": None}])
        attempt.write(
            [
                {
                    "index": 0,
                    "delta": {"tool_calls": [{"index": 0, "function": {"arguments": 'ty":"Bonn"}'}}]},
                    "finish_reason": "tool_calls",
                }
            ],
            [
                {
                    "index": 1,
                    "delta": {"content": "No"},
                    "logprobs": {"content": [{"token": "No", "logprob": -0.1, "bytes": [78, 111], "top_logprobs": []}]},
                    "finish_reason": "length",
                }
            ],
        )
        attempt.finish(choices=0)

    site.script = script
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    answer = client.chat.completions.create(
        model=shop.model.name, messages=ASK, n=2, tools=tools, tool_choice="auto", logprobs=True, top_logprobs=1
    )
    first, second = answer.choices
    assert first.message.content is None
    assert first.message.tool_calls[0].function.arguments == '{"city":"Bonn"}'
    assert first.message.tool_calls[0].id == "call_1"
    assert (first.finish_reason, second.finish_reason) == ("tool_calls", "length")
    assert second.logprobs.content[0].token == "No"
    assert second.message.content == "No"
    assert Job.objects.get().max_completion_tokens == 2 * shop.model.max_output_tokens


def test_an_overlap_is_cut_and_a_lost_stream_is_survived(client, shop, site):
    def script(attempt: Attempt) -> None:
        attempt.claim()
        attempt.say("one", " two")
        time.sleep(0.2)
        attempt.client.delete(attempt.key)
        attempt.say(" three")  # after a gap: it must wait for what is missing
        attempt.write(
            *([{"index": 0, "delta": {"content": text}, "finish_reason": None}] for text in attempt.texts), seq=0
        )
        attempt.say(" four")
        attempt.finish()

    site.script = script
    stream = client.chat.completions.create(model=shop.model.name, messages=ASK, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "one two three four"


def test_the_rest_comes_from_what_was_stored_when_the_stream_is_gone(client, shop, site, valkey):
    def script(attempt: Attempt) -> None:
        attempt.claim()
        attempt.say("one", " two")
        time.sleep(0.2)
        valkey.flushall()
        attempt.texts.append(" three")
        attempt.report_end()

    site.script = script
    stream = client.chat.completions.create(model=shop.model.name, messages=ASK, stream=True)
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "one two three"
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_lost_bells_delay_and_lose_nothing(client, shop, site, valkey):
    def script(attempt: Attempt) -> None:
        attempt.client.client_kill_filter(_type="pubsub")
        chat("Hello", " world")(attempt)

    site.script = script
    answer = client.chat.completions.create(model=shop.model.name, messages=ASK)
    assert answer.choices[0].message.content == "Hello world"


def test_an_unsettled_answer_goes_without_its_cost(client, shop, site):
    def script(attempt: Attempt) -> None:
        attempt.claim()
        attempt.say("Hello")
        attempt.finish(report=False)

    site.script = script
    began = time.monotonic()
    answer = client.chat.completions.create(model=shop.model.name, messages=ASK)
    assert time.monotonic() - began < 3
    assert answer.choices[0].message.content == "Hello"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 1)
    assert not hasattr(answer.usage, "cost_microusd")


@pytest.mark.parametrize("streaming", [False, True])
def test_a_failure_before_the_first_byte_keeps_its_status(client, shop, site, streaming):
    def script(attempt: Attempt) -> None:
        attempt.claim()
        failure = Failure(
            code="context_length_exceeded", message="The prompt is too long.", status=400, param="messages"
        )
        attempt.finish("failed", failure=failure)

    site.script = script
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=shop.model.name, messages=ASK, stream=streaming)
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "messages")
    assert refused.value.response.headers["x-job-id"] == Job.objects.get().public_id
    settled(shop.organization, 0)


def test_a_failure_after_the_first_byte_is_an_event(client, shop, site):
    def script(attempt: Attempt) -> None:
        attempt.claim()
        attempt.say("Hel")
        attempt.finish(
            "failed", failure=Failure(code="engine_lost", message="The engine stopped.", status=502, retryable=True)
        )

    site.script = script
    stream = client.chat.completions.create(model=shop.model.name, messages=ASK, stream=True)
    assert next(stream).choices[0].delta.content == "Hel"
    with pytest.raises(openai.APIError) as failed:
        next(stream)
    assert failed.value.code == "engine_lost"
    settled(shop.organization, 2)


def test_hanging_up_cancels_within_a_second_and_charges_what_came(shop, site):
    waited = []

    def script(attempt: Attempt) -> None:
        attempt.claim()
        attempt.say("Hel")
        waited.append(attempt.wait_for_cancel())
        attempt.finish("cancelled")

    site.script = script
    with httpx.stream(
        "POST",
        f"{shop.url}/v1/chat/completions",
        headers={"authorization": f"Bearer {shop.secret}"},
        json={"model": shop.model.name, "messages": ASK, "stream": True},
    ) as response:
        next(response.iter_lines())
    wait_for(lambda: Job.objects.get().is_final)
    assert waited[0] < 1
    assert Job.objects.get().state == "cancelled"
    settled(shop.organization, 2)


def test_hanging_up_in_the_queue_ends_the_job_at_no_cost(shop):
    shop.model.max_queue_seconds = 30
    shop.model.save()
    shop.pool.ready = False
    shop.pool.save()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{shop.url}/v1/chat/completions",
            headers={"authorization": f"Bearer {shop.secret}"},
            json={"model": shop.model.name, "messages": ASK},
            timeout=0.3,
        )
    wait_for(lambda: Job.objects.get().is_final, seconds=1)
    assert Job.objects.get().state == "cancelled"
    settled(shop.organization, 0)


def test_no_capacity_is_a_503_and_holds_nothing(client, shop):
    shop.pool.ready = False
    shop.pool.save()
    began = time.monotonic()
    with pytest.raises(openai.InternalServerError) as refused:
        client.chat.completions.create(model=shop.model.name, messages=ASK)
    assert 0.9 < time.monotonic() - began < 4
    assert (refused.value.status_code, refused.value.code) == (503, "no_capacity")
    assert int(refused.value.response.headers["retry-after"]) >= 1
    assert Job.objects.get().state == "expired"
    settled(shop.organization, 0)


@pytest.mark.story
def test_no_capacity_after_the_stream_began_is_an_event(client, shop):
    shop.model.max_queue_seconds = 3
    shop.model.save()
    shop.pool.ready = False
    shop.pool.save()
    response = httpx.post(
        f"{shop.url}/v1/chat/completions",
        headers={"authorization": f"Bearer {shop.secret}"},
        json={"model": shop.model.name, "messages": ASK, "stream": True},
        timeout=10,
    )
    assert response.status_code == 200
    comment, error, done, _ = response.text.split("\n\n")
    assert comment == ": queued position=1"
    assert json.loads(error.removeprefix("data: "))["error"]["code"] == "no_capacity"
    assert done == "data: [DONE]"
    settled(shop.organization, 0)


def test_an_attempt_that_ended_before_the_first_piece_is_followed_by_the_next(client, shop, site):
    def script(attempt: Attempt) -> None:
        attempt.claim()
        if attempt.order.attempt == 1:
            attempt.finish(
                "failed", failure=Failure(code="engine_lost", message="The engine stopped.", status=502, retryable=True)
            )
            place_again(attempt)
        else:
            attempt.say("Hello")
            attempt.finish()

    site.script = script
    stream = client.chat.completions.create(model=shop.model.name, messages=ASK, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "Hello"
    assert [order.attempt for order in site.orders] == [1, 2]


def place_again(attempt: Attempt) -> None:
    """What the dispatcher does with a queued job."""
    ranked = placement.rank(database.run(selectors.views()))
    assigned = database.run(
        backlog.assign(UUID(attempt.order.job), attempt=attempt.order.attempt + 1, chosen=ranked[0], ranked=ranked)
    )
    assert assigned is not None
    order, topics = assigned
    outbox.publish(order)
    bell.ring(*topics)


def wait_for(true, seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
