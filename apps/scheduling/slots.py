"""Slots of pools in Redis: a sorted set `slots:<pool>` of holders by the time they run out.

Hot state that can be rebuilt: a won slot runs out after `TTL_SECONDS` unless the dispatcher renews it from the leases in
PostgreSQL, so a crash between winning and committing costs a slot for seconds, and a flushed Redis is right again one
tick later.
"""

from collections.abc import Sequence
from typing import Any

import redis

from apps.scheduling.placement import Candidate
from cango_portal import valkey

TTL_SECONDS = 15

WIN = """
local now = tonumber(redis.call('TIME')[1])
for _, key in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  if redis.call('ZSCORE', key, ARGV[1]) then return -1 end
end
for i, key in ipairs(KEYS) do
  if redis.call('ZCARD', key) < tonumber(ARGV[i + 2]) then
    redis.call('ZADD', key, now + tonumber(ARGV[2]), ARGV[1])
    redis.call('EXPIRE', key, 3600)
    return i
  end
end
return 0
"""

RENEW = """
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], now + tonumber(ARGV[1]), ARGV[i]) end
redis.call('EXPIRE', KEYS[1], 3600)
return redis.call('ZCARD', KEYS[1])
"""


SHARDS = 2  # of batches at once on a pool: while one ends, the other keeps the engine busy


def key(pool: str) -> str:
    return f"slots:{pool}"


def lane(pool: str, *, shard: bool) -> str:
    """Shards of batches have slots of their own: a runner gives their rows only what its other work leaves free."""
    return f"{pool}:shards" if shard else pool


def holder(job_id: object, attempt: int) -> str:
    return f"{job_id}:{attempt}"


# A server that answers but takes no writes (a replica after a failover, say) is as good as away.
UNUSABLE = (*valkey.Away, redis.ResponseError)


class Contended(Exception):
    """Another process holds a slot for this very attempt: it is being placed right now."""


def _chosen(candidates: Sequence[Candidate], index: int) -> Candidate | None:
    if index < 0:
        raise Contended
    return candidates[index - 1] if index else None


def _arguments(candidates: Sequence[Candidate], holder: str, shard: bool = False) -> list[Any]:
    keys = [key(lane(each.pool.code, shard=shard)) for each in candidates]
    return [WIN, len(keys), *keys, holder, TTL_SECONDS, *(SHARDS if shard else each.pool.slots for each in candidates)]


def win(candidates: Sequence[Candidate], *, holder: str, shard: bool = False) -> Candidate | None:
    """Take a slot of the first candidate that has one free. Raises Contended, and `valkey.Away`."""
    if not candidates:
        return None
    try:
        index = int(valkey.client().eval(*_arguments(candidates, holder, shard)))
    except redis.ResponseError as error:
        raise redis.ConnectionError("no writes") from error
    return _chosen(candidates, index)


async def win_async(candidates: Sequence[Candidate], *, holder: str) -> Candidate | None:
    if not candidates:
        return None
    try:
        index = int(await valkey.ask_async("EVAL", *_arguments(candidates, holder)))
    except redis.ResponseError as error:
        raise redis.ConnectionError("no writes") from error
    return _chosen(candidates, index)


def free(pool: str, *, holder: str) -> None:
    """Give a slot back. Where Redis is away it runs out by itself."""
    try:
        valkey.client().zrem(key(pool), holder)
    except UNUSABLE:
        return


async def free_async(pool: str, *, holder: str) -> None:
    try:
        await valkey.ask_async("ZREM", key(pool), holder)
    except UNUSABLE:
        return


def renew(pool: str, *, holders: Sequence[str]) -> int:
    """Write the holders PostgreSQL knows of, for another `TTL_SECONDS`. Returns how many slots are taken. Raises `valkey.Away`."""
    return int(valkey.client().eval(RENEW, 1, key(pool), TTL_SECONDS, *holders))
