"""The test of a node in burn-in: golden prompts, then speed and power at growing concurrency, one pool after the other."""

from __future__ import annotations

import asyncio
import logging
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from apps.runner import golden
from apps.runner.engines.engine import Computes, EngineFailed
from apps.runner.golden import USUAL, House, Said
from apps.runner.meter import Meter
from apps.runner.protocol import BurnInResult, Finding, Golden, Kind, Level
from apps.runner.resident import Resident

log = logging.getLogger(__name__)

ANSWER_SECONDS = 60.0  # of one golden prompt
LEVEL_SECONDS = 5.0  # at least, of one level; each begins its last request within it
LEVEL_LIMIT_SECONDS = 120.0
IDLE_SECONDS = 3.0
FINDING_CHARACTERS = 400
TOKENS = 64  # of each answer that is measured, where its engine does not stop before
LONG: Mapping[Kind, Golden] = {
    **USUAL,
    "chat": Golden(
        body={"messages": [{"role": "user", "content": "Write the numbers from one to one hundred in words."}]}
    ),
}


async def test(
    resident: Resident,
    *,
    kind: Kind,
    model: str,
    meter: Meter | None,
    gpus: Mapping[str, Mapping[str, Any]],
    fault: Callable[[], str],
) -> BurnInResult:
    """`gpus` are the readings of those that the pool runs on, `fault` says what speaks against them."""
    began = time.monotonic()
    engine = resident.engine
    assert engine is not None
    findings = []
    async with golden.on_the_house(meter) as house:
        for number, each in enumerate(asked(resident, kind), 1):
            found = await golden.tried(engine, kind=kind, model=model, golden=each, house=house, seconds=ANSWER_SECONDS)
            findings.append(finding(not found, f"golden prompt {number}: {found or 'right'}"))
    if not resident.desired.golden and kind in USUAL:
        findings.append(finding(True, "no golden prompts are known of this model: only that it answers was tried"))
    idle_w = await idle(meter)
    levels: list[Level] = []
    try:
        if kind in USUAL:
            for concurrency in growing(resident.slots):
                levels.append(await level(engine, kind, model, meter, concurrency))
    except (EngineFailed, TimeoutError) as error:
        why = error.failure.message if isinstance(error, EngineFailed) else f"no end within {LEVEL_LIMIT_SECONDS:.0f} s"
        findings.append(finding(False, f"{concurrency} requests at a time: {why}"))
    wrong = fault()
    findings.append(finding(not wrong, wrong or ("its GPUs are well" if gpus else "no GPU here")))
    first: Mapping[str, Any] = next(iter(gpus.values()), {})
    return BurnInResult(
        pool=resident.name,
        test=resident.desired.test or 0,
        passed=all(each.good for each in findings),
        findings=findings,
        seconds=time.monotonic() - began,
        gpu=first.get("name") or "",
        driver=first.get("driver") or "",
        idle_w=idle_w,
        quality=meter.counter.quality if meter else None,
        levels=levels,
    )


def finding(good: bool, text: str) -> Finding:
    return Finding(good=good, text=text[:FINDING_CHARACTERS])


def asked(resident: Resident, kind: Kind) -> list[Golden]:
    return resident.desired.golden or ([USUAL[kind]] if kind in USUAL else [])


async def idle(meter: Meter | None) -> float | None:
    """What is drawn with the model loaded and nothing to do."""
    if meter is None:
        return None
    await meter.close_window()
    before, began = meter.total_mj, time.monotonic()
    await asyncio.sleep(IDLE_SECONDS)
    if not await meter.close_window():
        return None
    return round((meter.total_mj - before) / 1000 / (time.monotonic() - began), 1)


def growing(slots: int) -> list[int]:
    """1, 2, 4 … and all of them."""
    return [*(2**power for power in range(slots.bit_length()) if 2**power < slots), slots]


async def level(engine: Computes, kind: Kind, model: str, meter: Meter | None, concurrency: int) -> Level:
    """So many requests at a time, each followed by another for LEVEL_SECONDS. Raises EngineFailed and TimeoutError."""
    said: list[Said] = []
    began = time.monotonic()

    async def pull(house: House) -> None:
        while True:
            said.append(await golden.ask(engine, kind=kind, model=model, golden=LONG[kind], house=house, tokens=TOKENS))
            if time.monotonic() - began >= LEVEL_SECONDS:
                return

    async with golden.on_the_house(meter) as house, asyncio.timeout(LEVEL_LIMIT_SECONDS):
        pulling = [asyncio.create_task(pull(house)) for _ in range(concurrency)]
        try:
            await asyncio.gather(*pulling)
        finally:
            for each in pulling:
                each.cancel()
            await asyncio.gather(*pulling, return_exceptions=True)
        seconds = time.monotonic() - began
    tokens = sum(each.usage.completion_tokens or each.usage.prompt_tokens for each in said)
    waits = [each.first_token_seconds for each in said if each.first_token_seconds is not None]
    return Level(
        concurrency=concurrency,
        seconds=round(seconds, 3),
        requests=len(said),
        tokens_per_second=round(tokens / seconds, 3),
        first_token_seconds=round(statistics.median(waits), 4) if waits else None,
        power_w=round(house.energy.gpu_energy_mj / 1000 / seconds, 1) if house.energy else None,
    )
