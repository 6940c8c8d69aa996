"""Prompts whose answers are known: is what an engine computes right? Their energy is the platform's, never a customer's."""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from apps.runner import energy
from apps.runner.engines.engine import Computes, EngineFailed, Work
from apps.runner.engines.openai_http import cosine, unpacked
from apps.runner.meter import Meter
from apps.runner.protocol import Energy, Golden, Kind, Usage

LIKE = 0.99  # cosine to the known vector: other kernels round otherwise, another model is far off
QUOTED = 80  # characters of a wrong answer

# Where the portal names none: right is any answer at all.
USUAL: dict[Kind, Golden] = {
    "chat": Golden(body={"messages": [{"role": "user", "content": "What is 1 + 1? Answer with one number."}]}),
    "embeddings": Golden(body={"input": ["power"]}),
    "rerank": Golden(body={"query": "power", "documents": ["a power line", "a poem"]}),
}


@dataclass(slots=True)
class House:
    """What was computed for nobody in particular: its work units so far, and in the end its energy."""

    units: int = 0
    energy: Energy | None = None


@dataclass(slots=True)
class Said:
    text: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    first_token_seconds: float | None = None


async def ask(
    engine: Computes, *, kind: Kind, model: str, golden: Golden, house: House, tokens: int | None = None
) -> Said:
    """At temperature 0. Raises EngineFailed."""
    said, began = Said(), time.monotonic()
    ceiling = tokens or golden.max_completion_tokens
    body = golden.body | ({"temperature": 0, "max_tokens": ceiling} if kind == "chat" else {})
    work = Work(kind=kind, model=model, body=body, max_completion_tokens=ceiling if kind == "chat" else 0)
    async with aclosing(engine.run(work)) as pieces:
        async for piece in pieces:
            for choice in piece.choices or ():
                delta = choice.get("delta") or {}
                text = (delta.get("content") or "") + (delta.get("reasoning_content") or "")
                if text and said.first_token_seconds is None:
                    said.first_token_seconds = time.monotonic() - began
                said.text += text
            if piece.usage:
                house.units += units(piece.usage) - units(said.usage)
                said.usage = piece.usage
            said.result = piece.result or said.result
    return said


def units(usage: Usage) -> int:
    return energy.units(prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens, pages=usage.pages)


async def tried(engine: Computes, *, kind: Kind, model: str, golden: Golden, house: House, seconds: float) -> str:
    """Why the engine is not to be trusted with this prompt, in words; empty where its answer is right."""
    try:
        async with asyncio.timeout(seconds):
            said = await ask(engine, kind=kind, model=model, golden=golden, house=house)
    except TimeoutError:
        return f"no answer within {seconds:.0f} s"
    except EngineFailed as error:
        return f"{error.failure.code}: {error.failure.message}"
    return wrong(said, kind=kind, golden=golden)


def wrong(said: Said, *, kind: Kind, golden: Golden) -> str:
    if kind == "embeddings":
        return wrong_vector(said.result, golden.vector)
    if kind == "rerank":
        best = (said.result.get("results") or [{}])[0].get("index")
        return (
            ""
            if best is not None and golden.best in {None, best}
            else f"document {best} is said to be the best, not {golden.best}"
        )
    if not said.text.strip():
        return "it answers nothing"
    if golden.contains.lower() not in said.text.lower():
        return f'it answers "{said.text.strip()[:QUOTED]}", without "{golden.contains}"'
    return ""


def wrong_vector(result: dict[str, Any], known: list[float] | None) -> str:
    data = result.get("data") or []
    vector = unpacked(data[0]["embedding"]) if data else array("f")
    length = math.sqrt(sum(value * value for value in vector))
    if not math.isfinite(length) or length == 0:
        return "its vector is empty or not made of numbers"
    if known is None:
        return ""
    if len(known) != len(vector):
        return f"its vector has {len(vector)} dimensions, not {len(known)}"
    likeness = cosine(vector, array("f", known))
    return "" if likeness >= LIKE else f"its vector is like the known one by {likeness:.3f} only"


@asynccontextmanager
async def on_the_house(meter: Meter | None) -> AsyncGenerator[House]:
    """What is computed within takes its part of the energy as any work does, and that part is the platform's."""
    house = House()
    if meter is None:
        yield house
        return
    key = object()
    meter.begin(key, lambda: house.units)
    try:
        yield house
    finally:
        house.energy = await meter.end(key)
        if house.energy:
            meter.idle_mj += house.energy.gpu_energy_mj
