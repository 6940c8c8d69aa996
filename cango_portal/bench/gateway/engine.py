"""The engine everything is measured against: OpenAI's wire, next to no work, always the same answer.

The model `paced` gives 64 tokens at 10 ms, the first after 20 ms. The model `instant` has its whole answer at once, in
one chunk where it is streamed, since our runner always asks for a stream. Whatever has an `input` gets a vector of 384
numbers at once. Run as a process of its own:

    python -m cango_portal.bench.gateway.engine <port>
"""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import sys
from typing import cast

import httptools
import uvloop

TOKENS = 64
FIRST_SECONDS, PACE_SECONDS = 0.020, 0.010
STREAM_SECONDS = FIRST_SECONDS + (TOKENS - 1) * PACE_SECONDS
PROMPT_TOKENS = 12
WORD = " token"
PACED, INSTANT, VECTORS = "paced", "instant", "vectors"

HEAD = {"id": "chatcmpl-bench", "created": 1_700_000_000, "model": "bench"}
USAGE = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": TOKENS, "total_tokens": PROMPT_TOKENS + TOKENS}


def text(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def chunk(choices: list[dict[str, object]], **more: object) -> bytes:
    """One event as a part of a chunked body."""
    value = {**HEAD, "object": "chat.completion.chunk", "choices": choices, **more}
    event = b"data: " + text(value) + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


def said(words: str) -> bytes:
    return chunk([{"index": 0, "delta": {"role": "assistant", "content": words}, "finish_reason": None}])


def whole(content_type: str, body: bytes) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n"
        % (
            content_type.encode(),
            len(body),
        )
        + body
    )


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
TOKEN = said(WORD)
DONE = b"data: [DONE]\n\n"
STREAM_END = (
    chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}])
    + chunk([], usage=USAGE)
    + b"%x\r\n%b\r\n" % (len(DONE), DONE)
    + b"0\r\n\r\n"
)
ANSWER = whole(
    "application/json",
    text(
        {
            **HEAD,
            "object": "chat.completion",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": WORD * TOKENS}, "finish_reason": "stop"}
            ],
            "usage": USAGE,
        }
    ),
)
ANSWER_STREAMED = STREAM_HEAD + said(WORD * TOKENS) + STREAM_END
VECTOR = base64.b64encode(struct.pack("<384f", *(n / 384 for n in range(384)))).decode()
EMBEDDING = whole(
    "application/json",
    text(
        {
            "object": "list",
            "model": "bench",
            "data": [{"object": "embedding", "index": 0, "embedding": VECTOR}],
            "usage": {"prompt_tokens": PROMPT_TOKENS, "total_tokens": PROMPT_TOKENS},
        }
    ),
)
MODELS = whole(
    "application/json", text({"object": "list", "data": [{"id": name} for name in (PACED, INSTANT, VECTORS)]})
)


class Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.parser = httptools.HttpRequestParser(self)
        self.body: list[bytes] = []
        self.left = 0
        self.due = 0.0
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's does not descend from it

    def connection_lost(self, exc: Exception | None) -> None:
        if self.timer is not None:
            self.timer.cancel()

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    # httptools calls these

    def on_message_begin(self) -> None:
        self.body.clear()

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        assert self.transport is not None
        if self.parser.get_method() == b"GET":
            self.transport.write(MODELS)
            return
        asked = json.loads(b"".join(self.body))
        if "input" in asked:
            self.transport.write(EMBEDDING)
            return
        if asked.get("model") != PACED:
            self.transport.write(ANSWER_STREAMED if asked.get("stream") else ANSWER)
            return
        self.transport.write(STREAM_HEAD)
        self.left = TOKENS
        self.due = self.loop.time() + FIRST_SECONDS
        self.timer = self.loop.call_at(self.due, self.say)

    def say(self) -> None:
        """The token that is due, by the clock of the stream's beginning, so that lateness does not add up."""
        assert self.transport is not None
        self.left -= 1
        if not self.left:
            self.transport.write(TOKEN + STREAM_END)
            return
        self.transport.write(TOKEN)
        self.due += PACE_SECONDS
        self.timer = self.loop.call_at(self.due, self.say)


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
