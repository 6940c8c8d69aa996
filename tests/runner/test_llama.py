"""The embedded engine: a real llama.cpp server with the two model files the set-up makes."""

import asyncio
import base64
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from apps.runner import models
from apps.runner.engines.engine import EngineFailed, Piece, Work
from apps.runner.engines.llama import LlamaEngine

pytestmark = pytest.mark.whole


@pytest.fixture
async def chat(model_files: Path, tmp_path: Path) -> AsyncIterator[LlamaEngine]:
    engine = LlamaEngine(
        gguf=model_files / models.CHAT_FILE, model="demo", slots=2, context=4096, embeddings=False, directory=tmp_path
    )
    await engine.start()
    yield engine
    await engine.stop()


def asked(content: str, tokens: int = 300, **fields: Any) -> Work:
    body = {"messages": [{"role": "user", "content": content}], **fields}
    return Work(kind="chat", model="demo", body=body, max_completion_tokens=tokens)


async def collect(engine: LlamaEngine, work: Work) -> list[Piece]:
    return [piece async for piece in engine.run(work)]


def text(pieces: list[Piece]) -> str:
    return "".join(choice["delta"].get("content") or "" for piece in pieces for choice in piece.choices or [])


async def busy(engine: LlamaEngine) -> int:
    async with engine.http.client.get("http://llama/slots") as answer:
        slots = await answer.json()
    return sum(slot["is_processing"] for slot in slots)


async def test_it_says_sentences_and_stops_by_itself(chat: LlamaEngine) -> None:
    known = {word for sentence in models.sentences_of(models.CORPUS.read_text()) for word in sentence}
    for number in range(5):
        pieces = await collect(chat, asked("What happens at the site?", tokens=2000, seed=number))
        assert text(pieces)[0].isupper()
        assert text(pieces).endswith(".")
        assert {word for (words) in models.sentences_of(text(pieces)) for word in words} <= known
        assert pieces[-2].choices
        assert pieces[-2].choices[0]["finish_reason"] == "stop"
        usages = [piece.usage for piece in pieces if piece.usage and piece.choices]
        assert usages[-1]
        assert usages[-1].prompt_tokens > 0
        counted = [usage.completion_tokens for usage in usages]
        assert counted == sorted(counted)
        assert counted[len(counted) // 2] > 0  # counted along the way, not only at the end


async def test_the_ceiling_is_kept(chat: LlamaEngine) -> None:
    # Without END in reach, only the ceiling stops it.
    pieces = await collect(chat, asked("Go on.", tokens=5, ignore_eos=True))
    assert pieces[-1].usage
    assert pieces[-1].usage.completion_tokens == 5
    assert pieces[-2].choices
    assert pieces[-2].choices[0]["finish_reason"] == "length"


async def test_a_prompt_it_had_before_is_counted_as_cached(chat: LlamaEngine) -> None:
    """Slots of one engine share nothing: the second of two equal requests in a row gets the slot of the first."""
    before, after = [(await collect(chat, asked("What happens at the site? " * 20, tokens=8))) for _ in range(2)]
    first, again = (next(piece.usage for piece in reversed(pieces) if piece.usage) for pieces in (before, after))
    assert first.cached_prompt_tokens < first.prompt_tokens
    assert again.prompt_tokens == first.prompt_tokens
    assert first.cached_prompt_tokens < again.cached_prompt_tokens <= again.prompt_tokens
    along = [piece.usage for piece in after if piece.usage and piece.choices and piece.usage.prompt_tokens]
    assert {usage.cached_prompt_tokens for usage in along} == {again.cached_prompt_tokens}


async def test_the_choices_of_an_answer_are_counted_together(chat: LlamaEngine) -> None:
    """llama.cpp counts each by itself; the prompt counts once."""
    one = (await collect(chat, asked("What happens?", tokens=7, ignore_eos=True)))[-1].usage
    two = (await collect(chat, asked("What happens?", tokens=7, n=2, ignore_eos=True)))[-1].usage
    assert one
    assert two
    assert (one.completion_tokens, two.completion_tokens) == (7, 14)
    assert two.prompt_tokens == one.prompt_tokens


async def test_what_the_catalog_says_of_the_demo_is_true(chat: LlamaEngine) -> None:
    """Seed, stop, penalties, bias, probabilities and grammars do what they say; tools do not, so they are not ticked."""

    async def said(**fields: Any) -> str:
        return text(await collect(chat, asked("What happens at the site?", tokens=30, **fields)))

    assert await said(seed=1) == await said(seed=1)
    assert await said(seed=1, temperature=0) == await said(seed=2, temperature=0)
    assert not (await said(seed=1, temperature=0)).startswith("A ")
    the, a = 816, 817  # the two likeliest first words, in this order
    assert (await said(temperature=0, logit_bias={str(the): -100})).startswith("A ")
    assert " site" not in await said(temperature=0, stop=[" site"])
    plain = await said(temperature=0, ignore_eos=True)
    assert await said(temperature=0, ignore_eos=True, presence_penalty=2, frequency_penalty=2) != plain
    pieces = await collect(chat, asked("What?", tokens=1, logprobs=True, top_logprobs=2, temperature=0))
    (first, *_) = [
        choice["logprobs"]["content"][0] for p in pieces for choice in p.choices or [] if choice.get("logprobs")
    ]
    assert [item["id"] for item in first["top_logprobs"]] == [the, a]
    schema = {"type": "object", "properties": {"busy": {"type": "boolean"}}, "required": ["busy"], "additionalProperties": False}  # fmt: skip
    answer = await said(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}, seed=1)
    assert set(json.loads(answer)) == {"busy"}
    assert (await said(response_format={"type": "json_object"}, seed=1)).startswith("{")
    tool = {"type": "function", "function": {"name": "stop", "parameters": {"type": "object", "properties": {}}}}
    pieces = await collect(chat, asked("What?", tokens=5, tools=[tool], tool_choice="required"))
    assert not any(choice["delta"].get("tool_calls") for p in pieces for choice in p.choices or [])


async def test_it_continues_prompts_in_text_and_tokens(chat: LlamaEngine) -> None:
    for prompt in (["The site", "A b c"], [[277, 278], [300]]):
        body = {"prompt": prompt, "n": 2, "max_tokens": 5, "logprobs": 2, "ignore_eos": True}
        pieces = await collect(chat, Work(kind="completion", model="demo", body=body, max_completion_tokens=20))
        choices = [choice for piece in pieces for choice in piece.choices or []]
        assert {choice["index"] for choice in choices} == {0, 1, 2, 3}
        assert all(len(each["logprobs"]["top_logprobs"][0]) in {2, 3} for each in choices if each["logprobs"])
        assert pieces[-1].usage
        assert pieces[-1].usage.completion_tokens == 20
    assert pieces[-1].usage.prompt_tokens == 3


async def test_hanging_up_frees_the_slot(chat: LlamaEngine) -> None:
    async with aclosing(chat.run(asked("Go on.", tokens=4000, ignore_eos=True))) as pieces:
        async for piece in pieces:
            if piece.usage and piece.usage.completion_tokens > 5:
                assert await busy(chat) == 1
                break
    async with asyncio.timeout(2):
        while await busy(chat):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_bad_requests_are_the_customers(chat: LlamaEngine) -> None:
    for work, code in (
        (Work(kind="chat", model="demo", body={"messages": "hello"}), "invalid_request"),
        (asked("word " * 2000), "context_length_exceeded"),
    ):
        with pytest.raises(EngineFailed) as raised:
            await collect(chat, work)
        assert (raised.value.failure.status, raised.value.failure.code) == (400, code)


async def test_a_killed_engine_is_started_again(chat: LlamaEngine) -> None:
    await chat.ready()
    (pid,) = chat.processes()
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(5):
        while chat.processes() in ([pid], []):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert text(await collect(chat, asked("Are you back?")))


async def test_embeddings_know_a_cat(model_files: Path, tmp_path: Path) -> None:
    engine = LlamaEngine(
        gguf=model_files / models.EMBEDDINGS_FILE,
        model="minilm",
        slots=2,
        context=512,
        embeddings=True,
        directory=tmp_path,
    )
    await engine.start()
    try:
        body = {"input": ["cat", "feline", "invoice"]}
        (piece,) = await collect(engine, Work(kind="embeddings", model="minilm", body=body))
        assert piece.result
        cat, feline, invoice = (
            struct.unpack("<384f", base64.b64decode(item["embedding"])) for item in piece.result["data"]
        )
        # Computed once from the same weights in plain NumPy.
        assert abs(dot(cat, feline) - 0.69754) < 0.002
        assert abs(dot(cat, invoice) - 0.23414) < 0.002
        assert piece.usage
        assert piece.usage.prompt_tokens == 3 + 4 + 5
        ranked = {"query": "cat", "documents": ["invoice", "feline"]}
        (piece,) = await collect(engine, Work(kind="rerank", model="minilm", body=ranked))
        assert piece.result
        assert piece.usage
        assert [result["index"] for result in piece.result["results"]] == [1, 0]
        assert abs(piece.result["results"][0]["relevance_score"] - 0.69754) < 0.002
        assert piece.usage.prompt_tokens == 3 + 4 + 5
        tokens = Work(kind="embeddings", model="minilm", body={"input": [[101, 4937, 102]]})
        (piece,) = await collect(engine, tokens)
        assert piece.result
        assert dot(cat, struct.unpack("<384f", base64.b64decode(piece.result["data"][0]["embedding"]))) > 0.999
        with pytest.raises(EngineFailed) as raised:
            await collect(engine, Work(kind="embeddings", model="minilm", body={"input": "word " * 600}))
        assert raised.value.failure.code == "context_length_exceeded"
    finally:
        await engine.stop()


def dot(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_models_are_made_once_and_whole(tmp_path: Path, model_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert models.make(model_files) == {models.CHAT_FILE: False, models.EMBEDDINGS_FILE: False}

    def cut_off(path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "write_chat", cut_off)
    with pytest.raises(KeyboardInterrupt):
        models.make(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_engine_dies_with_its_parent(model_files: Path, tmp_path: Path) -> None:
    """kill -9 of the runner leaves no engine."""
    program = f"""
import asyncio
from pathlib import Path
from apps.runner.engines.llama import LlamaEngine
async def main():
    engine = LlamaEngine(gguf=Path({str(model_files / models.CHAT_FILE)!r}), model="demo", slots=1, context=512,
                         embeddings=False, directory=Path({str(tmp_path)!r}))
    await engine.start()
    await engine.ready()
    print(engine.processes()[0], flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 5
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
