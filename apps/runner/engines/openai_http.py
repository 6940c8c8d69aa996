"""Any OpenAI-compatible server by URL: vLLM, SGLang, llama.cpp's server, Ollama.

Chat is always streamed, whatever the customer asked, so that progress, cancelling and usage work the same way.
Wire shapes: OpenAI API reference, "Create chat completion", "Create completion" and "Create embeddings".
"""

from __future__ import annotations

import array
import asyncio
import base64
import contextlib
import json
import logging
import math
import re
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any

import aiohttp

from apps.core import jsons
from apps.runner.answer import says
from apps.runner.engines import legacy
from apps.runner.engines.child import Child
from apps.runner.engines.engine import Choices, EngineFailed, Health, Piece, Work, refused, unavailable
from apps.runner.protocol import Usage

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
IDLE_SECONDS = (
    4.0  # a connection is kept: less than servers do, uvicorn and llama.cpp five, so none is closed under a request
)
LAST_SECONDS = 0.2  # after its last event an answer ends at once, or its connection is not used again
PROMPTS = 8  # of one completion, at a time
ANSWER_BYTES = 64 * 1024 * 1024  # of one embeddings answer
ERROR_BYTES = 64 * 1024
LINE_BYTES = 4 * 1024 * 1024  # of one event of a stream
MESSAGE_CHARACTERS = 500
JSON = {"Content-Type": "application/json"}
BROKEN = (aiohttp.ClientError, TimeoutError, OSError)  # how a connection fails

# What engines say when a prompt does not fit: llama.cpp (both), vLLM, SGLang, Ollama.
TOO_LONG = re.compile(
    r"maximum context length|available context size|too large to process|longer than the model's context|context.length",
    re.I,
)
# The two counts in those sentences: what was sent, what fits.
SENT = re.compile(
    r"(?:request|input) \((\d+) tokens\)|\((\d+) in the messages|has (\d+) input tokens|input \((\d+) tokens", re.I
)
TAKEN = re.compile(r"(?:context size|context length) \((\d+) tokens\)|context length (?:is|of) (?:only )?(\d+)", re.I)
ASKED = re.compile(r"you requested (\d+) tokens", re.I)  # prompt and output together
ADDRESS = re.compile(r"(https?|unix)://\S+|/[\w.-]+(/[\w.-]+)+")


async def reused(_: aiohttp.ClientSession, context: Any, __: aiohttp.TraceConnectionReuseconnParams) -> None:
    if context.trace_request_ctx:
        context.trace_request_ctx["reused"] = True


REUSE = aiohttp.TraceConfig()
REUSE.on_connection_reuseconn.append(reused)


class OpenAIEngine:
    """`url` ends where `/chat/completions` begins (`http://host:8000/v1`). `socket`: a unix socket to reach it by."""

    def __init__(
        self,
        *,
        url: str,
        key: str = "",
        socket: str | None = None,
        dimensions: bool = False,
        reranks: bool = False,
        timings: bool = False,
    ) -> None:
        self.url = url.rstrip("/")
        self.dimensions = dimensions
        self.reranks = reranks  # has `/rerank`; else documents are ranked by their vectors
        self.continuous_usage = True  # until the engine refuses it
        self.timings = timings  # llama.cpp's own way of counting in each chunk; asked for once it was seen
        self.socket = socket
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.session: aiohttp.ClientSession | None = None

    @property
    def client(self) -> aiohttp.ClientSession:
        """Made at its first use, in the event loop that uses it."""
        if self.session is None:
            kept: dict[str, Any] = {"limit": 0, "keepalive_timeout": IDLE_SECONDS}
            self.session = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(self.socket, **kept) if self.socket else aiohttp.TCPConnector(**kept),
                headers=self.headers,
                # Nothing but the deadline of the attempt limits how long an engine may think.
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=[REUSE],
            )
        return self.session

    @asynccontextmanager
    async def post(self, path: str, body: dict[str, Any]) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer that is left unread closes its connection: the engine stops then.

        Some engines close a connection after an answer and do not say so (llama.cpp after a stream). What was sent on one
        is sent again, since no engine has read it.
        """
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        for last in (False, False, True):
            sent = {"reused": False}
            try:
                answer = await self.client.post(
                    f"{self.url}{path}", data=content, headers=JSON, allow_redirects=False, trace_request_ctx=sent
                )
                break
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if last or not sent["reused"]:
                    raise
        async with answer:
            yield answer

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            await session.close()

    def processes(self) -> list[int]:
        return []

    def children(self) -> list[Child]:
        return []

    async def health(self) -> Health:
        try:
            status = await self.status(f"{self.url}/models", seconds=CONNECT_SECONDS)
        except BROKEN as error:
            return Health(ready=False, reason=f"the engine does not answer: {type(error).__name__}")
        if status != 200:
            return Health(ready=False, reason=f"the engine answers {status} to a list of its models")
        return Health(ready=True)

    async def status(self, url: str, *, seconds: float) -> int:
        """Of a GET. Raises BROKEN."""
        timeout = aiohttp.ClientTimeout(total=seconds)
        async with self.client.get(url, timeout=timeout, allow_redirects=False) as answer:
            await answer.read()
            return answer.status

    def run(self, work: Work) -> AsyncGenerator[Piece, None]:
        if work.kind == "chat":
            return self.chat(work)
        if work.kind == "completion":
            return self.completion(work)
        if work.kind == "embeddings":
            return self.embeddings(work)
        if work.kind == "rerank":
            return self.ranked(work) if self.reranks else self.compared(work)
        raise ValueError(f"an OpenAI-compatible engine does no {work.kind}")

    async def chat(self, work: Work) -> AsyncGenerator[Piece, None]:
        body = work.body | {"model": work.model}
        if work.max_completion_tokens:
            asked = [body[name] for name in ("max_completion_tokens", "max_tokens") if isinstance(body.get(name), int)]
            ceiling = min([work.max_completion_tokens, *asked])
            # Newer engines read the one, older ones the other.
            body |= {"max_completion_tokens": ceiling, "max_tokens": ceiling}
        async with aclosing(
            self.asked("/chat/completions", body)
        ) as pieces:  # closing us closes the connection at once
            async for piece in pieces:
                yield piece

    async def completion(self, work: Work) -> AsyncGenerator[Piece, None]:
        """One request for each prompt, PROMPTS at a time: not every engine takes several, and so each is counted."""
        given = work.body["prompt"]
        prompts = given if isinstance(given, list) and not isinstance(given[0], int) else [given]
        choices = work.body.get("n") or 1
        body = work.body | {"model": work.model}
        if work.max_completion_tokens:
            body["max_tokens"] = min(work.max_completion_tokens, body.get("max_tokens", work.max_completion_tokens))
        top = body.get("logprobs")
        if top == 0:
            body["logprobs"] = 1  # llama.cpp gives none for 0
        counted: dict[int, Usage] = {}
        ask = self.chosen if (body.get("best_of") or 1) > choices else partial(self.asked, "/completions")
        streams = [ask(body | {"prompt": prompt}) for prompt in prompts]
        texts = legacy.Texts(top=top)
        async with aclosing(merged(streams, most=PROMPTS)) as pieces:
            async for number, piece in pieces:
                counted[number] = piece.usage or Usage()
                yield Piece(
                    choices=[texts.as_chat(choice, first=number * choices) for choice in piece.choices or ()] or None,
                    usage=added(counted.values()),
                )

    async def chosen(self, body: dict[str, Any]) -> AsyncGenerator[Piece, None]:
        """The best of several are known at the end, so no engine streams them."""
        given = await self.posted("/completions", body, param="prompt")
        yield Piece(choices=given.get("choices") or [], usage=usage_of(given.get("usage") or {}))

    async def asked(self, path: str, body: dict[str, Any]) -> AsyncGenerator[Piece, None]:
        """The answer to `body` as a stream, with usage in every chunk where the engine can."""
        body = body | {"stream": True}
        if self.timings:
            body["timings_per_token"] = True
        for continuous in dict.fromkeys((self.continuous_usage, False)):
            body["stream_options"] = {"include_usage": True} | ({"continuous_usage_stats": True} if continuous else {})
            try:
                async with aclosing(self.stream(path, body)) as pieces:
                    async for piece in pieces:
                        yield piece
            except EngineFailed as error:
                # A refusal comes before the first piece, so nothing is said twice.
                if not (continuous and error.failure.status == 400 and "continuous_usage" in error.failure.message):
                    raise
                self.continuous_usage = False
            else:
                return

    async def stream(self, path: str, body: dict[str, Any]) -> AsyncGenerator[Piece, None]:
        counted, said, last = Usage(), 0, 0
        each: dict[int, Usage] = {}  # by choice: llama.cpp counts every one by itself, and its usage is the last one's
        try:
            async with self.post(path, body) as answer:
                if answer.status != 200:
                    raise failed(
                        answer.status,
                        await limited(answer, ERROR_BYTES),
                        param="prompt" if "prompt" in body else None,
                    )
                arriving = events(answer)
                async for data in arriving:
                    if data == b"[DONE]":
                        with contextlib.suppress(TimeoutError, aiohttp.ClientError):
                            async with asyncio.timeout(LAST_SECONDS):
                                await anext(arriving, None)  # an answer left unread closes the connection
                        return
                    chunk = decoded(data)
                    if chunk.get("error"):
                        raise failed(int_of(chunk["error"], "code") or 500, data)
                    choices: Choices = chunk.get("choices") or []
                    said += any(says(choice) for choice in choices)
                    if timings := chunk.get("timings"):
                        self.timings = True
                        each[index_of(choices, last)] = usage_of_timings(timings)
                        counted = together(each)
                    elif usage := chunk.get("usage"):
                        counted = usage_of(usage, cached=counted.cached_prompt_tokens)
                    elif said > counted.completion_tokens:
                        counted = written(counted, said)
                    last = index_of(choices, last)
                    yield Piece(choices=choices or None, usage=counted)
        except BROKEN as error:
            log.warning("engine connection failed", extra={"error": repr(error)})
            raise unavailable() from error
        raise unavailable("The engine broke off its answer. The request may be sent again.")

    async def embeddings(self, work: Work) -> AsyncGenerator[Piece, None]:
        body = work.body | {"model": work.model, "encoding_format": "base64"}
        dimensions = body.get("dimensions")
        if not self.dimensions:
            body.pop("dimensions", None)
        given = await self.posted("/embeddings", body, param="input")
        try:
            data = [{"index": item["index"], "embedding": packed(item["embedding"])} for item in given["data"]]
        except (KeyError, TypeError) as error:
            raise unavailable("The engine's answer is not a list of embeddings.") from error
        if dimensions:
            data = [{"index": item["index"], "embedding": cut(item["embedding"], dimensions)} for item in data]
        yield Piece(usage=usage_of(given.get("usage") or {}), result={"data": data})

    async def ranked(self, work: Work) -> AsyncGenerator[Piece, None]:
        """By the engine's own `/rerank`, as vLLM, SGLang, Infinity and llama.cpp have it (the shape is Jina's)."""
        documents = work.body["documents"]
        given = await self.posted("/rerank", work.body | {"model": work.model}, param="documents")
        usage = given.get("usage")
        read = int_of(usage, "prompt_tokens") or int_of(usage, "total_tokens")
        if read is None:
            raise unavailable("The engine did not count what it read.")
        try:
            scores = {int(item["index"]): float(item["relevance_score"]) for item in given["results"]}
        except (KeyError, TypeError, ValueError) as error:
            raise unavailable("The engine's answer is not a ranking.") from error
        if scores.keys() != set(range(len(documents))):
            raise unavailable("The engine did not rank every document.")
        yield Piece(usage=Usage(prompt_tokens=read), result={"results": best_first(scores)})

    async def compared(self, work: Work) -> AsyncGenerator[Piece, None]:
        """By the likeness (cosine) of each document's vector to the query's: query and documents are read once."""
        body = {"input": [work.body["query"], *work.body["documents"]]}
        embedding = Work(kind="embeddings", model=work.model, body=body)
        async for piece in self.embeddings(embedding):
            vectors = {item["index"]: unpacked(item["embedding"]) for item in (piece.result or {})["data"]}
            query = vectors.pop(0)
            scores = {index - 1: cosine(query, vector) for index, vector in vectors.items()}
            yield Piece(usage=piece.usage, result={"results": best_first(scores)})

    async def posted(self, path: str, body: dict[str, Any], *, param: str) -> dict[str, Any]:
        """One answer that is not streamed. `param` is named where the engine refuses without saying what."""
        try:
            async with self.post(path, body) as answer:
                content = await limited(answer, ANSWER_BYTES)
        except BROKEN as error:
            log.warning("engine connection failed", extra={"error": repr(error)})
            raise unavailable() from error
        if answer.status != 200:
            raise failed(answer.status, content, param=param)
        return decoded(content)


async def merged(streams: list[AsyncGenerator[Piece, None]], *, most: int) -> AsyncGenerator[tuple[int, Piece], None]:
    """(number of the stream, piece), `most` streams at a time. Closing it ends them all; so does the first failure."""
    waiting = iter(enumerate(streams))
    arrived: asyncio.Queue[tuple[int, Piece] | None] = asyncio.Queue()

    async def forward() -> None:
        for number, stream in waiting:
            async with aclosing(stream):
                async for piece in stream:
                    arrived.put_nowait((number, piece))

    tasks = [asyncio.create_task(forward()) for _ in streams[:most]]
    ended = asyncio.gather(*tasks)
    ended.add_done_callback(lambda _: arrived.put_nowait(None))
    try:
        while (item := await arrived.get()) is not None:
            yield item
        await ended
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, ended, return_exceptions=True)


async def events(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The data of each server-sent event. llama.cpp before 2025 wrote `error:` where others write `data:`."""
    rest = b""
    async for received in answer.content.iter_any():
        *lines, rest = (rest + received).split(b"\n")
        if len(rest) > LINE_BYTES:
            raise unavailable("The engine's answer is malformed.")
        for line in lines:
            name, colon, data = line.partition(b":")
            if colon and name in {b"data", b"error"}:
                text = data.strip()
                yield b'{"error":' + text + b"}" if name == b"error" else text


async def limited(answer: aiohttp.ClientResponse, limit: int) -> bytes:
    content = bytearray()
    async for received in answer.content.iter_any():
        content += received
        if len(content) > limit:
            raise unavailable("The engine's answer is too long.")
    return bytes(content)


def decoded(data: bytes) -> dict[str, Any]:
    try:
        value = jsons.decoded(data)
        if b"\\ud" in data.lower():  # half of a surrogate pair is no text: nothing after this could encode it
            value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except ValueError as error:
        raise unavailable("The engine's answer is malformed.") from error
    if not isinstance(value, dict):
        raise unavailable("The engine's answer is malformed.")
    return value


def usage_of(usage: dict[str, Any], *, cached: int = 0) -> Usage:
    """`cached` is what was known before of the prompt tokens the engine had kept, for one that does not say it here."""
    prompt = int_of(usage, "prompt_tokens") or 0
    told = int_of(usage.get("prompt_tokens_details"), "cached_tokens")
    return Usage(
        prompt_tokens=prompt,
        cached_prompt_tokens=min(cached if told is None else told, prompt),
        completion_tokens=int_of(usage, "completion_tokens") or 0,
    )


def usage_of_timings(timings: dict[str, Any]) -> Usage:
    cached = int_of(timings, "cache_n") or 0
    return Usage(
        prompt_tokens=(int_of(timings, "prompt_n") or 0) + cached,
        cached_prompt_tokens=cached,
        completion_tokens=int_of(timings, "predicted_n") or 0,
    )


def together(each: dict[int, Usage]) -> Usage:
    """The choices of one prompt: the prompt once, as the first of them had it, and all that was written."""
    first = each[min(each)]
    return written(first, sum(usage.completion_tokens for usage in each.values()))


def written(counted: Usage, tokens: int) -> Usage:
    """The same prompt, and so many tokens of answer. Made for each chunk: pydantic's copy takes four times as long."""
    return Usage(
        prompt_tokens=counted.prompt_tokens,
        cached_prompt_tokens=counted.cached_prompt_tokens,
        completion_tokens=tokens,
    )


def added(usages: Iterable[Usage]) -> Usage:
    """What several requests used."""
    total = Usage()
    for usage in usages:
        total = Usage(
            prompt_tokens=total.prompt_tokens + usage.prompt_tokens,
            cached_prompt_tokens=total.cached_prompt_tokens + usage.cached_prompt_tokens,
            completion_tokens=total.completion_tokens + usage.completion_tokens,
        )
    return total


def best_first(scores: dict[int, float]) -> list[dict[str, Any]]:
    ordered = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    return [{"index": index, "relevance_score": score} for index, score in ordered]


def cosine(one: array.array[float], other: array.array[float]) -> float:
    def product(a: array.array[float], b: array.array[float]) -> float:
        return math.fsum(x * y for x, y in zip(a, b, strict=True))

    lengths = math.sqrt(product(one, one) * product(other, other))
    return product(one, other) / lengths if lengths else 0.0


def index_of(choices: Choices, last: int) -> int:
    """Which choice a chunk is about; one without choices is about the one before it."""
    index = choices[0].get("index", 0) if choices else last
    return index if isinstance(index, int) else last


def int_of(mapping: Any, name: str) -> int | None:
    value = mapping.get(name) if isinstance(mapping, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def packed(embedding: list[float] | str) -> str:
    """Base64 of little-endian float32, whichever form the engine gave."""
    if isinstance(embedding, str):
        return embedding
    vector = array.array("f", embedding)
    if sys.byteorder == "big":
        vector.byteswap()
    return base64.b64encode(vector.tobytes()).decode()


def unpacked(embedding: str) -> array.array[float]:
    vector = array.array("f", base64.b64decode(embedding))
    if sys.byteorder == "big":
        vector.byteswap()
    return vector


def cut(embedding: str, dimensions: int) -> str:
    """The first `dimensions` numbers, of length 1 again: what a model trained for it means by a shorter vector.

    Raises EngineFailed where there are fewer.
    """
    vector = unpacked(embedding)
    if len(vector) < dimensions:
        raise refused(
            "invalid_dimensions", f"This model's embeddings have {len(vector)} dimensions.", param="dimensions"
        )
    if len(vector) == dimensions:
        return embedding
    shorter = vector[:dimensions]
    length = math.sqrt(math.fsum(value * value for value in shorter))
    return packed([value / length for value in shorter] if length else list(shorter))


def failed(status: int, content: bytes, *, param: str | None = None) -> EngineFailed:
    """What an engine's refusal means for the customer.

    A request it cannot do is theirs: 400, or 422 where it says that the form is right and the content is not to be worked
    on (text-embeddings-inference does for what its tokenizer cannot read). Everything else, a wrong key or an unknown model too, is ours: another
    attempt may succeed.
    """
    try:
        given = json.loads(content)
    except ValueError:
        given = {}
    error = given.get("error", given) if isinstance(given, dict) else {}
    error = error if isinstance(error, dict) else {"message": str(error)}
    message = cleaned(error.get("message") or error.get("detail") or "")
    named = error.get("param") if isinstance(error.get("param"), str) else param
    if TOO_LONG.search(message):
        return refused("context_length_exceeded", too_long(message, error, named), param=named or "messages")
    if status in {400, 413, 422}:
        code = error.get("code")
        return refused(
            code if isinstance(code, str) and code else "unprocessable_content" if status == 422 else "invalid_request",
            message or "The engine cannot do this request.",
            param=named,
            status=422 if status == 422 else 400,
        )
    log.warning("engine refused", extra={"status": status, "engine_message": message})
    if status == 429:
        return unavailable("The engine is busy. The request may be sent again.")
    return unavailable()


def too_long(message: str, error: dict[str, Any], param: str | None) -> str:
    """Our sentence: an engine's own advice is for who runs it. llama.cpp gives the counts as fields too."""
    what = "input" if param == "input" else "prompt"
    sent = int_of(error, "n_prompt_tokens") or number(SENT, message)
    taken = int_of(error, "n_ctx") or number(TAKEN, message)
    together = number(ASKED, message)
    if sent and taken and sent > taken:
        return f"The {what} has {sent:,} tokens and this model takes {taken:,}. Shorten it."
    if together and taken and together > taken:
        return (
            f"The {what} and the output asked for have {together:,} tokens together and this model takes {taken:,}. "
            f"Shorten the {what} or lower the maximum output."
        )
    return f"The {what} has more tokens than this model takes. Shorten it."


def number(pattern: re.Pattern[str], text: str) -> int | None:
    match = pattern.search(text)
    return next((int(group) for group in match.groups() if group), None) if match else None


def cleaned(message: object) -> str:
    """An engine's sentence without control characters, and without addresses and paths of the site."""
    text = message if isinstance(message, str) else json.dumps(message)
    text = ADDRESS.sub("…", "".join(character if character.isprintable() else " " for character in text))
    return text if len(text) <= MESSAGE_CHARACTERS else text[: MESSAGE_CHARACTERS - 1] + "…"
