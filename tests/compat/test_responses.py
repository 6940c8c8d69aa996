"""The Responses API with the official client for Python."""

import openai
import pytest

from tests.compat.conftest import CHAT, MOCK


def test_a_whole_response(client):
    answer = client.responses.create(
        model=CHAT, input="Tell me about the site.", instructions="Be brief.", max_output_tokens=12
    )
    assert answer.id.startswith("resp_")
    assert answer.object == "response"
    assert answer.status in {"completed", "incomplete"}
    assert answer.output_text
    assert answer.output[0].type == "message"
    usage = answer.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert usage.model_extra["cost_microusd"] > 0
    found = client.responses.retrieve(answer.id)
    assert (found.id, found.output_text, found.instructions) == (answer.id, answer.output_text, "Be brief.")
    client.responses.delete(answer.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)


def test_the_clients_own_stream_helper_knows_every_event(client):
    with client.responses.stream(model=CHAT, input="Tell me about the site.", max_output_tokens=12) as stream:
        events = list(stream)
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created"
    assert kinds[-1] in {"response.completed", "response.incomplete"}
    assert [event.sequence_number for event in events] == sorted({event.sequence_number for event in events})
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == events[-1].response.output_text


def test_a_conversation_goes_on(client):
    first = client.responses.create(model=CHAT, input="Tell me about the site.", max_output_tokens=6)
    second = client.responses.create(model=CHAT, input="And more.", previous_response_id=first.id, max_output_tokens=6)
    assert second.previous_response_id == first.id
    assert second.usage.input_tokens > first.usage.input_tokens


def test_background_work_is_looked_up_and_cancelled(client, portal, engine):
    engine.control(tokens_per_second=5)
    try:
        made = client.responses.create(model=MOCK, input="Count.", max_output_tokens=500, background=True)
        assert made.status in {"queued", "in_progress"}
        portal.wait_until(lambda: client.responses.retrieve(made.id).status == "in_progress")
        client.responses.cancel(made.id)
        portal.wait_until(lambda: client.responses.retrieve(made.id).status == "cancelled")
    finally:
        engine.control(tokens_per_second=0)
    done = client.responses.create(model=MOCK, input="Count.", max_output_tokens=5, background=True)
    portal.wait_until(lambda: client.responses.retrieve(done.id).status in {"completed", "incomplete"})
    assert client.responses.retrieve(done.id).output_text


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"previous_response_id": "resp_00000000000000000000000000"}, "previous_response_id"),
        ({"max_output_tokens": -1}, "max_output_tokens"),
    ],
)
def test_a_wrong_request_names_its_parameter(client, asked, param):
    with pytest.raises(openai.APIStatusError) as refused:
        client.responses.create(model=CHAT, input="x", **asked)
    assert refused.value.status_code in {400, 404}
    assert refused.value.param == param
