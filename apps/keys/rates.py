"""Rate limits: requests, input tokens and output tokens of any 60 seconds, and requests at the same time.

A window is counted in Valkey in slots of a quarter of a second, one hash for each limit; all limits of a request are one
script, so they are exact across processes and a request counts in all of them or in none. A request counts from its
admission, with the most tokens it can read and write; at its end what it did not use comes back. So a limit is never
passed, streams or not.

While Valkey is away each process counts for itself, with its share of every limit (WEB_PROCESSES): together they still
stay below it.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import redis
from django.conf import settings

from apps.core.errors import PortalError
from apps.core.sql import Row
from apps.keys import figures
from apps.keys.services import Caller
from cango_portal import valkey

SLOT_MS = 250
SLOTS = 240  # a minute of them
LEASE_SECONDS = 60  # a request that runs says so again before this is over
RENEW_SECONDS = 20
UNUSABLE = (*valkey.Away, redis.ResponseError)

# Part of a statement, with the parameters organization, api_key, model and tier: the limits that count for a request, as
# one jsonb. Among limits that name the same kinds of things, one for the organization goes before one for everybody.
OF = """
SELECT jsonb_agg(to_jsonb(l)) FROM (
    SELECT DISTINCT ON (r.api_key_id IS NULL, r.model_id IS NULL, r.tier = '')
        r.api_key_id IS NOT NULL AS is_key, m.name AS model, r.tier, r.requests_per_minute, r.input_tokens_per_minute,
        r.output_tokens_per_minute, r.concurrent_requests
    FROM keys_ratelimit r LEFT JOIN catalog_model m ON m.id = r.model_id
    WHERE (r.organization_id = %(organization)s::uuid OR r.organization_id IS NULL)
        AND (r.api_key_id = %(api_key)s::uuid OR r.api_key_id IS NULL)
        AND (r.model_id = %(model)s::bigint OR r.model_id IS NULL) AND (r.tier = %(tier)s::text OR r.tier = '')
    ORDER BY r.api_key_id IS NULL, r.model_id IS NULL, r.tier = '', r.organization_id IS NULL
) l
"""

WINDOW = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local slot = math.floor(now / 250)
local first = slot - 240
local function numbers(text)
  local r, i, o = string.match(text, '(%-?%d+) (%-?%d+) (%-?%d+)')
  return {tonumber(r), tonumber(i), tonumber(o)}
end
local function text(n) return string.format('%d %d %d', n[1], n[2], n[3]) end
local function window(key)
  local got = redis.call('HMGET', key, 'from', 'sum', 'last')
  if not got[1] then return {0, 0, 0}, slot, slot end
  local from, sum, last = tonumber(got[1]), numbers(got[2]), tonumber(got[3])
  if last < first then
    redis.call('DEL', key)
    return {0, 0, 0}, slot, slot
  end
  if from < first then
    local old = {}
    for s = from, first - 1 do old[#old + 1] = s end
    for _, value in ipairs(redis.call('HMGET', key, unpack(old))) do
      if value then
        local n = numbers(value)
        for m = 1, 3 do sum[m] = sum[m] - n[m] end
      end
    end
    redis.call('HDEL', key, unpack(old))
    redis.call('HSET', key, 'from', first, 'sum', text(sum))
    from = first
  end
  return sum, from, last
end
"""
# KEYS: the reservation, then window and leases of each limit. ARGV: holder, requests, input and output tokens, seconds of
# the lease, then of each limit its four figures, -1 where there is none.
TAKE = (
    WINDOW
    + """
local asked = {tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])}
local lease = tonumber(ARGV[5])
local count = (#KEYS - 1) / 2
local sums, froms, lasts, busy = {}, {}, {}, {}
local refused, metric, wait = 0, 0, -1
for n = 1, count do
  local key, leases, at = KEYS[2 * n], KEYS[2 * n + 1], 5 + 4 * (n - 1)
  sums[n], froms[n], lasts[n] = window(key)
  local most = tonumber(ARGV[at + 4])
  busy[n] = 0
  if most >= 0 then
    redis.call('ZREMRANGEBYSCORE', leases, '-inf', now)
    busy[n] = redis.call('ZCARD', leases)
  end
  if asked[1] > 0 then
    for m = 1, 3 do
      local limit = tonumber(ARGV[at + m])
      local over = sums[n][m] + asked[m] - limit
      if limit >= 0 and asked[m] > 0 and over > 0 then
        local after = 1e12
        if asked[m] <= limit then
          for s = froms[n], slot do
            local value = redis.call('HGET', key, s)
            if value then over = over - numbers(value)[m] end
            if over <= 0 then
              after = (s + 241) * 250 - now
              break
            end
          end
        end
        if after > wait then refused, metric, wait = n, m, after end
      end
    end
    if lease > 0 and most >= 0 and busy[n] >= most and wait < 1000 then refused, metric, wait = n, 4, 1000 end
  end
end
if refused == 0 and asked[1] > 0 then
  local kept = {slot, asked[2], asked[3]}
  for n = 1, count do
    local key, leases = KEYS[2 * n], KEYS[2 * n + 1]
    local here = numbers(redis.call('HGET', key, slot) or '0 0 0')
    for m = 1, 3 do
      here[m] = here[m] + asked[m]
      sums[n][m] = sums[n][m] + asked[m]
    end
    redis.call('HSET', key, slot, text(here), 'sum', text(sums[n]), 'from', froms[n], 'last', slot)
    redis.call('PEXPIRE', key, 61000)
    lasts[n] = slot
    if lease > 0 and tonumber(ARGV[9 + 4 * (n - 1)]) >= 0 then
      redis.call('ZADD', leases, now + lease * 1000, ARGV[1])
      redis.call('EXPIRE', leases, lease)
      busy[n] = busy[n] + 1
    end
    kept[#kept + 1] = key
  end
  redis.call('SET', KEYS[1], table.concat(kept, ' '), 'PX', 61000)
end
local answer = {refused, metric, wait}
for n = 1, count do
  local sum = sums[n]
  local used = sum[1] + sum[2] + sum[3] > 0
  for _, value in ipairs({sum[1], sum[2], sum[3], used and (lasts[n] + 241) * 250 - now or 0, busy[n]}) do
    answer[#answer + 1] = value
  end
end
return answer
"""
)
# KEYS: the reservation. ARGV: requests to give back, input and output tokens that were used.
CORRECT = (
    WINDOW
    + """
local kept = redis.call('GETDEL', KEYS[1])
if not kept then return 0 end
local parts = {}
for part in string.gmatch(kept, '%S+') do parts[#parts + 1] = part end
local back = {tonumber(ARGV[1]), tonumber(parts[2]) - tonumber(ARGV[2]), tonumber(parts[3]) - tonumber(ARGV[3])}
for n = 4, #parts do
  local sum = window(parts[n])
  local value = redis.call('HGET', parts[n], parts[1])
  if value then
    local here = numbers(value)
    for m = 1, 3 do
      here[m] = here[m] - back[m]
      sum[m] = sum[m] - back[m]
    end
    redis.call('HSET', parts[n], parts[1], text(here), 'sum', text(sum))
  end
end
return 1
"""
)

METRICS = ("requests", "input_tokens", "output_tokens", "concurrent")
WORDS = tuple(figures.WORDS.values())


@dataclass(frozen=True, slots=True)
class Limit:
    """Figures of one minute, and of one moment; None where there is none. `whose` is what a refusal calls it."""

    counter: str
    whose: str
    requests: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    concurrent: int | None = None

    @property
    def figures(self) -> tuple[int | None, ...]:
        return self.requests, self.input_tokens, self.output_tokens, self.concurrent


@dataclass(frozen=True, slots=True)
class Window:
    """What a limit has counted. `reset_ms`: until it is whole again, if nothing more comes."""

    limit: Limit
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    reset_ms: int = 0
    concurrent: int = 0

    @property
    def used(self) -> tuple[int, ...]:
        return self.requests, self.input_tokens, self.output_tokens, self.concurrent


class RateLimited(PortalError):
    """A limit has no room for this request. It counts in none of them, and nothing was accepted."""

    code, status, type = "rate_limit_exceeded", 429, "requests"

    def __init__(self, message: str, *, windows: Sequence[Window], type: str, wait_ms: int | None) -> None:
        super().__init__(message, retry_after_ms=wait_ms)
        self.windows = windows
        self.type = type  # type: ignore[misc]  # "requests" or "tokens", as the official API says
        if wait_ms is None:
            self.retryable = False  # type: ignore[misc]  # it never fits


class TooManyAtOnce(RateLimited):
    code = "concurrent_requests_exceeded"


def limits(caller: Caller, rows: Iterable[Row] | None, *, usual: Sequence[int | None]) -> list[Limit]:
    """Those that count for a request: of `rows`, the result of OF, and `usual`, the plan's, where none is for the organization."""
    found = [limit_of(caller, row) for row in rows or ()]
    if not any(limit.counter == str(caller.organization_id) for limit in found):
        found.append(Limit(str(caller.organization_id), "This organization", *usual))
    return [limit for limit in found if any(figure is not None for figure in limit.figures)]


def limit_of(caller: Caller, row: Row) -> Limit:
    """Every organization counts for itself, also where a limit is for everybody."""
    counter, whose = str(caller.organization_id), "This API key" if row["is_key"] else "This organization"
    if row["is_key"]:
        counter += f":{caller.api_key_id}"
    if row["model"]:
        counter += f":{row['model']}"
        whose += f", for the model {row['model']},"
    if row["tier"]:
        counter += f":{row['tier']}"
        whose += f", at the tier {row['tier']},"
    return Limit(
        counter.replace(" ", "+"),
        whose.replace(",,", ","),
        row["requests_per_minute"],
        row["input_tokens_per_minute"],
        row["output_tokens_per_minute"],
        row["concurrent_requests"],
    )


def reservation(job_id: UUID) -> str:
    return f"rate:of:{job_id}"


def busy(limit: Limit) -> str:
    return f"busy:{limit.counter}"


def arguments(limits: Sequence[Limit], job_id: UUID | None, asked: tuple[int, int, int], lease: bool) -> list[Any]:
    keys = [reservation(job_id) if job_id else "rate:none"]
    figures: list[int] = []
    for limit in limits:
        keys += [f"rate:{limit.counter}", busy(limit)]
        figures += [-1 if figure is None else figure for figure in limit.figures]
    return [TAKE, len(keys), *keys, str(job_id), *asked, LEASE_SECONDS if lease else 0, *figures]


def read(limits: Sequence[Limit], asked: tuple[int, int, int], answer: Sequence[int]) -> tuple[Window, ...]:
    """The windows in a script's answer. Raises RateLimited."""
    refused, metric, wait, *counted = (int(value) for value in answer)
    windows = tuple(Window(limit, *counted[5 * n : 5 * n + 5]) for n, limit in enumerate(limits))
    if refused:
        raise refusal(windows, windows[refused - 1], metric - 1, asked, wait)
    return windows


def refusal(
    windows: Sequence[Window], window: Window, metric: int, asked: tuple[int, int, int], wait_ms: int
) -> RateLimited:
    limit, used = window.limit.figures[metric], window.used[metric]
    if METRICS[metric] == "concurrent":
        return TooManyAtOnce(
            f"{window.limit.whose} may have {limit:,} {WORDS[metric]}, and {used:,} are running. Nothing was accepted "
            "or charged. Try again when one has ended.",
            windows=windows,
            type="requests",
            wait_ms=wait_ms,
        )
    needed = asked[metric]
    begins = f"{window.limit.whose} may use {limit:,} {WORDS[metric]}"
    if needed > (limit or 0):
        how = " Ask for fewer with max_completion_tokens." if METRICS[metric] == "output_tokens" else ""
        message = f"{begins}, and this request needs up to {needed:,}. Nothing was accepted or charged.{how}"
        return RateLimited(message, windows=windows, type=type_of(metric), wait_ms=None)
    message = (
        f"{begins}: {used:,} are used and this request needs up to {needed:,}. Nothing was accepted or charged. "
        f"Try again in {duration(wait_ms)}."
    )
    return RateLimited(message, windows=windows, type=type_of(metric), wait_ms=wait_ms)


def type_of(metric: int) -> str:
    return "requests" if METRICS[metric] == "requests" else "tokens"


async def take_async(
    limits: Sequence[Limit], *, job_id: UUID, input_tokens: int, output_tokens: int, lease: bool
) -> tuple[Window, ...]:
    """Count one request in all of its limits, or in none: then raises RateLimited.

    `lease`: it also counts as one at the same time, until `end` or for LEASE_SECONDS after the last `renew`.
    """
    asked = (1, input_tokens, output_tokens)
    if not limits:
        return ()
    try:
        answer = await valkey.client_async().eval(*arguments(limits, job_id, asked, lease))
    except UNUSABLE:
        return alone.take(limits, str(job_id), asked, lease=lease)
    return read(limits, asked, answer)


def take(
    limits: Sequence[Limit], *, job_id: UUID, input_tokens: int, output_tokens: int, lease: bool
) -> tuple[Window, ...]:
    """As `take_async`."""
    asked = (1, input_tokens, output_tokens)
    if not limits:
        return ()
    try:
        answer = valkey.client().eval(*arguments(limits, job_id, asked, lease))
    except UNUSABLE:
        return alone.take(limits, str(job_id), asked, lease=lease)
    return read(limits, asked, answer)


async def look_async(limits: Sequence[Limit]) -> tuple[Window, ...]:
    """What they have counted; counts nothing."""
    asked = (0, 0, 0)
    try:
        return read(limits, asked, await valkey.client_async().eval(*arguments(limits, None, asked, lease=False)))
    except UNUSABLE:
        return alone.take(limits, "", asked, lease=False)


def corrected(job_id: UUID, *, requests_back: int, input_tokens: int, output_tokens: int) -> list[Any]:
    return [CORRECT, 1, reservation(job_id), requests_back, input_tokens, output_tokens]


async def correct_async(job_id: UUID, *, input_tokens: int, output_tokens: int) -> None:
    """The job has ended and used so much: the rest of what it reserved is free at once. Safe to repeat."""
    try:
        await valkey.client_async().eval(
            *corrected(job_id, requests_back=0, input_tokens=input_tokens, output_tokens=output_tokens)
        )
    except UNUSABLE:
        return  # it is free a minute after it was taken


def correct(job_id: UUID, *, input_tokens: int, output_tokens: int) -> None:
    try:
        valkey.client().eval(
            *corrected(job_id, requests_back=0, input_tokens=input_tokens, output_tokens=output_tokens)
        )
    except UNUSABLE:
        return


async def give_back_async(limits: Sequence[Limit], job_id: UUID) -> None:
    """It was not accepted after all: it counts nowhere."""
    with contextlib.suppress(*UNUSABLE):
        await valkey.client_async().eval(*corrected(job_id, requests_back=1, input_tokens=0, output_tokens=0))
    await end_async(limits, job_id)


def give_back(limits: Sequence[Limit], job_id: UUID) -> None:
    with contextlib.suppress(*UNUSABLE):
        valkey.client().eval(*corrected(job_id, requests_back=1, input_tokens=0, output_tokens=0))
        for limit in limits:
            valkey.client().zrem(busy(limit), str(job_id))
    alone.end(limits, str(job_id))


async def end_async(limits: Sequence[Limit], job_id: UUID) -> None:
    """The request is over. Where Valkey is away its lease runs out by itself."""
    alone.end(limits, str(job_id))
    try:
        async with valkey.client_async().pipeline(transaction=False) as pipe:
            for limit in limits:
                pipe.zrem(busy(limit), str(job_id))
            await pipe.execute()
    except UNUSABLE:
        return


async def renew_async(limits: Sequence[Limit], job_id: UUID) -> None:
    """The request still runs. By the clock of this machine, as far as it goes: a lease is a minute long."""
    try:
        async with valkey.client_async().pipeline(transaction=False) as pipe:
            for limit in limits:
                pipe.zadd(busy(limit), {str(job_id): (time.time() + LEASE_SECONDS) * 1000})
                pipe.expire(busy(limit), LEASE_SECONDS)
            await pipe.execute()
    except UNUSABLE:
        return


@dataclass(slots=True)
class Counted:
    """A window in this process's memory: (time, requests, input and output tokens) of the last minute, and leases."""

    entries: deque[tuple[float, int, int, int]] = field(default_factory=deque)
    leases: dict[str, float] = field(default_factory=dict)

    def forget(self, now: float) -> None:
        while self.entries and self.entries[0][0] <= now - 60:
            self.entries.popleft()
        self.leases = {holder: until for holder, until in self.leases.items() if until > now}

    @property
    def used(self) -> tuple[int, int, int]:
        _, requests, inputs, outputs = zip(*self.entries, strict=True) if self.entries else ((), (), (), ())
        return sum(requests), sum(inputs), sum(outputs)


class Alone:
    """The limits of this process while Valkey is away: its share of each, at least 1. Nothing comes back before its minute is over."""

    def __init__(self) -> None:
        self.counted: dict[str, Counted] = {}
        self.lock = threading.Lock()

    def take(
        self, limits: Sequence[Limit], holder: str, asked: tuple[int, int, int], *, lease: bool
    ) -> tuple[Window, ...]:
        """As `take`."""
        now = time.monotonic()
        with self.lock:
            shares = [share(limit) for limit in limits]
            mine = [self.counted.setdefault(limit.counter, Counted()) for limit in limits]
            for counted in mine:
                counted.forget(now)
            windows = self.windows(shares, mine, now)
            if not asked[0]:
                return windows
            for window, counted in zip(windows, mine, strict=True):
                for metric, needed in enumerate(asked):
                    limit = window.limit.figures[metric]
                    if limit is not None and needed and window.used[metric] + needed > limit:
                        raise refusal(windows, window, metric, asked, window.reset_ms or 1000)
                most = window.limit.concurrent
                if lease and most is not None and len(counted.leases) >= most:
                    raise refusal(windows, window, 3, asked, 1000)
            for counted in mine:
                counted.entries.append((now, *asked))
                if lease:
                    counted.leases[holder] = now + settings.RUN_SECONDS
            return self.windows(shares, mine, now)

    def windows(self, limits: Sequence[Limit], mine: Sequence[Counted], now: float) -> tuple[Window, ...]:
        return tuple(
            Window(
                limit,
                *counted.used,
                math.ceil((counted.entries[-1][0] + 60 - now) * 1000) if counted.entries else 0,
                len(counted.leases),
            )
            for limit, counted in zip(limits, mine, strict=True)
        )

    def end(self, limits: Sequence[Limit], holder: str) -> None:
        with self.lock:
            for limit in limits:
                if limit.counter in self.counted:
                    self.counted[limit.counter].leases.pop(holder, None)


def share(limit: Limit) -> Limit:
    figures = [None if figure is None else max(1, figure // settings.WEB_PROCESSES) for figure in limit.figures]
    return Limit(limit.counter, limit.whose, *figures)


alone = Alone()


def headers(windows: Sequence[Window]) -> dict[str, str]:
    """The six of the official API: of the limits on requests, and of those on tokens, the one with the least left."""
    found: dict[str, str] = {}
    for name, metrics in (("requests", (0,)), ("tokens", (1, 2))):
        figures = [
            (max(limit - window.used[metric], 0), limit, window.reset_ms if window.used[metric] else 0)
            for window in windows
            for metric in metrics
            if (limit := window.limit.figures[metric]) is not None
        ]
        if figures:
            remaining, limit, reset_ms = min(figures)
            found |= {
                f"x-ratelimit-limit-{name}": str(limit),
                f"x-ratelimit-remaining-{name}": str(remaining),
                f"x-ratelimit-reset-{name}": duration(reset_ms),
            }
    return found


def duration(milliseconds: int) -> str:
    """`12ms`, `1.25s`, `6m0s`: as the official API writes them."""
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    seconds = f"{rest / 1000:.3f}".rstrip("0").rstrip(".")
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
