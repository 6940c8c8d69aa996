"""Clients of Redis (or Valkey) for hot state, with short timeouts: nothing of ours waits on it for longer than 2 s."""

import asyncio
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import redis
import redis.asyncio
from django.conf import settings
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

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
