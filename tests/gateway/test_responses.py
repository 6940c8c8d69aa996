"""/v1/responses with the official client: whole and streamed answers, tools, formats, conversations."""

import base64
import json
import time

import httpx
import openai
import pydantic
import pytest
from openai.types.responses import Response, ResponseStreamEvent

from apps.jobs.models import Content, Job
from apps.runner.protocol import Failure
from apps.wire import response_shapes as shapes
from apps.wire.chat import FORWARDED
from apps.wire.items import free_text
from tests import make
from tests.gateway.portal import Attempt, chat
from tests.gateway.test_chat import settled, wait_for
from tests.gateway.test_refusals import nothing_written

EVENT = pydantic.TypeAdapter(ResponseStreamEvent)
PATCH = {"type": "custom", "name": "apply_patch", "description": "Edits files.", "format": {"type": "text"}}
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}


def calls(attempt: Attempt) -> None:
    """Some text, then two calls whose arguments come in pieces."""
    attempt.claim()
    attempt.say("Let me look.")
    for index, city in enumerate(("Bonn", "Rome")):
        call = {"index": index, "id": f"call_{city}", "type": "function", "function": {"name": "weather", "arguments": '{"ci'}}  # fmt: skip
        rest = {"index": index, "function": {"arguments": f'ty":"{city}"}}'}}
        attempt.write(
            [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}],
            [{"index": 0, "delta": {"tool_calls": [rest]}, "finish_reason": None}],
        )
    attempt.write([{"index": 0, "delta": {}, "finish_reason": "tool_calls"}])
    attempt.finish(report=False)
    function = lambda city: {"name": "weather", "arguments": f'{{"city":"{city}"}}'}  # noqa: E731
    said = [{"id": f"call_{city}", "type": "function", "function": function(city)} for city in ("Bonn", "Rome")]
    message = {"role": "assistant", "content": "Let me look.", "tool_calls": said}
    attempt.report_end(finish_reason="tool_calls", result={"choices": [message]})


def cut(attempt: Attempt) -> None:
    attempt.claim()
    attempt.say("Once upon")
    attempt.write([{"index": 0, "delta": {}, "finish_reason": "length"}])
    attempt.finish(choices=0, report=False)
    attempt.report_end(finish_reason="length")


def events_of(shop, **body) -> list[dict]:
    """The events on the wire, each checked against the official types and its own name."""
    answer = httpx.post(
        f"{shop.url}/v1/responses",
        headers={"authorization": f"Bearer {shop.secret}"},
        json={"model": shop.model.name, "input": "Say hello", "stream": True, **body},
        timeout=15,
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    return read(answer.text)


def read(text: str) -> list[dict]:
    assert "[DONE]" not in text
    events = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        if not block.startswith(": "):
            name, data = block.split("\n")
            event = json.loads(data.removeprefix("data: "))
            EVENT.validate_python(event)
            if "response" in event:
                shapes.Response.model_validate(event["response"])
            assert name == f"event: {event['type']}"
            events.append(event)
    return events


def types_of(events: list[dict]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def test_a_response(client, shop, site):
    answer = client.responses.create(
        model=shop.model.name,
        input="Say hello",
        instructions="Be brief.",
        temperature=0,
        max_output_tokens=9,
        metadata={"ticket": "7"},
        user="u1",
    )
    job = Job.objects.get()
    Response.model_validate(answer.to_dict())
    shapes.Response.model_validate(answer.to_dict())
    assert answer.id == f"resp_{job.public_id.removeprefix('job_')}"
    assert (answer.object, answer.status, answer.model) == ("response", "completed", shop.model.name)
    assert abs(answer.created_at - time.time()) < 5
    assert answer.completed_at == int(job.finished_at.timestamp())
    assert answer.output_text == "Hello world"
    (message,) = answer.output
    assert (message.id, message.status, message.role) == (f"msg_{answer.id[5:]}_0", "completed", "assistant")
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (5, 2, 7)
    assert answer.usage.input_tokens_details.cached_tokens == 0
    assert answer.usage.output_tokens_details.reasoning_tokens == 0
    assert answer.usage.cost_microusd == job.charge_microusd == 2
    assert answer.usage.energy_wh == pytest.approx(1 * job.energy_factor)
    assert answer.usage.energy_quality == "modelled"
    assert answer.usage.carbon_gco2e == pytest.approx(job.energy_wh * 0.38)
    assert answer.site == shop.pool.node.site.name
    assert (answer.instructions, answer.temperature, answer.top_p) == ("Be brief.", 0, None)
    assert (answer.max_output_tokens, answer.metadata, answer.user) == (9, {"ticket": "7"}, "u1")
    assert (answer.tools, answer.tool_choice, answer.parallel_tool_calls) == ([], "auto", True)
    assert (answer.truncation, answer.service_tier, answer.text.format.type) == ("disabled", "default", "text")
    assert (answer.error, answer.incomplete_details, answer.background, answer.store) == (None, None, False, True)
    settled(shop.organization, 2)
    (order,) = site.orders
    assert order.body == {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello"}],
        "temperature": 0,
        "max_tokens": 9,
    }


def test_it_is_had_again_by_its_id_at_no_charge(client, shop, site):
    answer = client.responses.create(model=shop.model.name, input="Say hello", metadata={"a": "b"})
    for _ in range(2):
        assert client.responses.retrieve(answer.id).to_dict() == answer.to_dict()
    settled(shop.organization, 2)


def test_what_was_not_to_be_stored_is_not_had_again(client, shop, site):
    answer = client.responses.create(model=shop.model.name, input="Say hello", store=False)
    assert answer.store is False
    with pytest.raises(openai.NotFoundError) as refused:
        client.responses.retrieve(answer.id)
    assert refused.value.code == "response_not_found"
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model=shop.model.name, input="More", previous_response_id=answer.id)
    assert refused.value.code == "previous_response_not_found"


def test_another_organization_finds_nothing(client, shop, site):
    answer = client.responses.create(model=shop.model.name, input="Say hello")
    stranger = client.with_options(api_key=make.api_key(make.organization(credit_microusd=1_000_000))[1])
    words = []
    for response_id in (answer.id, "resp_00000000000000000000000000", "nonsense"):
        for act in (stranger.responses.retrieve, stranger.responses.cancel, stranger.responses.delete, stranger.responses.input_items.list):  # fmt: skip
            with pytest.raises(openai.NotFoundError) as refused:
                act(response_id)
            words.append((refused.value.code, refused.value.body["message"].replace(response_id, "…")))
    assert set(words) == {("response_not_found", "Response with id '…' not found.")}
    with pytest.raises(openai.BadRequestError) as refused:
        stranger.responses.create(model=shop.model.name, input="More", previous_response_id=answer.id)
    assert refused.value.code == "previous_response_not_found"
    assert client.responses.retrieve(answer.id).output_text == "Hello world"
    assert Job.objects.count() == 1


def test_the_events_of_a_stream(shop, site):
    events = events_of(shop)
    assert types_of(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event["sequence_number"] for event in events] == list(range(10))
    assert [event["delta"] for event in events[4:6]] == ["Hello", " world"]
    assert (events[2]["item"]["content"], events[3]["part"]["text"]) == ([], "")
    assert events[6]["text"] == events[7]["part"]["text"] == events[8]["item"]["content"][0]["text"] == "Hello world"
    assert {event.get("item_id", events[2]["item"]["id"]) for event in events[2:8]} == {events[8]["item"]["id"]}
    first, last = events[0]["response"], events[-1]["response"]
    assert (first["status"], first["output"], first["usage"]) == ("in_progress", [], None)
    assert (last["status"], last["output"], last["usage"]["cost_microusd"]) == ("completed", [events[8]["item"]], 2)
    assert last["site"] == shop.pool.node.site.name
    settled(shop.organization, 2)


def test_the_helper_of_the_official_client(client, shop, site):
    site.script = calls
    with client.responses.stream(model=shop.model.name, input="Weather?", tools=[WEATHER]) as stream:
        snapshots = [event.snapshot for event in stream if event.type == "response.function_call_arguments.delta"]
        final = stream.get_final_response()
    assert snapshots == ['{"ci', '{"city":"Bonn"}', '{"ci', '{"city":"Rome"}']
    assert final.output_text == "Let me look."
    assert [call.parsed_arguments for call in final.output[1:]] == [{"city": "Bonn"}, {"city": "Rome"}]
    again = client.responses.retrieve(final.id)
    assert [item.to_dict() for item in again.output] == [
        {name: value for name, value in item.to_dict().items() if name != "parsed_arguments"}
        if item.type == "function_call"
        else {
            **item.to_dict(),
            "content": [{n: v for n, v in part.to_dict().items() if n != "parsed"} for part in item.content],
        }
        for item in final.output
    ]


def test_tools_are_called_and_answered(client, shop, site):
    site.script = calls
    first = client.responses.create(
        model=shop.model.name,
        input="Weather?",
        tools=[WEATHER],
        tool_choice={"type": "function", "name": "weather"},
        parallel_tool_calls=True,
    )
    assert [(item.type, item.status) for item in first.output] == [
        ("message", "completed"),
        ("function_call", "completed"),
        ("function_call", "completed"),
    ]
    bonn, rome = first.output[1:]
    assert (bonn.id, bonn.call_id, bonn.name, bonn.arguments) == (
        f"fc_{first.id[5:]}_1", "call_Bonn", "weather", '{"city":"Bonn"}',
    )  # fmt: skip
    given = [
        {"type": "function_call_output", "call_id": bonn.call_id, "output": "Sun"},
        {"type": "function_call_output", "call_id": rome.call_id, "output": [{"type": "input_text", "text": "Rain"}]},
    ]
    client.responses.create(model=shop.model.name, previous_response_id=first.id, input=given)
    client.responses.create(
        model=shop.model.name, input=[{"role": "user", "content": "Weather?"}, *first.output, *given]
    )
    asked, *others = [order.body for order in site.orders]
    assert asked["tools"] == [{"type": "function", "function": {n: v for n, v in WEATHER.items() if n != "type"}}]
    assert asked["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert asked["parallel_tool_calls"] is True
    function = lambda city: {"name": "weather", "arguments": f'{{"city":"{city}"}}'}  # noqa: E731
    said = [{"id": f"call_{city}", "type": "function", "function": function(city)} for city in ("Bonn", "Rome")]
    for other in others:
        assert other["messages"] == [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "Let me look.", "tool_calls": said},
            {"role": "tool", "tool_call_id": "call_Bonn", "content": "Sun"},
            {"role": "tool", "tool_call_id": "call_Rome", "content": "Rain"},
        ]


def test_a_conversation_goes_on_without_the_earlier_instructions(client, shop, site):
    first = client.responses.create(model=shop.model.name, input="One", instructions="Be brief.")
    second = client.responses.create(
        model=shop.model.name,
        input=[{"role": "developer", "content": "Go on."}, {"role": "user", "content": "Two"}],
        instructions="Be long.",
        previous_response_id=first.id,
    )
    client.responses.delete(first.id)
    third = client.responses.create(model=shop.model.name, input="Three", previous_response_id=second.id)
    assert (second.previous_response_id, third.previous_response_id) == (first.id, second.id)
    said = {"role": "assistant", "content": "Hello world"}
    two = [{"role": "user", "content": "One"}, said, {"role": "system", "content": "Go on."}, {"role": "user", "content": "Two"}]  # fmt: skip
    assert site.orders[1].body["messages"] == [{"role": "system", "content": "Be long."}, *two]
    assert site.orders[2].body["messages"] == [*two, said, {"role": "user", "content": "Three"}]


def test_what_was_said_stays_where_it_had_to(client, shop, site):
    country = shop.pool.node.site.country
    _, secret = make.api_key(shop.organization, residency=(country,))
    first = client.with_options(api_key=secret).responses.create(model=shop.model.name, input="One")
    second = client.responses.create(model=shop.model.name, input="Two", previous_response_id=first.id)
    client.responses.create(model=shop.model.name, input="Three", previous_response_id=second.id)
    assert [job.residency for job in Job.objects.order_by("pk")] == [[country]] * 3


def test_a_schema_for_the_text(client, shop, site):
    class Weather(pydantic.BaseModel):
        city: str

    def script(attempt: Attempt) -> None:
        attempt.claim()
        attempt.say('{"city":', '"Bonn"}')
        attempt.finish()

    site.script = script
    answer = client.responses.parse(model=shop.model.name, input="Weather?", text_format=Weather)
    assert answer.output_parsed == Weather(city="Bonn")
    form = site.orders[0].body["response_format"]
    assert (form["type"], form["json_schema"]["name"], form["json_schema"]["strict"]) == (
        "json_schema",
        "Weather",
        True,
    )
    assert form["json_schema"]["schema"]["required"] == ["city"]
    assert answer.text.format.name == "Weather"
    client.responses.create(model=shop.model.name, input="JSON", text={"format": {"type": "json_object"}})
    assert site.orders[1].body["response_format"] == {"type": "json_object"}


def test_log_probabilities_reasoning_and_refusals(client, shop, site):
    sure = {"token": "No", "logprob": -0.1, "bytes": [78, 111], "top_logprobs": []}

    def script(attempt: Attempt) -> None:
        attempt.claim()
        for delta in ({"reasoning_content": "Hm"}, {"reasoning": "m."}, {"content": "No"}, {"refusal": "I may not."}):
            logprobs = {"content": [sure]} if "content" in delta else None
            attempt.write([{"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": None}])
        attempt.texts.append("No")
        attempt.finish()

    site.script = script
    asked = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    answer = client.responses.create(model=shop.model.name, input="May I?", **asked)
    Response.model_validate(answer.to_dict())
    shapes.Response.model_validate(answer.to_dict())
    thought, message = answer.output
    assert (thought.type, thought.content[0].text) == ("reasoning", "Hmm.")
    text, refusal = message.content
    assert (text.text, text.logprobs[0].to_dict(), refusal.refusal) == ("No", sure, "I may not.")
    assert (site.orders[0].body["logprobs"], site.orders[0].body["top_logprobs"]) == (True, 2)
    events = events_of(shop, **asked)
    assert types_of(events)[2:] == [
        *("output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.delta"),
        *("reasoning_text.done", "content_part.done", "output_item.done"),
        *("output_item.added", "content_part.added", "output_text.delta", "output_text.done", "content_part.done"),
        *("content_part.added", "refusal.delta", "refusal.done", "content_part.done", "output_item.done"),
        "completed",
    ]
    assert events[11]["logprobs"] == [sure]
    assert [(event["output_index"], event["content_index"]) for event in events[14:16]] == [(1, 1), (1, 1)]


def test_an_answer_that_was_cut_is_incomplete(client, shop, site):
    site.script = cut
    answer = client.responses.create(model=shop.model.name, input="A story", max_output_tokens=2)
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert (answer.output[0].status, answer.output_text, answer.completed_at) == ("incomplete", "Once upon", None)
    assert client.responses.retrieve(answer.id).to_dict() == answer.to_dict()
    events = events_of(shop)
    assert types_of(events)[-2:] == ["output_item.done", "incomplete"]
    assert events[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


def test_an_empty_answer_is_an_empty_message(client, shop, site):
    def script(attempt: Attempt) -> None:
        attempt.claim()
        attempt.finish()

    site.script = script
    answer = client.responses.create(model=shop.model.name, input="Say nothing")
    assert [part.text for part in answer.output[0].content] == [""]
    assert client.responses.retrieve(answer.id).to_dict() == answer.to_dict()


@pytest.mark.parametrize("streaming", [False, True])
def test_a_failure_before_the_first_byte_keeps_its_status(client, shop, site, streaming):
    def script(attempt: Attempt) -> None:
        attempt.claim()
        attempt.finish("failed", failure=Failure(code="too_long", message="The prompt is too long.", status=400))

    site.script = script
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model=shop.model.name, input="Say hello", stream=streaming)
    assert refused.value.code == "too_long"
    settled(shop.organization, 0)
    job = Job.objects.get()
    answer = client.responses.retrieve(f"resp_{job.public_id[4:]}")
    assert (answer.status, answer.error.code, answer.error.message) == (
        "failed",
        "invalid_prompt",
        "The prompt is too long.",
    )
    assert answer.output == []


def test_a_failure_after_the_first_byte_is_an_event(shop, site):
    def script(attempt: Attempt) -> None:
        attempt.claim()
        attempt.say("Hel")
        attempt.finish("failed", failure=Failure(code="engine_lost", message="The engine stopped.", status=502))

    site.script = script
    events = events_of(shop)
    assert types_of(events)[4:] == [
        *("output_text.delta", "output_text.done", "content_part.done", "output_item.done", "failed"),
    ]
    response = events[-1]["response"]
    assert (response["status"], response["error"]["reason"]) == ("failed", "engine_lost")
    assert response["error"]["code"] == "server_error"
    assert (response["output"][0]["status"], response["output"][0]["content"][0]["text"]) == ("incomplete", "Hel")
    assert response["usage"]["cost_microusd"] == 2
    settled(shop.organization, 2)


@pytest.mark.story
def test_a_wait_is_told_and_its_end_too(shop):
    shop.model.max_queue_seconds = 3
    shop.model.save()
    shop.pool.ready = False
    shop.pool.save()
    events = events_of(shop)
    assert types_of(events) == ["created", "queued", "failed"]
    assert events[-1]["response"]["error"]["reason"] == "no_capacity"
    settled(shop.organization, 0)


def test_hanging_up_cancels_and_charges_what_came(shop, site):
    waited = []

    def script(attempt: Attempt) -> None:
        attempt.claim()
        attempt.say("Hel")
        waited.append(attempt.wait_for_cancel())
        attempt.finish("cancelled")

    site.script = script
    with httpx.stream(
        "POST",
        f"{shop.url}/v1/responses",
        headers={"authorization": f"Bearer {shop.secret}"},
        json={"model": shop.model.name, "input": "Say hello", "stream": True},
    ) as response:
        next(response.iter_lines())
    wait_for(lambda: Job.objects.get().is_final)
    assert waited[0] < 1
    assert Job.objects.get().state == "cancelled"
    settled(shop.organization, 2)


def test_input_items_page_by_page(client, shop, site):
    sent = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "One"}]},
        {"role": "assistant", "content": "1", "id": "msg_mine"},
        {"role": "user", "content": "Two"},
    ]
    answer = client.responses.create(model=shop.model.name, input=sent)
    items = client.responses.input_items.list(answer.id, limit=3, order="asc")
    assert (items.has_more, len(items.data)) == (True, 3)
    every = list(items)
    assert [item.to_dict() for item in every] == [
        {"id": f"msg_{answer.id[5:]}_in0", "type": "message", "status": "completed", "role": "system", "content": [{"type": "input_text", "text": "Be brief."}]},
        {"id": f"msg_{answer.id[5:]}_in1", "type": "message", "status": "completed", "role": "user", "content": [{"type": "input_text", "text": "One"}]},
        {"id": "msg_mine", "type": "message", "status": "completed", "role": "assistant", "content": [{"type": "output_text", "annotations": [], "text": "1"}]},
        {"id": f"msg_{answer.id[5:]}_in3", "type": "message", "status": "completed", "role": "user", "content": [{"type": "input_text", "text": "Two"}]},
    ]  # fmt: skip
    assert [item.id for item in client.responses.input_items.list(answer.id)] == [item.id for item in every[::-1]]
    for wrong in ({"limit": 0}, {"limit": 101}, {"order": "up"}, {"after": "msg_1"}):
        with pytest.raises(openai.BadRequestError) as refused:
            client.responses.input_items.list(answer.id, **wrong)
        assert refused.value.param == next(iter(wrong))


def test_deleting_takes_the_texts_and_leaves_the_record(client, shop, site, valkey):
    answer = client.responses.create(model=shop.model.name, input="Say hello")
    assert valkey.keys("out:*")
    deleted = client.responses.with_raw_response.delete(answer.id).http_response.json()
    assert deleted == {"id": answer.id, "object": "response", "deleted": True}
    for act in (client.responses.retrieve, client.responses.delete, client.responses.input_items.list):
        with pytest.raises(openai.NotFoundError):
            act(answer.id)
    assert not Content.objects.exists()
    assert not valkey.keys("out:*")
    assert Job.objects.get().energy_wh > 0
    settled(shop.organization, 2)


USER = {"role": "user", "content": "Hello"}
PIXEL = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
WRONG = [
    ({"input": None}, "invalid_type", "input"),
    ({"input": ""}, "empty", "input"),
    ({"input": []}, "invalid_value", "input"),
    ({"input": [{"role": "robot", "content": "x"}]}, "invalid_type", "input[0]"),
    ({"input": [USER, {"type": "item_reference", "id": "msg_1"}]}, "invalid_value", "input[1]"),
    ({"input": [USER, {"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "invalid_value", "input[1].content[0]"),
    ({"input": [USER, {"role": "user", "content": [{"type": "output_text", "text": "f"}]}]}, "invalid_type", "input[1].content[0]"),
    ({"input": [USER, {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "data:"}]}]}, "invalid_value", "input[1].content[1].image_url"),
    ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, "invalid_value", "input[0]"),
    ({"input": [USER, {"type": "reasoning", "summary": [], "encrypted_content": "x"}]}, "invalid_value", "input[1].encrypted_content"),
    ({"input": "x" * 70_000}, "context_length_exceeded", "input"),
    ({"model": "acme/none"}, "model_not_found", "model"),
    ({"max_output_tokens": 1025}, "invalid_value", "max_output_tokens"),
    ({"max_output_tokens": 0}, "invalid_value", "max_output_tokens"),
    ({"max_tokens": 5}, "unknown_parameter", "max_tokens"),
    ({"conversation": "conv_1"}, "unsupported_parameter", "conversation"),
    ({"prompt": {"id": "p"}}, "unsupported_parameter", "prompt"),
    ({"max_tool_calls": 2}, "unsupported_parameter", "max_tool_calls"),
    ({"reasoning": {"effort": "much"}}, "invalid_value", "reasoning.effort"),
    ({"reasoning": {"summary": "short"}}, "invalid_value", "reasoning.summary"),
    ({"text": {"verbosity": "chatty"}}, "invalid_value", "text.verbosity"),
    ({"truncation": "auto"}, "invalid_value", "truncation"),
    ({"include": ["reasoning.encrypted"]}, "invalid_value", "include[0]"),
    ({"top_logprobs": 2}, "invalid_value", "top_logprobs"),
    ({"tools": [WEATHER, {"type": "web_search", "external_web_access": False}]}, "invalid_value", "tools[1].type"),
    ({"tools": [{"type": "local_shell"}]}, "invalid_value", "tools[0].type"),
    ({"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]}, "invalid_value", "tools[0].type"),
    ({"tools": [{"type": "mcp", "server_label": "a", "server_url": "https://a.example"}]}, "invalid_value", "tools[0].type"),
    ({"tools": [{"name": "weather"}]}, "missing_required_parameter", "tools[0].type"),
    ({"tools": [{**PATCH, "format": {"type": "grammar", "syntax": "lark", "definition": "start: X"}}]}, "invalid_value", "tools[0].format"),
    ({"tools": [PATCH, {**WEATHER, "name": "apply_patch"}]}, "invalid_value", "tools"),
    ({"input": [{"type": "local_shell_call", "call_id": "c", "action": {}}]}, "invalid_value", "input[0]"),
    ({"client_metadata": {"a": 1}}, "invalid_type", "client_metadata.a"),
    ({"tool_choice": "required"}, "invalid_value", "tool_choice"),
    ({"tool_choice": {"type": "web_search"}}, "invalid_value", "tool_choice"),
    ({"tools": [WEATHER], "tool_choice": {"type": "function", "name": "other"}}, "invalid_value", "tool_choice"),
    ({"stream_options": {"include_obfuscation": False}}, "invalid_value", "stream_options"),
    ({"background": True, "store": False}, "invalid_value", "background"),
    ({"service_tier": "priority"}, "invalid_value", "service_tier"),
    ({"previous_response_id": "resp_1"}, "previous_response_not_found", "previous_response_id"),
]  # fmt: skip


def test_what_is_refused_is_named(shop, http):
    told = []
    with nothing_written():
        for wrong, _, _ in WRONG:
            body = {"model": shop.model.name, "input": "Hello", **wrong}
            answer = http.post("/v1/responses", headers={"authorization": f"Bearer {shop.secret}"}, json=body)
            error = answer.json()["error"]
            assert answer.status_code == (404 if error["code"] == "model_not_found" else 400), error
            told.append((wrong, error["code"], error["param"]))
    assert told == WRONG


# As codex-rs writes it for a provider that speaks Responses: ResponsesApiRequest of codex-api, ResponseItem of protocol.
CODEX = {
    "instructions": "You are a coding agent.",
    "input": [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "<permissions>"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "<environment_context>"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Fix it."}]},
        {"type": "reasoning", "summary": [], "encrypted_content": None},
        {"type": "function_call", "name": "shell", "arguments": '{"command":["ls"]}', "call_id": "call_1"},
        {"type": "function_call_output", "call_id": "call_1", "output": "a.py"},
        {"type": "custom_tool_call", "status": "completed", "call_id": "call_2", "name": "apply_patch", "input": "*** Begin"},
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": "Done"},
    ],
    "tools": [
        {"type": "function", "name": "shell", "description": "Runs it.", "strict": False, "parameters": {"type": "object"}},
        PATCH,
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "reasoning": {"effort": "medium", "summary": "auto"},
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "019a9b7c-0d35-7a51-8d52-1f1c2a4b5c6d",
    "text": {"verbosity": "low"},
    "client_metadata": {"x-codex-installation-id": "9b2e"},
}  # fmt: skip


def patches(attempt: Attempt) -> None:
    """A call of a tool that takes free text, as an engine writes it: JSON in pieces."""
    attempt.claim()
    call = {"index": 0, "id": "call_3", "type": "function", "function": {"name": "apply_patch", "arguments": '{"inp'}}
    attempt.write([{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}])
    rest = {"index": 0, "function": {"arguments": 'ut":"*** Begin\\n+ä\\"€"}'}}
    attempt.write([{"index": 0, "delta": {"tool_calls": [rest]}, "finish_reason": None}])
    attempt.write([{"index": 0, "delta": {}, "finish_reason": "tool_calls"}])
    attempt.finish(report=False)
    said = {"id": "call_3", "type": "function", "function": {"name": "apply_patch", "arguments": '{"input":"*** Begin\\n+ä\\"€"}'}}  # fmt: skip
    attempt.report_end(finish_reason="tool_calls", result={"choices": [{"role": "assistant", "tool_calls": [said]}]})


TEXT = '*** Begin\n+ä"€'


def test_a_request_as_codex_sends_it(client, shop, site):
    site.script = patches
    events = events_of(shop, **CODEX)
    assert types_of(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "custom_tool_call_input.delta",
        "custom_tool_call_input.done",
        "output_item.done",
        "completed",
    ]
    item = events[-1]["response"]["output"][0]
    assert (item["type"], item["name"], item["call_id"], item["input"]) == (
        "custom_tool_call",
        "apply_patch",
        "call_3",
        TEXT,
    )
    assert item["id"].startswith("ctc_")
    assert (events[3]["delta"], events[4]["input"], events[5]["item"]) == (TEXT, TEXT, item)
    assert events[-1]["response"]["reasoning"] == {"effort": "medium", "summary": "auto"}
    assert events[-1]["response"]["tools"] == CODEX["tools"]
    (order,) = site.orders
    assert order.body["tools"][1]["function"] == {
        "name": "apply_patch",
        "description": "Edits files.",
        "parameters": {
            "type": "object",
            "properties": {"input": {"type": "string"}},
            "required": ["input"],
            "additionalProperties": False,
        },
    }
    assert order.body["messages"][4:] == [
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "shell", "arguments": '{"command":["ls"]}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "a.py"},
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "call_2", "type": "function", "function": {"name": "apply_patch", "arguments": '{"input": "*** Begin"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "call_2", "content": "Done"},
    ]  # fmt: skip
    assert (order.body["reasoning_effort"], order.body["verbosity"]) == ("medium", "low")
    assert "client_metadata" not in order.body
    assert set(order.body) <= {*FORWARDED, "max_tokens"}


def test_a_custom_tool_is_kept_and_gone_on_from(client, shop, site):
    site.script = patches
    choice = {"type": "custom", "name": "apply_patch"}
    answer = client.responses.create(model=shop.model.name, input="Fix it.", tools=[PATCH], tool_choice=choice)
    (call,) = answer.output
    assert (call.type, call.input) == ("custom_tool_call", TEXT)
    assert client.responses.retrieve(answer.id).to_dict() == answer.to_dict()
    assert site.orders[0].body["tool_choice"] == {"type": "function", "function": {"name": "apply_patch"}}
    site.script = chat("Done.")
    done = {"type": "custom_tool_call_output", "call_id": call.call_id, "output": "Done"}
    client.responses.create(model=shop.model.name, input=[done], previous_response_id=answer.id, tools=[PATCH])
    asked = site.orders[1].body["messages"]
    assert json.loads(asked[1]["tool_calls"][0]["function"]["arguments"]) == {"input": TEXT}
    assert asked[2] == {"role": "tool", "tool_call_id": "call_3", "content": "Done"}


@pytest.mark.parametrize("arguments", ["*** Begin", '{"patch": "x"}', '{"input": 1}', '{"input": "a", "b": 2}', "[]"])
def test_free_text_that_an_engine_wrote_otherwise_is_given_as_it_is(arguments):
    assert free_text(arguments) == arguments


def test_a_summary_that_was_asked_for_is_empty(client, shop, site):
    def script(attempt: Attempt) -> None:
        attempt.claim()
        attempt.write([{"index": 0, "delta": {"reasoning_content": "Hm."}, "finish_reason": None}])
        attempt.say("Hello")
        attempt.finish()

    for summary in ("auto", "concise", "detailed", "none"):
        answer = client.responses.create(model=shop.model.name, input="Say hello", reasoning={"summary": summary})
        assert [item.type for item in answer.output] == ["message"]
        assert answer.reasoning.summary == summary
    site.script = script
    thought, _ = client.responses.create(model=shop.model.name, input="Hi", reasoning={"summary": "auto"}).output
    assert (thought.summary, thought.content[0].text) == ([], "Hm.")


def test_encrypted_reasoning_may_be_asked_for_and_is_not_there(client, shop, site):
    def script(attempt: Attempt) -> None:
        attempt.claim()
        attempt.write([{"index": 0, "delta": {"reasoning_content": "Hm."}, "finish_reason": None}])
        attempt.say("Hello")
        attempt.finish()

    site.script = script
    asked = {"include": ["reasoning.encrypted_content"]}
    answer = client.responses.create(model=shop.model.name, input="Say hello", store=False, **asked)
    thought, message = answer.output
    assert (thought.type, thought.encrypted_content, message.content[0].text) == ("reasoning", None, "Hello")
    assert "encrypted_content" not in answer.to_dict()["output"][0]
    assert events_of(shop, store=False, **asked)[-1]["response"]["status"] == "completed"
    kept = client.responses.create(model=shop.model.name, input="Say hello", **asked)
    assert client.responses.retrieve(kept.id, **asked).id == kept.id


def test_what_the_engine_cannot_do_is_refused_in_the_words_of_the_request(shop, http):
    shop.model.capabilities = []
    shop.model.save()
    told = []
    asked = [
        {"reasoning": {"effort": "high"}},
        {"text": {"verbosity": "low"}},
        {"text": {"format": {"type": "json_object"}}},
        {"include": ["message.output_text.logprobs"]},
        {"tools": [WEATHER]},
        {"input": [USER, {"role": "user", "content": [{"type": "input_image", "image_url": PIXEL}]}]},
    ]
    with nothing_written():
        for given in asked:
            body = {"model": shop.model.name, "input": "Hello", **given}
            answer = http.post("/v1/responses", headers={"authorization": f"Bearer {shop.secret}"}, json=body)
            assert answer.json()["error"]["code"] == "unsupported_parameter"
            told.append(answer.json()["error"]["param"])
    assert told == ["reasoning.effort", "text.verbosity", "text.format", "include", "tools", "input[1].content[0]"]


def test_without_credit_nothing_is_left(client, shop):
    poor = client.with_options(api_key=make.api_key(make.organization())[1])
    with nothing_written(), pytest.raises(openai.APIStatusError) as refused:
        poor.responses.create(model=shop.model.name, input="Hello")
    assert (refused.value.status_code, refused.value.code) == (402, "insufficient_credit")


def test_a_conversation_stays_within_the_size_of_a_body(client, shop, site, settings):
    settings.MAX_BODY_BYTES = 4_000
    first = client.responses.create(model=shop.model.name, input="x" * 2_000)
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model=shop.model.name, input="y" * 2_000, previous_response_id=first.id)
    assert (refused.value.param, refused.value.code) == ("previous_response_id", "context_length_exceeded")
    assert Job.objects.count() == 1
