"""The adapter against engines that behave, misbehave and hang up."""

import asyncio
import base64
import struct
from contextlib import aclosing
from typing import Any

import pytest

import tests.engine
from apps.runner.engines.engine import EngineFailed, Piece, Work
from apps.runner.engines.legacy import Texts
from apps.runner.engines.openai_http import OpenAIEngine, decoded, failed, usage_of, usage_of_timings
from apps.runner.protocol import Failure

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "one two"}]}


async def collect(engine: OpenAIEngine, work: Work) -> list[Piece]:
    return [piece async for piece in engine.run(work)]


def chat(**fields: Any) -> Work:
    return Work(kind="chat", model="mock-chat", body=CHAT | fields, max_completion_tokens=6)


async def failure_of(engine: OpenAIEngine, work: Work) -> Failure:
    with pytest.raises(EngineFailed) as raised:
        await collect(engine, work)
    return raised.value.failure


async def test_everything_asked_is_passed_on(engine: tests.engine.Running) -> None:
    given = {"temperature": 0.1, "stop": ["x"], "tools": [{"type": "function"}], "seed": 4}
    pieces = await collect(OpenAIEngine(url=engine.url), chat(**given, max_tokens=3))
    (body,) = engine.counts().bodies
    assert {name: body[name] for name in given} == given
    assert body["messages"] == CHAT["messages"]
    assert (body["model"], body["stream"]) == ("mock-chat", True)
    assert body["max_tokens"] == body["max_completion_tokens"] == 3
    assert pieces[-1].usage
    assert pieces[-1].usage.completion_tokens == 3


async def test_usage_comes_with_every_chunk(engine: tests.engine.Running) -> None:
    pieces = await collect(OpenAIEngine(url=engine.url), chat())
    counted = [piece.usage.completion_tokens for piece in pieces if piece.usage and piece.choices]
    assert counted == [0, 1, 2, 3, 4, 5, 6, 6]


async def test_one_answer_after_another_comes_over_one_connection(engine: tests.engine.Running) -> None:
    adapter = OpenAIEngine(url=engine.url)
    for _ in range(3):
        await collect(adapter, chat())
    assert len(engine.counts().connections) == 1


async def test_requests_at_once_have_a_connection_each_which_are_used_again(engine: tests.engine.Running) -> None:
    adapter = OpenAIEngine(url=engine.url)
    for _ in range(2):
        await asyncio.gather(*(collect(adapter, chat()) for _ in range(5)))
    assert len(engine.counts().connections) == 5


async def test_an_engine_that_refuses_usage_per_chunk_is_asked_once(engine: tests.engine.Running) -> None:
    engine.control(strict_usage=True)
    adapter = OpenAIEngine(url=engine.url)
    for _ in range(2):
        pieces = await collect(adapter, chat())
        assert [piece.usage.completion_tokens for piece in pieces if piece.usage][-1] == 6
    assert len(engine.counts().bodies) == 3


async def test_hanging_up_closes_the_request(engine: tests.engine.Running) -> None:
    engine.control(tokens_per_second=50)
    async with aclosing(OpenAIEngine(url=engine.url).run(chat(max_tokens=6000))) as pieces:
        async for piece in pieces:
            if piece.usage and piece.usage.completion_tokens:
                break
    await asyncio.to_thread(engine.wait, lambda counts: counts.hung_up == 1)


async def test_a_broken_stream_is_unavailable(engine: tests.engine.Running) -> None:
    engine.control(cut_after=2)
    failure = await failure_of(OpenAIEngine(url=engine.url), chat())
    assert (failure.code, failure.status, failure.retryable) == ("engine_unavailable", 503, True)


async def test_no_engine_is_unavailable() -> None:
    adapter = OpenAIEngine(url="http://127.0.0.1:9/v1")
    failure = await failure_of(adapter, chat())
    assert (failure.code, failure.status, failure.retryable) == ("engine_unavailable", 503, True)
    assert not (await adapter.health()).ready


@pytest.mark.parametrize(
    ("status", "code"), [(500, "engine_unavailable"), (401, "engine_unavailable"), (404, "engine_unavailable"), (429, "engine_unavailable"), (400, "invalid_request"), (422, "unprocessable_content")]
)  # fmt: skip
async def test_what_a_status_means(engine: tests.engine.Running, status: int, code: str) -> None:
    engine.control(fail_status=status)
    failure = await failure_of(OpenAIEngine(url=engine.url), chat())
    assert (failure.code, failure.retryable) == (code, code == "engine_unavailable")
    assert failure.status == (503 if failure.retryable else status)


async def test_a_key_is_sent(engine: tests.engine.Running) -> None:
    engine.control(key="secret")
    assert (await failure_of(OpenAIEngine(url=engine.url, key="wrong"), chat())).code == "engine_unavailable"
    assert await collect(OpenAIEngine(url=engine.url, key="secret"), chat())


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (b'{"error":{"message":"This model\'s maximum context length is 8 tokens.","code":400}}', "context_length_exceeded", "The prompt has more tokens than this model takes. Shorten it."),
        (b'{"error":{"code":400,"message":"request (9 tokens) exceeds the available context size (8 tokens)","type":"exceed_context_size_error"}}', "context_length_exceeded", "The prompt has 9 tokens and this model takes 8. Shorten it."),
        (b'{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it","n_prompt_tokens":4100,"n_ctx":4096}}', "context_length_exceeded", "The prompt has 4,100 tokens and this model takes 4,096. Shorten it."),
        (b'{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it"}}', "context_length_exceeded", "The prompt has more tokens than this model takes. Shorten it."),
        (b'{"message":"The input (9 tokens) is longer than the model\'s context length (8 tokens)."}', "context_length_exceeded", "The prompt has 9 tokens and this model takes 8. Shorten it."),
        (b'{"message":"This model\'s maximum context length is 8 tokens. However, you requested 10 tokens (9 in the messages, 1 in the completion). Please reduce the length."}', "context_length_exceeded", "The prompt has 9 tokens and this model takes 8. Shorten it."),
        (b'{"message":"This model\'s maximum context length is 8 tokens. However, you requested 10 tokens (6 in the messages, 4 in the completion). Please reduce the length."}', "context_length_exceeded", "The prompt and the output asked for have 10 tokens together and this model takes 8. Shorten the prompt or lower the maximum output."),
        (b'{"error":{"message":"bad\\nschema at http://10.0.0.1:8000/v1 in /opt/models/x.gguf","code":"bad_schema","param":"tools"}}', "bad_schema", "bad schema at \u2026 in \u2026"),
        (b'{"detail":"nope"}', "invalid_request", "nope"),
        (b"<html>", "invalid_request", "The engine cannot do this request."),
        (b'["x"]', "invalid_request", "The engine cannot do this request."),
    ],
)  # fmt: skip
def test_what_a_refusal_says(content: bytes, code: str, message: str | None) -> None:
    failure = failed(400, content).failure
    assert (failure.status, failure.code) == (400, code)
    assert message is None or failure.message == message


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 2}, (9, 0, 2)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}}, (9, 4, 0)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 40}}, (9, 9, 0)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": -4}}, (9, 0, 0)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": "4"}}, (9, 0, 0)),
        ({"prompt_tokens": 9, "prompt_tokens_details": None}, (9, 0, 0)),
        ({"prompt_tokens": 9, "prompt_tokens_details": [4]}, (9, 0, 0)),
    ],
)
def test_cached_tokens_are_part_of_the_prompt(usage: dict[str, object], counts: tuple[int, int, int]) -> None:
    counted = usage_of(usage)
    assert (counted.prompt_tokens, counted.cached_prompt_tokens, counted.completion_tokens) == counts


def test_what_llama_told_along_the_way_is_kept_where_its_last_word_does_not_say() -> None:
    along = usage_of_timings({"prompt_n": 5, "cache_n": 4, "predicted_n": 2})
    assert (along.prompt_tokens, along.cached_prompt_tokens, along.completion_tokens) == (9, 4, 2)
    assert usage_of({"prompt_tokens": 9}, cached=4).cached_prompt_tokens == 4
    assert (
        usage_of({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 0}}, cached=4).cached_prompt_tokens
        == 0
    )


async def test_embeddings_are_packed_floats(engine: tests.engine.Running) -> None:
    work = Work(kind="embeddings", model="mock-chat", body={"input": ["a b", "c"]})
    (piece,) = await collect(OpenAIEngine(url=engine.url), work)
    assert piece.usage
    assert (piece.usage.prompt_tokens, piece.usage.completion_tokens) == (3, 0)
    assert piece.result
    vectors = [struct.unpack("<4f", base64.b64decode(item["embedding"])) for item in piece.result["data"]]
    assert vectors == [(3.0, 1.0, 0.0, -1.0), (1.0, 1.0, 0.0, -1.0)]
    assert [item["index"] for item in piece.result["data"]] == [0, 1]


async def test_vectors_are_cut_here_where_the_engine_does_not(engine: tests.engine.Running) -> None:
    """The first numbers, of length 1 again; more than there are is refused."""

    def work(dimensions: int) -> Work:
        return Work(kind="embeddings", model="mock-chat", body={"input": "a b c", "dimensions": dimensions})

    (piece,) = await collect(OpenAIEngine(url=engine.url), work(2))
    assert piece.result
    cut = struct.unpack("<2f", base64.b64decode(piece.result["data"][0]["embedding"]))
    assert cut == pytest.approx((5 / 26**0.5, 1 / 26**0.5))
    failure = await failure_of(OpenAIEngine(url=engine.url), work(5))
    assert (failure.status, failure.code, failure.param) == (400, "invalid_dimensions", "dimensions")
    assert all("dimensions" not in body for body in engine.counts().bodies)
    await collect(OpenAIEngine(url=engine.url, dimensions=True), work(4))
    assert engine.counts().bodies[-1]["dimensions"] == 4


def test_half_a_surrogate_pair_becomes_a_question_mark() -> None:
    assert decoded(b'{"a": ["\\ud83d x", "\\ud83e\\udd50"]}') == {"a": ["? x", "🥐"]}


async def test_prompts_are_asked_one_by_one_and_counted_together(engine: tests.engine.Running) -> None:
    body = {"prompt": [f"prompt {n}" for n in range(10)], "n": 2, "max_tokens": 3, "logprobs": 0}
    work = Work(kind="completion", model="mock-chat", body=body, max_completion_tokens=60)
    pieces = await collect(OpenAIEngine(url=engine.url), work)
    said: dict[int, str] = {}
    for choice in (choice for piece in pieces for choice in piece.choices or []):
        said[choice["index"]] = said.get(choice["index"], "") + choice["delta"].get("content", "")
        assert set(choice["logprobs"]["top_logprobs"][0] if choice["logprobs"] else {}) == set()
    assert said == dict.fromkeys(range(20), tests.engine.text(3))
    assert pieces[-1].usage
    assert (pieces[-1].usage.prompt_tokens, pieces[-1].usage.completion_tokens) == (20, 60)
    counted = [piece.usage.completion_tokens for piece in pieces if piece.usage]
    assert counted == sorted(counted)
    assert engine.counts().started == 10


async def test_the_best_of_several_come_at_once(engine: tests.engine.Running) -> None:
    body = {"prompt": ["a", "b"], "n": 2, "best_of": 3, "max_tokens": 4}
    pieces = await collect(OpenAIEngine(url=engine.url), Work(kind="completion", model="m", body=body))
    said = [(choice["index"], choice["delta"]["content"]) for piece in pieces for choice in piece.choices or []]
    assert sorted(said) == [(n, tests.engine.text(4)) for n in range(4)]
    assert pieces[-1].usage
    assert pieces[-1].usage.completion_tokens == 2 * 3 * 4
    assert not any(body.get("stream") for body in engine.counts().bodies)


async def test_hanging_up_ends_every_prompt(engine: tests.engine.Running) -> None:
    engine.control(tokens_per_second=50)
    body = {"prompt": ["a", "b", "c"], "max_tokens": 500}
    async with aclosing(OpenAIEngine(url=engine.url).run(Work(kind="completion", model="m", body=body))) as pieces:
        async for _ in pieces:
            if engine.counts().active == 3:
                break
    await asyncio.to_thread(engine.wait, lambda counts: counts.hung_up == 3 and counts.active == 0)


async def test_one_prompt_that_fails_fails_all(engine: tests.engine.Running) -> None:
    engine.control(fail_status=400, fail_body='{"error": {"message": "no such token"}}')
    failure = await failure_of(
        OpenAIEngine(url=engine.url), Work(kind="completion", model="m", body={"prompt": ["a", "b"], "max_tokens": 2})
    )
    assert (failure.status, failure.param, failure.message) == (400, "prompt", "no such token")


@pytest.mark.parametrize("reranks", [True, False])
async def test_documents_are_ranked_by_the_engine_or_by_vectors(engine: tests.engine.Running, reranks: bool) -> None:
    body = {"query": "a b c", "documents": ["x", "x y z", "x y"]}
    (piece,) = await collect(OpenAIEngine(url=engine.url, reranks=reranks), Work(kind="rerank", model="m", body=body))
    assert piece.usage
    assert piece.result
    results = piece.result["results"]
    if reranks:
        assert results == [{"index": 1, "relevance_score": 0.05}, {"index": 2, "relevance_score": 0.03}, {"index": 0, "relevance_score": 0.01}]  # fmt: skip
        assert piece.usage.prompt_tokens == 3 * 3 + 6
    else:  # the mock's vector of a text is [its length, 1, 0, -1]
        assert [result["index"] for result in results] == [1, 2, 0]
        assert results[0]["relevance_score"] == pytest.approx(1.0)
        assert results[2]["relevance_score"] == pytest.approx((5 + 2) / (27 * 3) ** 0.5)
        assert piece.usage.prompt_tokens == 3 + 6


def test_probabilities_of_llama_become_legacy_ones() -> None:
    def choice(token: str) -> dict[str, Any]:
        top = [{"token": " a", "logprob": -0.1}, {"token": " b", "logprob": -0.2}]
        content = [{"token": token, "logprob": -3.0, "top_logprobs": top}]
        return {"index": 0, "text": token, "logprobs": {"content": content}, "finish_reason": None}

    texts = Texts(top=1)
    first, second = (texts.as_chat(choice(token), first=4) for token in (" x", " yz"))
    assert (first["index"], first["delta"]) == (4, {"content": " x"})
    assert second["logprobs"] == {
        "tokens": [" yz"],
        "token_logprobs": [-3.0],
        "top_logprobs": [{" a": -0.1, " yz": -3.0}],
        "text_offset": [2],
    }
