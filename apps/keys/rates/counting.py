"""Take from limits, look at them, give back: one script in Valkey for all that count for a request."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import redis

from apps.keys.rates.alone import Alone
from apps.keys.rates.limit import Limit
from apps.keys.rates.script import CORRECT, TAKE
from apps.keys.rates.window import Window, refusal
from cango_portal import valkey

LEASE_SECONDS = 60  # a request that runs says so again before this is over
RENEW_SECONDS = 20
LOOK_SECONDS = 0.5
UNUSABLE = (*valkey.Away, redis.ResponseError)

alone = Alone()


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
        answer = await valkey.ask_async("EVAL", *arguments(limits, job_id, asked, lease))
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
    """What they have counted; counts nothing. None where Valkey does not say at once."""
    asked = (0, 0, 0)
    if not limits:
        return ()
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            return read(limits, asked, await valkey.ask_async("EVAL", *arguments(limits, None, asked, lease=False)))
    except UNUSABLE:
        return ()


def corrected(job_id: UUID, *, requests_back: int, input_tokens: int, output_tokens: int) -> list[Any]:
    return [CORRECT, 1, reservation(job_id), requests_back, input_tokens, output_tokens]


async def correct_async(job_id: UUID, *, input_tokens: int, output_tokens: int) -> None:
    """The job has ended and used so much: the rest of what it reserved is free at once. Safe to repeat."""
    try:
        await valkey.ask_async(
            "EVAL", *corrected(job_id, requests_back=0, input_tokens=input_tokens, output_tokens=output_tokens)
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
        await valkey.ask_async("EVAL", *corrected(job_id, requests_back=1, input_tokens=0, output_tokens=0))
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
    with contextlib.suppress(*UNUSABLE):
        await asyncio.gather(*(valkey.ask_async("ZREM", busy(limit), str(job_id)) for limit in limits))


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
