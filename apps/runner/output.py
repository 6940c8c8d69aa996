"""A job's Redis stream, as its one writer sees it. The first entry is the claim: who wrote it owns the attempt."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from apps.core.turns import Turns
from apps.runner import protocol
from apps.runner.protocol import Entry, Order, Writing

EXPIRE_SECONDS = 3600
SHOWN_SECONDS = 60  # what was shown of rows is there so long after the last word
LEFT_SECONDS = 10  # and so long after the end: readers have it at once

# KEYS[1] the stream. ARGV: entry, claimant, fence, seconds to live, "claim", "append" or "restore".
# 'ours': written. 'theirs': the first entry is another claimant's, nothing was written. 'gone': the stream is empty
# (flushed, evicted), and an append would leave its start out, so nothing was written either; a restore begins it anew.
WRITE = """
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
if #first == 0 then
  if ARGV[5] == 'append' then return 'gone' end
else
  local owner = cjson.decode(first[1][2][2])
  if owner.claimant ~= ARGV[2] or owner.fence ~= ARGV[3] then return 'theirs' end
  if ARGV[5] == 'claim' then return 'ours' end
end
redis.call('XADD', KEYS[1], '*', 'e', ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 'ours'
"""

# KEYS[1] the stream. ARGV: entry, seconds to live, "begin" or "append". A beginning takes the place of all that is there.
SHOW = """
if ARGV[3] == 'append' and redis.call('EXISTS', KEYS[1]) == 0 then return 'gone' end
if ARGV[3] == 'begin' then
  redis.call('XADD', KEYS[1], 'MAXLEN', '1', '*', 'e', ARGV[1])
else
  redis.call('XADD', KEYS[1], '*', 'e', ARGV[1])
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 'ours'
"""


class Written(enum.Enum):
    OURS = "ours"
    THEIRS = "theirs"
    GONE = "gone"


class Writer:
    """Writes to streams. Those of attempts that write at the same moment go out together, on one connection."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.turns: Turns[tuple[str | int, ...], str | bytes] = Turns(self.together)

    async def write(self, key: str, *arguments: str | int) -> str:
        answer = await self.turns.ask((key, *arguments))
        return answer.decode() if isinstance(answer, bytes) else answer

    async def together(self, writes: Sequence[tuple[str | int, ...]]) -> Sequence[str | bytes | Exception]:
        async with self.redis.pipeline(transaction=False) as pipe:
            for write in writes:
                pipe.eval(WRITE, 1, *map(str, write))
            answers: Sequence[str | bytes | Exception] = await pipe.execute(raise_on_error=False)
            return answers


class Output:
    """Writes of one attempt. Raises redis.RedisError where Redis is away; every write may be repeated.

    A repeated append after a lost answer leaves two entries with the same `seq`, and a reader cuts the overlap.
    """

    def __init__(self, writer: Writer, order: Order, claimant: str) -> None:
        self.writer = writer
        self.key = protocol.stream(order.pool, order.job, order.attempt)
        self.rows_key = protocol.rows(order.pool, order.job, order.attempt)
        self.claimant = claimant
        self.fence = order.fence

    def entry(self, **fields: Any) -> Entry:
        return Entry(claimant=self.claimant, fence=self.fence, **fields)

    async def claim(self) -> Written:
        return await self.write(self.entry(), "claim")

    async def append(self, entry: Entry) -> Written:
        return await self.write(entry, "append")

    async def restore(self, entry: Entry) -> Written:
        """Write an entry that holds everything from `seq` 0, claim and content at once, where the stream was lost."""
        return await self.write(entry, "restore")

    async def write(self, entry: Entry, how: str) -> Written:
        text = entry.model_dump_json(exclude_defaults=True)
        return Written(await self.writer.write(self.key, text, self.claimant, self.fence, EXPIRE_SECONDS, how))

    async def show(self, entry: Writing, how: str) -> Written:
        """Say how rows of a shard are written: `begin` a text, or `append` to it. GONE where its beginning is not there any more."""
        text = entry.model_dump_json(exclude_defaults=True)
        answer = await self.writer.redis.eval(SHOW, 1, self.rows_key, text, str(SHOWN_SECONDS), how)
        return Written(answer.decode() if isinstance(answer, bytes) else answer)

    async def leave(self) -> None:
        """What was shown has its end: nobody reads it for long."""
        await self.writer.redis.expire(self.rows_key, LEFT_SECONDS)
