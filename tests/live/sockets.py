"""A page's socket, as a browser opens it: the door's own application, cookies and origin."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.test import Client

from apps.live import bell, streams
from apps.live.routing import application
from cango_portal import database

ORIGIN = "http://testserver"


@pytest.fixture(autouse=True)
async def closed():
    """What a socket opens in an event loop is closed before the loop is: for the files that import this."""
    yield
    await bell.close()
    await streams.close()
    await database.close()


def cookie(user):
    if user is None:
        return ""
    client = Client()
    client.force_login(user, "allauth.account.auth_backends.AuthenticationBackend")
    return f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"


class Socket:
    def __init__(self, communicator):
        self.communicator = communicator

    async def say(self, **message):
        await self.send(json.dumps(message))

    async def send(self, text):
        await self.communicator.send_input({"type": "websocket.receive", "text": text})

    async def receive(self):
        return await self.communicator.output_queue.get()

    async def hear(self, kind=None, seconds=15):
        """The next message that is not a ping; of that kind, if one is asked for."""
        async with asyncio.timeout(seconds):
            while True:
                output = await self.receive()
                assert output["type"] == "websocket.send", output
                message = json.loads(output["text"])
                if message["k"] != "ping" and kind in (None, message["k"]):
                    return message

    async def closed(self, seconds=15):
        async with asyncio.timeout(seconds):
            while True:
                output = await self.receive()
                if output["type"] == "websocket.close":
                    return output["code"]

    async def quiet(self, seconds=0.5):
        """True where nothing but pings comes for so long."""
        try:
            await self.hear(seconds=seconds)
        except TimeoutError:
            return True
        return False

    async def text(self, topic, start=0):
        """The whole text of a log topic, as a client puts it together: overlaps cut, gaps refused."""
        have = b""
        while True:
            message = await self.hear("add")
            assert message["t"] == topic
            part = message["d"].encode("utf-16-le")
            assert message["off"] - start <= len(have) // 2, "a gap"
            have += part[2 * (start + len(have) // 2 - message["off"]) :]
            if "end" in message:
                return have.decode("utf-16-le")


@asynccontextmanager
async def connected(user, path, origin=ORIGIN, accepted=True):
    cookies = await sync_to_async(cookie)(user)
    headers = [(b"host", b"testserver"), (b"cookie", cookies.encode())] + (
        [(b"origin", origin.encode())] if origin else []
    )
    scope = {"type": "websocket", "path": path, "query_string": b"", "headers": headers, "subprotocols": []}
    communicator = ApplicationCommunicator(application, scope)
    await communicator.send_input({"type": "websocket.connect"})
    output = await communicator.receive_output(timeout=15)
    assert output["type"] == ("websocket.accept" if accepted else "websocket.close")
    try:
        yield Socket(communicator)
    finally:
        await communicator.send_input({"type": "websocket.disconnect", "code": 1001})
        await communicator.wait(timeout=15)
