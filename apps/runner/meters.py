"""Which meter counts which pool."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from apps.runner.counters import CPUCounter, GPUCounter, Sampler
from apps.runner.meter import Meter
from apps.runner.post import Post


async def start(posts: Iterable[Post], sampler: Sampler) -> bool:
    """One meter per set of GPUs; without a GPU, one per engine that is a child of ours, modelled from its CPU time.

    Each before the first order. True where there are GPUs.
    """
    reading = await sampler.read() or {}
    shared: dict[tuple[str, ...], Meter] = {}
    for post in posts:
        gpus = tuple(sorted(post.pool.gpus or reading))
        on_gpu = bool(reading) and post.pool.engine == "url"  # the embedded engines compute on the CPU
        if on_gpu and gpus not in shared:
            counter = GPUCounter(sampler, list(gpus))
            shared[gpus] = Meter(counter, idle_w=post.pool.idle_w, fixed_w=post.pool.fixed_w)
            await shared[gpus].start()
        if on_gpu:
            post.meter, post.gpus = shared[gpus], gpus
        elif post.pool.engine != "url":
            post.meter = Meter(CPUCounter(post.resident.processes))
            await post.meter.start()
    return bool(reading)


async def stop(posts: Iterable[Post]) -> None:
    meters = {id(post.meter): post.meter for post in posts if post.meter}
    await asyncio.gather(*(meter.stop() for meter in meters.values()))


def power_w(posts: Iterable[Post]) -> float | None:
    """Of all of them together, each meter once; None where none says it."""
    meters = {id(post.meter): post.meter for post in posts if post.meter}
    known = [meter.power_w for meter in meters.values() if meter.power_w is not None]
    return round(sum(known), 3) if known else None
