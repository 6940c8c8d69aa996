"""The same request again finds its job: one job, one hold, one charge, and the same answer."""

import contextlib
import itertools
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import openai
import pytest

from apps.core.ids import uuid7
from apps.dispatch import outbox, receipts
from apps.dispatch.models import Order, Receipt
from apps.jobs.models import Content, Job
from apps.ledger import services as ledger
from apps.ledger.models import Hold, Transfer
from apps.runner import protocol
from apps.runner.answer import Answer
from apps.runner.protocol import Failure
from apps.wire.completions import Completion, message
from apps.wire.text import TextCompletion
from cango_portal import database
from tests import make
from tests.gateway.portal import Attempt, chat

ASK = [{"role": "user", "content": "Say hello"}]
CHARGE = 2  # 5 tokens × 0.12 and 2 × 0.36, each rounded up


@pytest.fixture
def send(shop, http):
    def send(key=None, *, path="/v1/chat/completions", secret=shop.secret, headers=None, **fields):
        given = {"authorization": f"Bearer {secret}", **({} if key is None else {"idempotency-key": key})}
        body = {"model": shop.model.name, "messages": ASK, **fields}
        return http.post(path, headers=given | (headers or {}), json=body)

    return send


def charged(organization, microusd):
    balance = ledger.balance(organization.pk)
    assert (balance.held_microusd, balance.available_microusd) == (0, 1_000_000 - microusd)


def replayed(response) -> bool:
    return response.headers.get("idempotent-replayed") == "true"


def error(response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def slowly(attempt: Attempt) -> None:
    attempt.claim()
    attempt.say("Hello")
    time.sleep(0.5)
    attempt.say(" world")
    attempt.finish()


def until_gone(attempt: Attempt) -> None:
    attempt.claim()
    attempt.say("Hello")
    attempt.wait_for_cancel()
    attempt.finish("cancelled")


@contextlib.contextmanager
def hung_up(shop, key):
    """A client that goes away while its job runs."""
    url = urlsplit(shop.url)
    with socket.create_connection((url.hostname, url.port)) as line:
        body = f'{{"model":"{shop.model.name}","messages":[{{"role":"user","content":"Say hello"}}],"stream":true}}'
        line.sendall(
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {shop.secret}\r\n"
            f"idempotency-key: {key}\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
        )
        assert b"200 OK" in line.recv(100)
        yield body.encode()


def until(what, seconds=10):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


# With a key


@pytest.mark.parametrize("streaming", [False, True])
def test_the_same_again_gets_the_same_answer_of_the_same_job(shop, site, send, valkey, streaming):
    first = send("order 7", stream=streaming)
    again = send("order 7", stream=streaming)
    valkey.flushall()  # the stream is gone: what was stored tells it
    stored = send("order 7", stream=streaming)
    assert [response.status_code for response in (first, again, stored)] == [200, 200, 200]
    assert [replayed(response) for response in (first, again, stored)] == [False, True, True]
    assert {response.headers["x-job-id"] for response in (first, again, stored)} == {Job.objects.get().public_id}
    if streaming:
        assert again.text == first.text
        assert "Hello world" in stored.text
    else:
        assert again.json() == stored.json() == first.json()
    assert len(site.orders) == Hold.objects.count() == Receipt.objects.count() == 1
    charged(shop.organization, CHARGE)


SURE = [{"token": token, "logprob": -0.1, "bytes": None, "top_logprobs": []} for token in ("Hel", "lo")]
CALL = {"id": "call_1", "type": "function", "function": {"name": "power", "arguments": "{}"}}
TEXT_SURE = {"tokens": ["Hel"], "token_logprobs": [-0.1], "top_logprobs": [{"Hel": -0.1}], "text_offset": [0]}


def all_that_is_said(attempt: Attempt) -> None:
    """Reasoning, two choices, their tokens' probabilities and a call, kept as the runner keeps them."""
    attempt.claim()
    chunks = [
        [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}],
        [{"index": 0, "delta": {"reasoning_content": "Hm."}, "finish_reason": None}],
        *(
            [{"index": 0, "delta": {"content": sure["token"]}, "logprobs": {"content": [sure]}, "finish_reason": None}]
            for sure in SURE
        ),
        [{"index": 1, "delta": {"tool_calls": [{"index": 0, **CALL}]}, "finish_reason": None}],
        [{"index": 0, "delta": {}, "finish_reason": "stop"}, {"index": 1, "delta": {}, "finish_reason": "tool_calls"}],
    ]
    if attempt.order.kind == "completion":
        chunks = [[{"index": 0, "delta": {"content": "Hel"}, "logprobs": TEXT_SURE, "finish_reason": "stop"}]]
    attempt.write(*chunks)
    attempt.finish("succeeded", choices=0, report=False)
    answer = Answer()
    for chunk in chunks:
        answer.add(chunk)
    attempt.texts.append(answer.text)
    attempt.report_end(result={"choices": answer.messages()}, finish_reason=answer.finish_reason)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"logprobs": True, "n": 2}),
        ("/v1/completions", {"messages": None, "prompt": "Say", "logprobs": 1}),
        (
            "/v1/responses",
            {"messages": None, "input": "Say", "include": ["message.output_text.logprobs"], "top_logprobs": 1},
        ),
    ],
)
def test_when_the_stream_is_gone_the_answer_is_the_same_to_the_byte(shop, site, http, valkey, path, body):
    site.script = all_that_is_said
    given = {"model": shop.model.name, "messages": ASK, **body}
    given = {name: value for name, value in given.items() if value is not None}

    def send(**fields):
        headers = {"authorization": f"Bearer {shop.secret}", "idempotency-key": f"one {fields}"}
        return http.post(path, headers=headers, json={**given, **fields})

    first = send()
    assert first.status_code == 200
    assert "Hel" in first.text
    assert "prob" in first.text
    streamed = send(stream=True)
    valkey.flushall()
    again = send()
    assert (replayed(again), again.content) == (True, first.content)
    assert said_in(send(stream=True)) == said_in(streamed)
    if path == "/v1/responses":
        kept = http.get(
            f"{path}/{first.json()['id']}?include=message.output_text.logprobs&include=reasoning.encrypted_content",
            headers={"authorization": f"Bearer {shop.secret}"},
        )
        assert kept.json()["output"] == first.json()["output"]
        assert kept.json()["output"][1]["content"][0]["logprobs"] == SURE
    assert Job.objects.count() == len(site.orders) == 2


def said_in(response) -> object:
    """What a stream adds up to, in however many pieces."""
    events = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
    if "sequence_number" in events[-1]:
        return events[-1]["response"]["output"]
    whole = TextCompletion if "text" in events[0]["choices"][0] else Completion
    told = whole(job_id=uuid7(), model="")
    for event in events:
        told.gather(
            [
                [
                    {**choice, "delta": choice.get("delta") or {"content": choice.get("text")}}
                    for choice in event["choices"]
                ]
            ]
        )
    return (
        told.parts
        if whole is TextCompletion
        else [message(part) | {"logprobs": part["logprobs"]} for part in told.parts.values()]
    )


@pytest.mark.story
def test_sixty_four_at_once_make_one_job(shop, site, send):
    site.script = slowly
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda _: send("one", max_completion_tokens=9), range(64)))
    assert {response.status_code for response in answers} == {200}
    contents = {response.json()["choices"][0]["message"]["content"] for response in answers}
    assert contents == {"Hello world"}
    assert sum(not replayed(response) for response in answers) == 1
    assert len({response.json()["id"] for response in answers}) == 1
    assert Job.objects.count() == Hold.objects.count() == Content.objects.count() == len(site.orders) == 1
    assert Transfer.objects.filter(key__startswith="reserve:").count() == 1
    assert Transfer.objects.filter(key__endswith=":charge").count() == 1
    until(lambda: site.client.zcard(f"slots:{shop.pool.code}") == 0)
    charged(shop.organization, CHARGE)


def test_another_body_with_the_key_is_refused_and_writes_nothing(shop, site, send):
    send("one")
    refused = send("one", temperature=0)
    assert error(refused) == (409, "idempotency_key_reused")
    assert refused.headers["x-should-retry"] == "false"
    assert error(send("one", path="/v1/embeddings", messages=None, input="x"))[0] == 400  # refused before it is known
    assert Job.objects.count() == Hold.objects.count() == Receipt.objects.count() == 1
    assert Order.objects.count() == 0
    charged(shop.organization, CHARGE)


def test_a_key_belongs_to_its_api_key_and_lasts_a_day(shop, site, send):
    send("one")
    _, other = make.api_key(shop.organization, name="other")
    assert not replayed(send("one", secret=other))
    assert Job.objects.count() == 2
    receipt = Receipt.objects.earliest("job_id")
    Receipt.objects.update(created_at="2026-01-01T00:00:00Z")
    assert not replayed(send("one", temperature=0))  # what it stood for is forgotten, another body is welcome
    assert Job.objects.count() == 3
    assert Receipt.objects.count() == 2
    assert not Receipt.objects.filter(job_id=receipt.job_id).exists()


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there", "caf\xe9"])
def test_a_key_that_is_none_is_refused(shop, send, key):
    refused = send(headers={"idempotency-key": key.encode("latin-1")})
    assert error(refused) == (400, "invalid_idempotency_key")
    assert Job.objects.count() == 0


def test_a_refusal_stores_nothing(shop, site, send, client):
    poor = make.organization(credit_microusd=1)
    _, secret = make.api_key(poor)
    assert error(send("one", secret=secret)) == (402, "insufficient_credit")
    assert Receipt.objects.count() == 0
    ledger.grant(organization=poor, microusd=1_000_000, key="more", reason="test", actor="test")
    assert send("one", secret=secret).status_code == 200


def test_a_failure_of_ours_that_cost_nothing_runs_anew_and_another_is_told_again(shop, site, send):
    def fail(status):
        def script(attempt: Attempt) -> None:
            attempt.claim()
            attempt.finish("failed", failure=Failure(code="engine_said_no", message="No.", status=status))

        return script

    site.script = fail(502)
    assert error(send("one")) == (502, "engine_said_no")
    site.script = chat("Hello", " world")
    assert not replayed(send("one"))
    assert replayed(send("one"))
    site.script = fail(400)
    assert error(send("two")) == (400, "engine_said_no")
    again = send("two")
    assert (error(again), replayed(again), again.headers["x-should-retry"]) == ((400, "engine_said_no"), True, "false")
    assert len(site.orders) == 3
    assert sorted(Job.objects.values_list("state", flat=True)) == ["failed", "failed", "succeeded"]
    charged(shop.organization, CHARGE)


def test_an_answer_that_is_not_stored_any_more_is_not_made_again(shop, site, send, valkey):
    send("one")
    Content.objects.update(sealed_request=None, sealed_answer=None)
    refused = send("one")
    assert error(refused) == (409, "answer_not_kept")
    assert refused.headers["x-should-retry"] == "false"
    assert Job.objects.count() == 1


def test_after_a_crash_between_commit_and_answer_the_retry_gets_the_answer(shop, site, send, monkeypatch):
    real, crashes = outbox.publish_async, itertools.chain([True], itertools.repeat(False))

    async def publish(order):
        if next(crashes):
            raise RuntimeError("the process is gone")
        await real(order)

    monkeypatch.setattr("apps.dispatch.admission.outbox.publish_async", publish)
    assert send("one").status_code == 500
    outbox.publish(outbox_order())  # what the dispatcher does
    again = send("one")
    assert (again.status_code, replayed(again)) == (200, True)
    assert Job.objects.count() == Hold.objects.count() == 1
    charged(shop.organization, CHARGE)


def outbox_order():
    order = Order.objects.select_related("job__content").get()
    return protocol.Order.model_validate({**order.body, "body": order.job.content.request})


# Who follows a job


def test_the_last_one_to_hang_up_cancels(shop, site, send, http):
    site.script = slowly
    with ThreadPoolExecutor(1) as pool:
        with hung_up(shop, "one") as body:
            headers = {"authorization": f"Bearer {shop.secret}", "idempotency-key": "one"}
            again = pool.submit(http.post, "/v1/chat/completions", headers=headers, content=body)
            until(lambda: Receipt.objects.get().followers == 2)
        until(lambda: Receipt.objects.get().followers == 1)
        answer = again.result()
    assert (answer.status_code, replayed(answer)) == (200, True)
    assert Job.objects.get().state == "succeeded"
    charged(shop.organization, CHARGE)


def test_hung_up_on_and_charged_is_told_again_and_never_done_twice(shop, site, http):
    site.script = until_gone
    with hung_up(shop, "one") as body:
        pass
    until(lambda: Receipt.objects.get().followers == 0)  # who comes before it is noticed goes on with the job
    headers = {"authorization": f"Bearer {shop.secret}", "idempotency-key": "one"}
    again = http.post("/v1/chat/completions", headers=headers, content=body)  # waits for the end of the first
    job = Job.objects.get()
    assert (job.state, job.charge_microusd) == ("cancelled", 2)
    assert replayed(again)
    assert '"code":"job_cancelled"' in again.text


def test_hung_up_on_before_it_cost_anything_runs_anew(shop, site, http):
    def never_says(attempt: Attempt) -> None:
        attempt.claim()
        attempt.usage = attempt.usage.model_copy(update={"prompt_tokens": 0})
        attempt.write([{"index": 0, "delta": {"role": "assistant"}, "finish_reason": None}])
        attempt.wait_for_cancel()
        site.script = chat("Hello", " world")
        attempt.finish("cancelled")

    site.script = never_says
    with hung_up(shop, "one") as body:
        pass
    until(lambda: Receipt.objects.get().followers == 0)  # who comes before it is noticed goes on with the job
    headers = {"authorization": f"Bearer {shop.secret}", "idempotency-key": "one"}
    again = http.post("/v1/chat/completions", headers=headers, content=body)
    assert (again.status_code, replayed(again)) == (200, False)
    assert [job.state for job in Job.objects.order_by("pk")] == ["cancelled", "succeeded"]
    charged(shop.organization, CHARGE)


# Without a key: the official client's own retries


class Gate:
    """Stands before the portal and drops the first connection once the whole request went through."""

    def __init__(self, url: str, *, holding: bool) -> None:
        self.portal = urlsplit(url)
        self.holding = holding  # the portal does not notice
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        self.seen = 0
        self.held: list[socket.socket] = []
        self.thread = threading.Thread(target=self.run)

    def __enter__(self) -> "Gate":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()
        self.thread.join(10)
        for each in self.held:
            each.close()

    def run(self) -> None:
        self.listener.settimeout(0.1)
        while self.listener.fileno() >= 0:
            with contextlib.suppress(TimeoutError, OSError):
                line, _ = self.listener.accept()
                self.seen += 1
                threading.Thread(target=self.carry, args=(line, self.seen == 1)).start()

    def carry(self, line: socket.socket, dropped: bool) -> None:
        onward = socket.create_connection((self.portal.hostname, self.portal.port))
        line.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            while part := line.recv(65536):
                onward.sendall(part)
                if dropped:
                    break
        if dropped:
            time.sleep(0.2)
            line.close()
            if self.holding:
                self.held.append(onward)
            else:
                onward.close()
            return
        with contextlib.suppress(OSError):
            while part := onward.recv(65536):
                line.sendall(part)
        line.close()
        onward.close()


@pytest.mark.story
@pytest.mark.parametrize("holding", [True, False])
def test_the_official_client_tries_again_and_pays_once(shop, site, holding):
    def script(attempt: Attempt) -> None:
        attempt.claim()
        attempt.say("Hello")
        try:
            attempt.wait_for_cancel(seconds=1.5 if len(site.orders) == 1 else 0.1)
        except AssertionError:  # still wanted
            attempt.say(" world")
            attempt.finish()
        else:
            attempt.finish("cancelled")

    site.script = script
    with (
        Gate(shop.url, holding=holding) as gate,
        openai.OpenAI(
            base_url=gate.url,
            api_key=shop.secret,
            timeout=20,
            http_client=httpx.Client(headers={"connection": "close"}),
        ) as client,
    ):
        answer = client.chat.completions.create(model=shop.model.name, messages=ASK)
        assert gate.seen == 2
    assert answer.choices[0].message.content == "Hello world"
    assert Job.objects.get().state == "succeeded"  # the next try was there before the first was given up
    until(lambda: not Hold.objects.filter(state="open").exists())


def test_a_retry_without_a_key_finds_only_its_own_bytes_of_the_last_ten_minutes(shop, site, send):
    retry = {"x-stainless-retry-count": "1"}
    first = send()
    assert not replayed(send())
    assert not replayed(send(headers=retry, temperature=0))
    again = send(headers=retry)
    assert replayed(again)
    assert again.headers["x-job-id"] != first.headers["x-job-id"]  # the newest of two alike
    Receipt.objects.update(created_at="2026-01-01T00:00:00Z")
    assert not replayed(send(headers=retry))
    assert Job.objects.count() == len(site.orders) == 4


def test_a_retry_without_a_key_after_a_failure_is_new_work(shop, site, send):
    def fail(attempt: Attempt) -> None:
        attempt.claim()
        attempt.finish("failed", failure=Failure(code="engine_said_no", message="No.", status=500))

    site.script = fail
    assert send().status_code == 500
    site.script = chat("Hello", " world")
    answer = send(headers={"x-stainless-retry-count": "1"})
    assert (answer.status_code, replayed(answer)) == (200, False)


def test_forgotten_after_a_day(shop, site, send):
    send("one")
    old = uuid7().int - ((receipts.KEPT_SECONDS + 60) * 1000 << 80)
    Receipt.objects.create(job_id=UUID(int=old), digest=b"x", created_at="2026-01-01T00:00:00Z")
    assert database.run(receipts.forget()) == 1
    assert Receipt.objects.get().job_id == Job.objects.get().pk
