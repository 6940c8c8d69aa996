"""An OpenAI-compatible engine that says the same words to everyone, as fast or as slowly as a test wants.

    python -m tests.engine --port 9000 --tokens-per-second 20
    with tests.engine.running(tokens_per_second=20) as engine: engine.url, engine.counts(), engine.control(cut_after=3)

The answer to any prompt is WORDS, over and over, until `max_completion_tokens` (or `max_tokens`, or 64). A prompt token
is a word of the prompt. Beside `/v1/chat/completions`, `/v1/embeddings`, `/v1/models` and `/health` there are
`GET /requests` (what was asked so far) and `POST /control` (change any field of Behaviour while it runs).
"""

import argparse
import asyncio
import base64
import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import httpx
import uvicorn

SENTENCE = "the site sells its spare power as inference and every token has a meter behind it ."
WORDS = SENTENCE.split()
MODEL = "mock-chat"
DEFAULT_TOKENS = 64
WORK = {"chat/completions", "completions", "embeddings", "rerank"}

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class Behaviour:
    tokens_per_second: float = 0  # of one stream; 0: as fast as it can
    first_token_seconds: float = 0
    fail_status: int = 0  # every completion and embedding is refused with this status and body
    fail_body: str = '{"error": {"message": "out of order", "type": "server_error", "code": null}}'
    cut_after: int | None = None  # the connection breaks after so many tokens
    strict_usage: bool = False  # refuses `continuous_usage_stats`, as some engines do
    sentence: str = SENTENCE  # what a chat says, over and over
    key: str = ""


@dataclass
class Counts:
    started: int = 0
    finished: int = 0
    hung_up: int = 0
    active: int = 0
    bodies: list[dict[str, Any]] = field(default_factory=list)  # the last 20
    connections: list[int] = field(default_factory=list)  # ports of those that brought work


def word(index: int, sentence: str = SENTENCE) -> str:
    words = sentence.split(" ")
    return ("" if index == 0 else " ") + words[index % len(words)]


def text(tokens: int, sentence: str = SENTENCE) -> str:
    """What a request for so many tokens is answered."""
    return "".join(word(index, sentence) for index in range(tokens))


def words_in(body: dict[str, Any]) -> int:
    return sum(len(str(message.get("content", "")).split()) for message in body.get("messages", []))


class Engine:
    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.counts = Counts()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        route = (scope["method"], scope["path"])
        body = b""
        while route[0] == "POST":
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        sent = json.loads(body) if body else {}
        if route == ("GET", "/health"):
            await answer(send, 200, {"status": "ok"})
        elif route == ("GET", "/v1/models"):
            await answer(
                send,
                200,
                {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "tests"}]},
            )
        elif route == ("GET", "/requests"):
            await answer(send, 200, asdict(self.counts))
        elif route == ("POST", "/control"):
            self.behaviour = replace(self.behaviour, **sent)
            await answer(send, 200, asdict(self.behaviour))
        elif route[0] == "POST" and route[1].removeprefix("/v1/") in WORK:
            await self.work(scope, receive, send, sent)
        else:
            await answer(
                send, 404, {"error": {"message": "no such path", "type": "invalid_request_error", "code": None}}
            )

    async def work(self, scope: dict[str, Any], receive: Receive, send: Send, body: dict[str, Any]) -> None:
        behaviour = self.behaviour
        self.counts.bodies = [*self.counts.bodies[-19:], body]
        if (port := scope["client"][1]) not in self.counts.connections:
            self.counts.connections.append(port)
        headers = dict(scope["headers"])
        if behaviour.key and headers.get(b"authorization") != f"Bearer {behaviour.key}".encode():
            await answer(
                send,
                401,
                {"error": {"message": "wrong key", "type": "authentication_error", "code": "invalid_api_key"}},
            )
            return
        if behaviour.fail_status:
            await answer(send, behaviour.fail_status, json.loads(behaviour.fail_body))
            return
        if behaviour.strict_usage and "continuous_usage_stats" in (body.get("stream_options") or {}):
            await answer(
                send,
                400,
                {
                    "error": {
                        "message": "unknown field: continuous_usage_stats",
                        "type": "invalid_request_error",
                        "param": "stream_options",
                        "code": None,
                    }
                },
            )
            return
        self.counts.started += 1
        self.counts.active += 1
        does = {"chat/completions": self.complete, "completions": self.continue_, "embeddings": self.embed, "rerank": self.rank}  # fmt: skip
        serving = asyncio.ensure_future(does[scope["path"].removeprefix("/v1/")](send, body))
        gone = asyncio.ensure_future(disconnected(receive))
        try:
            await asyncio.wait({serving, gone}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                self.counts.finished += 1
                serving.result()
            else:
                self.counts.hung_up += 1
        finally:
            self.counts.active -= 1
            for task in (serving, gone):
                task.cancel()

    async def complete(self, send: Send, body: dict[str, Any]) -> None:
        asked = body.get("max_completion_tokens") or body.get("max_tokens") or DEFAULT_TOKENS
        prompt = words_in(body)
        stream = bool(body.get("stream"))
        options = body.get("stream_options") or {}
        head = {"id": "chatcmpl-mock", "created": 0, "model": MODEL}
        usage = lambda tokens: {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}  # noqa: E731

        async def chunk(choices: list[dict[str, Any]], tokens: int | None) -> None:
            data = head | {"object": "chat.completion.chunk", "choices": choices}
            if tokens is not None:
                data["usage"] = usage(tokens)
            await send(
                {"type": "http.response.body", "body": f"data: {json.dumps(data)}\n\n".encode(), "more_body": True}
            )

        if stream:
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
            )
            await chunk([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}], None)
        continuous = bool(options.get("continuous_usage_stats"))
        due = time.monotonic() + self.behaviour.first_token_seconds
        for index in range(asked):
            await asyncio.sleep(max(0, due - time.monotonic()))
            due = max(due, time.monotonic() - 1) + (1 / rate if (rate := self.behaviour.tokens_per_second) else 0)
            if self.behaviour.cut_after == index:
                raise ConnectionAbortedError("cut_after")
            if stream:
                await chunk(
                    [{"index": 0, "delta": {"content": word(index, self.behaviour.sentence)}, "finish_reason": None}],
                    index + 1 if continuous else None,
                )
        if stream:
            await chunk([{"index": 0, "delta": {}, "finish_reason": "length"}], None)
            if options.get("include_usage"):
                await chunk([], asked)
            await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
        else:
            message = {"role": "assistant", "content": text(asked, self.behaviour.sentence)}
            choice = {"index": 0, "message": message, "finish_reason": "length"}
            await answer(send, 200, head | {"object": "chat.completion", "choices": [choice], "usage": usage(asked)})

    async def continue_(self, send: Send, body: dict[str, Any]) -> None:
        """Each choice of the one prompt says as many words as it may, with the legacy logprobs where asked."""
        prompt = len(str(body["prompt"]).split()) if isinstance(body["prompt"], str) else len(body["prompt"])
        choices, asked = body.get("n") or 1, body.get("max_tokens", 16)
        if not body.get("stream"):
            said = [{"index": n, "text": text(asked), "finish_reason": "length"} for n in range(choices)]
            used = asked * (body.get("best_of") or choices)
            usage = {"prompt_tokens": prompt, "completion_tokens": used, "total_tokens": prompt + used}
            return await answer(send, 200, {"object": "text_completion", "choices": said, "usage": usage})
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})

        async def chunk(choices: list[dict[str, Any]], tokens: int) -> None:
            usage = {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}
            data = {"id": "cmpl-mock", "object": "text_completion", "choices": choices, "usage": usage}
            await send(
                {"type": "http.response.body", "body": f"data: {json.dumps(data)}\n\n".encode(), "more_body": True}
            )

        for index in range(asked):
            await asyncio.sleep(1 / rate if (rate := self.behaviour.tokens_per_second) else 0)
            for choice in range(choices):
                logprobs = {
                    "tokens": [word(index)],
                    "token_logprobs": [-0.5],
                    "top_logprobs": [{word(index): -0.5, " other": -1.5}],
                    "text_offset": [len(text(index))],
                }
                said = {"index": choice, "text": word(index), "finish_reason": None}
                await chunk(
                    [said | ({"logprobs": logprobs} if body.get("logprobs") else {})], index * choices + choice + 1
                )
        for choice in range(choices):
            await chunk([{"index": choice, "text": "", "finish_reason": "length"}], asked * choices)
        return await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    async def rank(self, send: Send, body: dict[str, Any]) -> None:
        """The longer a document, the better."""
        results = [{"index": n, "relevance_score": len(each) / 100} for n, each in enumerate(body["documents"])]
        words = sum(len(f"{body['query']} {each}".split()) for each in body["documents"])
        await answer(send, 200, {"model": MODEL, "results": results, "usage": {"total_tokens": words}})

    async def embed(self, send: Send, body: dict[str, Any]) -> None:
        given = body["input"]
        inputs = given if isinstance(given, list) else [given]
        await asyncio.sleep(self.behaviour.first_token_seconds)
        vectors = [[float(len(item)), 1.0, 0.0, -1.0] for item in inputs]
        encoded: list[Any] = vectors
        if body.get("encoding_format") == "base64":
            encoded = [base64.b64encode(struct.pack("<4f", *vector)).decode() for vector in vectors]
        tokens = sum(len(str(item).split()) for item in inputs)
        data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(encoded)]
        await answer(
            send,
            200,
            {
                "object": "list",
                "model": MODEL,
                "data": data,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            },
        )


async def answer(send: Send, status: int, body: dict[str, Any]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


async def disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@dataclass(frozen=True)
class Running:
    url: str  # ends in /v1
    engine: Engine

    def counts(self) -> Counts:
        return self.engine.counts

    def control(self, **changes: Any) -> None:
        self.engine.behaviour = replace(self.engine.behaviour, **changes)

    def wait(self, condition: Callable[[Counts], bool], seconds: float = 5) -> None:
        """Wait until the counts are as the test wants them."""
        deadline = time.monotonic() + seconds
        while not condition(self.engine.counts):
            assert time.monotonic() < deadline, self.engine.counts
            time.sleep(0.005)


@dataclass
class Door:
    """Where an engine is reached. Another may take its place: what the one before still answers stays with it."""

    engine: Engine

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await self.engine(scope, receive, send)


def server(door: Door | Engine) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(door, log_level="critical", lifespan="off", access_log=False, timeout_graceful_shutdown=1)  # type: ignore[arg-type]
    )


@contextlib.contextmanager
def serving(door: Door) -> Iterator[str]:
    """The door in a thread of this process, on a free port: its URL."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    serving = server(door)
    thread = threading.Thread(target=serving.run, args=([listener],), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    deadline = time.monotonic() + 10
    while not serving.started:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert httpx.get(f"{url}/health", trust_env=False, verify=False).status_code == 200
    try:
        yield url
    finally:
        serving.should_exit = serving.force_exit = True
        thread.join(5)
        listener.close()


@contextlib.contextmanager
def running(**behaviour: Any) -> Iterator[Running]:
    engine = Engine(Behaviour(**behaviour))
    with serving(Door(engine)) as url:
        yield Running(url=f"{url}/v1", engine=engine)


def main() -> None:
    parser = argparse.ArgumentParser(description="An OpenAI-compatible engine for tests")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free one; the first line printed is the URL")
    parser.add_argument("--tokens-per-second", type=float, default=0, help="of one stream; 0: as fast as it can")
    parser.add_argument("--first-token-seconds", type=float, default=0)
    parser.add_argument("--key", default="")
    given = parser.parse_args()
    behaviour = Behaviour(
        tokens_per_second=given.tokens_per_second, first_token_seconds=given.first_token_seconds, key=given.key
    )
    listener = socket.create_server((given.host, given.port))
    print(f"http://{given.host}:{listener.getsockname()[1]}/v1", flush=True)
    server(Engine(behaviour)).run([listener])


if __name__ == "__main__":
    main()
