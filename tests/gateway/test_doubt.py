"""What a client is told when something went wrong that should not have."""

import time

import openai
import pytest

from apps.dispatch.dispatcher import Dispatcher
from apps.gateway import answers
from apps.jobs.models import Job
from apps.runner.protocol import Failure
from tests.gateway.portal import Attempt
from tests.ledger.books import balanced

ASK = [{"role": "user", "content": "Say hello."}]
AWAY = Failure(code="engine_unavailable", message="The engine stopped.", status=503, retryable=True)


def test_nothing_is_delivered_twice_even_where_a_runner_says_nothing_was(client, shop, site):
    def script(attempt: Attempt) -> None:
        attempt.claim()
        if attempt.order.attempt == 1:
            attempt.say("Hello")
            time.sleep(0.3)  # the client has it
            attempt.report_end("failed", failure=AWAY, streamed=False)
            Dispatcher().feed()
        else:
            attempt.say("Hello", " world")
            attempt.wait_for_cancel()
            attempt.report_end("cancelled")

    site.script = script
    heard = []
    stream = client.chat.completions.create(model=shop.model.name, messages=ASK, stream=True)
    with pytest.raises(openai.APIError) as failed:
        heard.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    assert "".join(heard) == "Hello"
    assert failed.value.code == "site_lost"
    site.stopping.set()
    site.thread.join(10)
    assert Job.objects.get().state == "cancelled"
    balanced()


@pytest.mark.parametrize("stream", [False, True])
def test_a_mistake_after_acceptance_cancels_the_job_and_promises_nothing(client, shop, site, monkeypatch, stream):
    async def broken(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(answers, "whole", broken)
    monkeypatch.setattr(answers, "chunks", broken)
    site.script = lambda attempt: None
    with pytest.raises(openai.InternalServerError) as failed:
        client.chat.completions.create(model=shop.model.name, messages=ASK, stream=stream)
    assert "charged" not in failed.value.message
    job = Job.objects.get()
    assert (job.state, job.charge_microusd) == ("cancelled", 0)
    balanced()


def test_a_model_name_with_a_character_no_text_can_hold_is_unknown(http, shop):
    answer = http.get("/v1/models/a%00b", headers={"authorization": f"Bearer {shop.secret}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
