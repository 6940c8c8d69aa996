"""The portal's door for runners, by HTTPS. Nothing else of the portal is reached from a site, and nothing reaches in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
import httpx
from pydantic import ValidationError

from apps.runner.engines.engine import EngineFailed
from apps.runner.identity import Identity
from apps.runner.protocol import (
    BurnInAnswer,
    BurnInResult,
    Failure,
    Heartbeat,
    HeartbeatAnswer,
    Message,
    Report,
    Reports,
    ReportsAnswer,
    Telemetry,
    TelemetryAnswer,
)

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 10.0
HEARTBEAT_SECONDS = 3.0
BODY_BYTES = 32 * 1024 * 1024
FILE_BYTES = 128 * 1024 * 1024
UPLINK = 256 * 1024  # bytes a second that a call may take to be sent
IDLE_SECONDS = 30.0  # a connection is kept: less than the portal does (65), so that none is closed under a call
BROKEN = (aiohttp.ClientError, httpx.HTTPError, OSError)  # how a call fails


class PortalAway(Exception):
    """No answer, or one that may be another next time."""


class PortalDown(PortalAway):
    """Nobody listens at its address, or what stands before it finds it away: it hears no other runner either."""


class PortalRefused(Exception):
    """The portal will not take this, however often it is sent."""


Answer = TypeVar("Answer", bound=Message)


def understood(shape: type[Answer], content: bytes) -> Answer:
    try:
        return shape.model_validate_json(content)
    except ValidationError as error:  # something else answers on this address
        raise PortalAway("the answer is not the portal's") from error


def nobody_listens(error: BaseException | None) -> bool:
    """Did every address of the portal refuse the connection? What a client raises says so only in what it came from."""
    while error is not None:
        if isinstance(error, BaseExceptionGroup):
            return all(nobody_listens(each) for each in error.exceptions)
        if isinstance(error, ConnectionRefusedError):
            return True
        error = error.__cause__ or error.__context__
    return False


def authorization(token: str) -> dict[str, str]:
    """None where the portal gave no token: its refusal then says why."""
    return {"Authorization": f"Bearer {token}"} if token else {}


@dataclass(frozen=True, slots=True)
class Answered:
    status_code: int
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        return json.loads(self.content)


class Portal:
    """`token` is a fixed one; an enrolled node has an `identity` instead, which asks for a new one in time."""

    def __init__(self, *, url: str, token: str = "", identity: Identity | None = None) -> None:
        self.url = url
        self.token = token
        self.identity = identity
        self.client = httpx.AsyncClient(
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            trust_env=False,
        )
        self.session: aiohttp.ClientSession | None = None
        # Signed paths carry their own right; the node's token stays out of them.
        self.files = httpx.AsyncClient(timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS), trust_env=False)

    @property
    def calling(self) -> aiohttp.ClientSession:
        """For all that a runner says again and again, by aiohttp: httpx takes ten times as long over a short call."""
        if self.session is None:
            ssl = httpx.create_ssl_context(trust_env=False) if self.url.startswith("https:") else True
            self.session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=ssl, keepalive_timeout=IDLE_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self.session

    async def close(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            await session.close()
        await self.client.aclose()
        await self.files.aclose()

    async def post(self, path: str, content: str, *, seconds: float) -> bytes:
        try:
            answer = await self.call(path, content, seconds=seconds)
        except BROKEN as error:
            raise PortalDown(repr(error)) if nobody_listens(error) else PortalAway(repr(error)) from error
        if answer.status_code == 200:
            return answer.content
        # A wrong token may be put right; only what the portal calls malformed is sent no more.
        if answer.status_code in {400, 413, 422}:
            raise PortalRefused(f"{answer.status_code}: {answer.text[:200]}")
        if answer.status_code in {502, 503, 504}:
            raise PortalDown(f"{path} answered {answer.status_code}")
        raise PortalAway(f"{path} answered {answer.status_code}")

    async def call(self, path: str, content: str | None, *, seconds: float, refused: str = "") -> Answered:
        """POST `content`, or GET where there is none. Raises what is BROKEN."""
        token = await self.identity.bearer(self.client, self.url, refused=refused) if self.identity else self.token
        headers = {"Content-Type": "application/json", **authorization(token)}
        method = "GET" if content is None else "POST"
        sending = len(content or "") / UPLINK
        timeout = aiohttp.ClientTimeout(total=seconds + sending, sock_connect=CONNECT_SECONDS)
        async with self.calling.request(
            method, f"{self.url}{path}", data=content, headers=headers, timeout=timeout, allow_redirects=False
        ) as got:
            answer = Answered(got.status, await got.read())
        if (
            answer.status_code == 401 and self.identity and not refused and token
        ):  # the portal's secret may be a new one
            return await self.call(path, content, seconds=seconds, refused=token)
        return answer

    async def report(self, reports: list[Report]) -> ReportsAnswer:
        content = Reports(reports=reports).model_dump_json(exclude_none=True)
        answer = await self.post("/agent/v1/reports", content, seconds=ANSWER_SECONDS)
        return understood(ReportsAnswer, answer)

    async def burned_in(self, result: BurnInResult) -> BurnInAnswer:
        answer = await self.post("/agent/v1/burn-in", result.model_dump_json(exclude_none=True), seconds=ANSWER_SECONDS)
        return understood(BurnInAnswer, answer)

    async def beat(self, heartbeat: Heartbeat) -> HeartbeatAnswer:
        content = heartbeat.model_dump_json(exclude_none=True)
        answer = await self.post("/agent/v1/heartbeat", content, seconds=HEARTBEAT_SECONDS)
        return understood(HeartbeatAnswer, answer)

    async def tell(self, telemetry: Telemetry) -> TelemetryAnswer:
        content = telemetry.model_dump_json(exclude_none=True)
        return understood(TelemetryAnswer, await self.post("/agent/v1/telemetry", content, seconds=ANSWER_SECONDS))

    async def fetch(self, path: str, *, limit: int) -> bytes:
        """A request body or a file by its signed path. Raises PortalAway, or EngineFailed where it is gone or too large."""
        content = bytearray()
        try:
            async with self.files.stream("GET", f"{self.url}{path}") as answer:
                if answer.status_code in {403, 404, 410}:
                    raise EngineFailed(
                        Failure(
                            code="input_expired", message="The input of this job is not stored any more.", status=410
                        )
                    )
                if answer.status_code != 200:
                    raise PortalAway(f"an input answered {answer.status_code}")
                async for part in answer.aiter_bytes():
                    content += part
                    if len(content) > limit:
                        raise EngineFailed(
                            Failure(code="input_too_large", message="The input of this job is too large.", status=413)
                        )
        except (httpx.HTTPError, OSError) as error:
            raise PortalAway(repr(error)) from error
        return bytes(content)
