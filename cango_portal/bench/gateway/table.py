"""Rounds become medians, a table, and the goals they reach."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from cango_portal.bench.gateway.load import Heard

MS, MICRO = 1e3, 1e6


@dataclass(frozen=True, slots=True)
class Cell:
    """One variant at one concurrency: medians over the rounds. None where nothing was heard."""

    variant: str
    clients: int
    stream: bool
    per_second: float
    p50_ms: float | None
    p95_ms: float | None
    tokens_per_second: float
    first_p50_ms: float | None
    first_p95_ms: float | None
    gap_p95_ms: float | None
    cpu_us: dict[str, float]  # of a request, by process
    failures: int
    failure: str


@dataclass(frozen=True, slots=True)
class Memory:
    per_stream_bytes: int
    database_connections: int  # of the whole portal, with 256 streams just ended


def quantile(values: Iterable[float], share: float) -> float | None:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else None


def median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def milliseconds(value: float | None) -> float | None:
    return None if value is None else round(value * MS, 2)


def cell(variant: str, clients: int, stream: bool, rounds: list[Heard]) -> Cell:
    heard = [each for each in rounds if each.elapsed_seconds]
    # A stream that is longer than a round would count as none: tokens are counted as they come.
    done = [max(each.requests, each.tokens / 64 if stream else 0, 1) for each in heard]
    names = sorted({name for each in heard for name in each.cpu_seconds})
    return Cell(
        variant=variant,
        clients=clients,
        stream=stream,
        per_second=median(each.requests / each.elapsed_seconds for each in heard) or 0,
        p50_ms=milliseconds(median(quantile(each.latencies, 0.5) for each in heard)),
        p95_ms=milliseconds(median(quantile(each.latencies, 0.95) for each in heard)),
        tokens_per_second=median(each.tokens / each.elapsed_seconds for each in heard) or 0,
        first_p50_ms=milliseconds(median(quantile(each.firsts, 0.5) for each in heard)),
        first_p95_ms=milliseconds(median(quantile(each.firsts, 0.95) for each in heard)),
        gap_p95_ms=milliseconds(median(quantile(each.gaps, 0.95) for each in heard)),
        cpu_us={
            name: round(
                (median(each.cpu_seconds.get(name, 0) / n for each, n in zip(heard, done, strict=True)) or 0) * MICRO
            )
            for name in names
        },
        failures=sum(each.failures for each in rounds),
        failure=next((each.failure for each in rounds if each.failure), ""),
    )


def shown(value: float | None, places: int = 1) -> str:
    return "–" if value is None else f"{value:,.{places}f}"


def less(value: float | None, base: float | None) -> float | None:
    return None if value is None or base is None else max(value - base, 0.0)


def ratio(value: float | None, base: float | None) -> float | None:
    return None if value is None or not base else value / base


@dataclass
class Result:
    seconds: float
    rounds: int
    notes: list[str] = field(default_factory=list)
    machine: str = field(
        default_factory=lambda: f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.platform()}"
    )
    load_at_start: float = field(default_factory=lambda: round(os.getloadavg()[0], 2))
    memory: Memory | None = None
    books: dict[str, Any] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    heard: dict[tuple[str, int, bool], list[Heard]] = field(default_factory=dict, repr=False)

    def record(self) -> dict[str, Any]:
        """For the file."""
        named = ("seconds", "rounds", "notes", "machine", "load_at_start", "books")
        return {
            **{name: getattr(self, name) for name in named},
            "memory": asdict(self.memory) if self.memory else None,
            "cells": [asdict(each) for each in self.cells],
        }

    def add(self, variant: str, clients: int, stream: bool, heard: Heard) -> None:
        self.heard.setdefault((variant, clients, stream), []).append(heard)

    def lines(self, clients: int, stream: bool) -> str:
        """What was measured at one concurrency, as lines of the table; the rounds themselves are let go."""
        mine = [key for key in self.heard if key[1:] == (clients, stream)]
        cells = [cell(*key, self.heard.pop(key)) for key in mine]
        self.cells += cells
        text = f"\n{'streams' if stream else 'whole answers'}, {clients} at a time\n"
        head = (
            ["added TTFT p50 / p95 ms", "tokens/s", "gap p95 ms"]
            if stream
            else ["requests/s", "added p50 / p95 ms", ""]
        )
        text += f"  {'':8} {head[0]:>24} {head[1]:>20} {head[2]:>11}  CPU µs a request\n"
        for each in cells:
            base = self.of("engine", clients, stream)
            if stream:
                added = f"{shown(less(each.first_p50_ms, base.first_p50_ms if base else None))} / {shown(less(each.first_p95_ms, base.first_p50_ms if base else None))}"
                columns = [added, shown(each.tokens_per_second, 0), shown(each.gap_p95_ms)]
            else:
                added = f"{shown(less(each.p50_ms, base.p50_ms if base else None), 2)} / {shown(less(each.p95_ms, base.p50_ms if base else None), 2)}"
                columns = [shown(each.per_second, 0), added, ""]
            cpu = ", ".join(f"{name} {used:,.0f}" for name, used in each.cpu_us.items() if used)
            text += f"  {each.variant:8} {columns[0]:>24} {columns[1]:>20} {columns[2]:>11}  {cpu}\n"
            if each.failures:
                text += f"           {each.failures} failed, the first: {each.failure}\n"
        return text

    def of(self, variant: str, clients: int, stream: bool) -> Cell | None:
        return next(
            (each for each in self.cells if (each.variant, each.clients, each.stream) == (variant, clients, stream)),
            None,
        )

    def goals(self) -> str:
        """The goals of the house for the door, each with what this run says of it."""
        lines = [f"\n{self.machine}; load {self.load_at_start} at the start", *self.notes, ""]
        rows: list[tuple[str, float | None, str, float]] = []
        ours, bare, lite = (self.of(name, 64, False) for name in ("portal", "bare", "litellm"))
        virtual = any("virtual key" in note for note in self.notes)
        times = 10.0 if virtual else 5.0
        if ours:
            rows.append(
                (
                    f"requests/s at 64, × LiteLLM ({'virtual' if virtual else 'master'} key)",
                    ratio(ours.per_second, lite.per_second if lite else None),
                    "≥",
                    times,
                )
            )
            rows.append(
                (
                    "requests/s at 64, of the bare path",
                    ratio(ours.per_second, bare.per_second if bare else None),
                    "≥",
                    0.6,
                )
            )
        one = {name: self.of(name, 1, False) for name in ("engine", "portal", "limit", "litellm")}
        direct = one["engine"].p50_ms if one["engine"] else None
        added = {name: less(each.p50_ms, direct) if each else None for name, each in one.items()}
        if one["portal"]:
            rows.append(("added p50 at 1, of LiteLLM's", ratio(added["portal"], added["litellm"]), "≤", 0.2))
            rows.append(("added p50 at 1, × the limit without Celery", ratio(added["portal"], added["limit"]), "≤", 8))
        for clients, p50, p95 in ((64, 10, 40), (256, 60, 150)):
            stream, base, other = (self.of(name, clients, True) for name in ("portal", "engine", "litellm"))
            if stream and base:
                first = less(stream.first_p50_ms, base.first_p50_ms)
                rows.append((f"added TTFT p50 at {clients} streams, ms", first, "≤", p50))
                rows.append(
                    (f"added TTFT p95 at {clients} streams, ms", less(stream.first_p95_ms, base.first_p50_ms), "≤", p95)
                )
                if clients == 64:
                    rows.append(
                        (
                            "the same p50, of LiteLLM's",
                            ratio(first, less(other.first_p50_ms, base.first_p50_ms) if other else None),
                            "≤",
                            0.03,
                        )
                    )
                rows.append(
                    (f"gap p95 at {clients} streams, × direct", ratio(stream.gap_p95_ms, base.gap_p95_ms), "≤", 2)
                )
                rows.append(
                    (
                        f"tokens/s at {clients} streams, of direct",
                        ratio(stream.tokens_per_second, base.tokens_per_second),
                        "≥",
                        0.97,
                    )
                )
        if self.memory:
            rows.append(("web memory of an open stream, kB", self.memory.per_stream_bytes / 1000, "≤", 60))
            lines.append(
                f"connections to PostgreSQL with 256 streams open: {self.memory.database_connections} of the whole portal"
            )
        for what, value, sign, goal in rows:
            reached = value is not None and (value >= goal if sign == "≥" else value <= goal)
            verdict = "not measured" if value is None else "reached" if reached else "short"
            lines.append(f"  {what:52} {shown(value, 2):>9}   goal {sign} {goal:g}   {verdict}")
        if self.books:
            lines.append(
                f"audit of the books afterwards: {self.books['violations']} violations; jobs {self.books['jobs']}"
            )
        return "\n".join(lines) + "\n"
