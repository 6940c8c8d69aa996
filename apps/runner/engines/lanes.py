"""Connections to an engine, one in each pool: httpcore looks at every connection of a pool for every request.

With 64 requests at once that look was nine tenths of what a short request cost (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx

KEPT = 64  # idle ones
ONE = httpx.Limits(max_connections=1, max_keepalive_connections=1)


class Lanes(httpx.AsyncBaseTransport):
    """A request takes the lane that was used last, or a new one, and gives it back when its answer was read to its end.

    One whose answer was left is closed: whatever httpcore still thinks of its connection, no request waits for it.
    """

    def __init__(self, *, socket: str | None = None) -> None:
        self.socket = socket
        self.tls = httpx.create_ssl_context(trust_env=False)
        self.idle: list[httpx.AsyncHTTPTransport] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        lane = self.idle.pop() if self.idle else self.lane()
        try:
            response = await lane.handle_async_request(request)
        except BaseException:
            await lane.aclose()
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = Answer(response.stream, self, lane)
        return response

    def lane(self) -> httpx.AsyncHTTPTransport:
        return httpx.AsyncHTTPTransport(uds=self.socket, verify=self.tls, limits=ONE, trust_env=False)

    async def give_back(self, lane: httpx.AsyncHTTPTransport) -> None:
        if len(self.idle) < KEPT:
            self.idle.append(lane)
        else:
            await lane.aclose()

    async def aclose(self) -> None:
        idle, self.idle = self.idle, []
        for lane in idle:
            await lane.aclose()


class Answer(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, lanes: Lanes, lane: httpx.AsyncHTTPTransport) -> None:
        self.stream = stream
        self.lanes = lanes
        self.using: httpx.AsyncHTTPTransport | None = lane
        self.ended = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self.stream:
            yield part
        self.ended = True

    async def aclose(self) -> None:
        lane, self.using = self.using, None
        whole = False
        try:
            await self.stream.aclose()
            whole = self.ended
        finally:
            if lane is not None:
                await (self.lanes.give_back(lane) if whole else lane.aclose())
