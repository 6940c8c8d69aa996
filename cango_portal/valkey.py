"""Clients of Redis (or Valkey) for hot state, with short timeouts: nothing of ours waits on it for longer than 2 s."""

import asyncio
from collections.abc import Sequence
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import redis
import redis.asyncio
from django.conf import settings
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from apps.core.turns import Turns

OPTIONS: dict[str, Any] = {"socket_timeout": 2, "socket_connect_timeout": 2, "decode_responses": True}

Away = (redis.ConnectionError, redis.TimeoutError, OSError)  # what a caller catches when the server is not there

_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, redis.asyncio.Redis] = WeakKeyDictionary()


@cache
def client() -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_URL, retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)), **OPTIONS
    )


def client_async() -> redis.asyncio.Redis:
    """One client for the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _clients:
        _clients[loop] = redis.asyncio.Redis.from_url(
            settings.REDIS_URL, retry=AsyncRetry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)), **OPTIONS
        )
    return _clients[loop]


Command = tuple[Any, ...]


async def ask_async(*command: Any) -> Any:
    """One short command, sent together with those that others ask at the same moment, in the order they asked.

    Answers are those of the wire: not what redis-py's own method for the command would make of them.
    Raises what is `Away`, and redis.ResponseError.
    """
    return await _turns.ask(command)


async def _together(commands: Sequence[Command]) -> Sequence[Any]:
    if len(commands) == 1:
        return [await client_async().execute_command(*commands[0])]  # type: ignore[no-untyped-call]
    async with client_async().pipeline(transaction=False) as pipe:
        for command in commands:
            pipe.execute_command(*command)
        answers: Sequence[Any] = await pipe.execute(raise_on_error=False)
        return answers


_turns: Turns[Command, Any] = Turns(_together)
