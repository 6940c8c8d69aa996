"""POST /v1/completions with the official client: prompts, choices, echo, probabilities, money."""

import math

import openai
import pytest

from apps.jobs.models import Job
from apps.ledger.models import Hold
from tests.gateway.test_refusals import error, nothing_written, post

__all__ = ["post"]  # a fixture


def writes(*said: str, usage: int = 3):
    """A site whose choice n says the n-th text, in two pieces."""

    def script(attempt):
        attempt.claim()
        for index, text in enumerate(said):
            attempt.say(text[:2], text[2:], index=index)
        attempt.write(*[[{"index": n, "delta": {}, "finish_reason": "length"}] for n in range(len(said))])
        attempt.finish()

    return script


def test_a_prompt_is_continued(client, shop, site):
    site.script = writes("Hello")
    answer = client.completions.create(model=shop.model.name, prompt="Say it", max_tokens=5, seed=3)
    assert (answer.object, answer.id[:5], answer.model) == ("text_completion", "cmpl-", shop.model.name)
    (choice,) = answer.choices
    assert (choice.text, choice.index, choice.finish_reason, choice.logprobs) == ("Hello", 0, "length", None)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (5, 2, 7)
    assert answer.usage.cost_microusd == math.ceil(5 * 0.12) + math.ceil(2 * 0.36)
    (order,) = site.orders
    assert (order.kind, order.body) == ("completion", {"prompt": "Say it", "seed": 3, "max_tokens": 5})
    job = Job.objects.get()
    assert (job.kind, job.content.text, job.max_completion_tokens) == ("completion", "Hello", 5)
    assert not Hold.objects.filter(state="open").exists()


@pytest.fixture
def silent(shop):
    """The engine does not repeat prompts: the portal does."""
    shop.model.capabilities.remove("echo")
    shop.model.save()


@pytest.mark.usefixtures("silent")
def test_choices_are_numbered_over_all_prompts_and_echoed(client, shop, site):
    site.script = writes("one", "two", "three", "four")
    answer = client.completions.create(model=shop.model.name, prompt=["A: ", "B: "], n=2, echo=True, max_tokens=9)
    assert [(c.index, c.text) for c in answer.choices] == [
        (0, "A: one"),
        (1, "A: two"),
        (2, "B: three"),
        (3, "B: four"),
    ]
    assert "echo" not in site.orders[0].body
    job = Job.objects.get()
    assert job.max_completion_tokens == 2 * 2 * 9
    # Each prompt once, with its 16 tokens of room; every choice of each at its most.
    assert job.hold_microusd == math.ceil(2 * (3 + 16) * 0.12) + math.ceil(36 * 0.36)


@pytest.mark.usefixtures("silent")
def test_a_stream_has_texts_and_usage(client, shop, site):
    site.script = writes("Hello")
    stream = client.completions.create(
        model=shop.model.name, prompt="Say it", echo=True, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == "Say itHello"
    assert {chunk.object for chunk in chunks} == {"text_completion"}
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], 2)
    assert site.orders[0].body["max_tokens"] == 16  # the official default


WRONG = [
    ({"prompt": ""}, "empty", "prompt"),
    ({"prompt": ["a", ""]}, "empty", "prompt[1]"),
    ({"prompt": []}, "invalid_value", "prompt"),
    ({"prompt": 5}, "invalid_type", "prompt"),
    ({"prompt": ["a", 1]}, "invalid_type", "prompt[1]"),
    ({"prompt": None}, "invalid_type", "prompt"),
    ({"prompt": ["a"] * 129}, "invalid_value", "prompt"),
    ({"prompt": "x" * 70_000}, "context_length_exceeded", "prompt"),
    ({"prompt": [1] * 5000}, "context_length_exceeded", "prompt"),
    ({"max_tokens": -1}, "invalid_value", "max_tokens"),
    ({"max_tokens": 0}, "invalid_value", "max_tokens"),
    ({"max_tokens": 1025}, "invalid_value", "max_tokens"),
    ({"logprobs": 6}, "invalid_value", "logprobs"),
    ({"logprobs": True}, "invalid_type", "logprobs"),
    ({"n": 3, "best_of": 2}, "invalid_value", "best_of"),
    ({"best_of": 2, "stream": True}, "invalid_value", "best_of"),
    ({"stream_options": {}}, "invalid_value", "stream_options"),
    ({"messages": []}, "unknown_parameter", "messages"),
]
LACKING = [
    ({}, "model", "completions"),
    ({"prompt": [1, 2]}, "prompt", "token_input"),
    ({"logprobs": 0}, "logprobs", "logprobs"),
    ({"echo": True, "logprobs": 1}, "echo", "echo"),
    ({"echo": True, "max_tokens": 0}, "echo", "echo"),
    ({"suffix": "."}, "suffix", "suffix"),
    ({"best_of": 2}, "best_of", "best_of"),
]


def test_wrong_parameters_are_named(shop, post):
    with nothing_written():
        for changes, code, param in WRONG:
            found = error(post({"model": shop.model.name, "prompt": "Hi", **changes}, path="/v1/completions"))
            assert (found["code"], found["param"]) == (code, param), changes
        every = list(shop.model.capabilities)
        for changes, param, capability in LACKING:
            shop.model.capabilities = [term for term in every if term != capability]
            shop.model.save()
            found = error(post({"model": shop.model.name, "prompt": "Hi", **changes}, path="/v1/completions"))
            assert (found["code"], found["param"]) == ("unsupported_parameter", param), changes


def test_an_engine_that_echoes_is_told_to(client, shop, site):
    site.script = writes("HiHo")
    answer = client.completions.create(model=shop.model.name, prompt="Hi", echo=True, logprobs=1, max_tokens=0)
    assert answer.choices[0].text == "HiHo"
    assert site.orders[0].body == {"prompt": "Hi", "logprobs": 1, "echo": True, "max_tokens": 0}


def test_only_chat_models_continue(client, shop):
    from tests import make

    model = make.model(kind="embeddings")
    with nothing_written(), pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model=model.name, prompt="Hi")
    assert refused.value.code == "wrong_model_kind"
