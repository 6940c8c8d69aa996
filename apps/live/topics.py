"""What a page can listen to. Apps register their topics when they load; the consumer feeds the clients from them."""

from __future__ import annotations

import asyncio
import contextlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from apps.accounts.models import User
from apps.live.bell import bell

Message = dict[str, Any]
T = TypeVar("T", bound="type[Topic]")

SLICE_UNITS = 16_384  # text in one message, in UTF-16 code units

_kinds: list[tuple[re.Pattern[str], type[Topic]]] = []


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who listens: a signed-in member. `organization_id` is the one in use, `organization_ids` all of theirs."""

    user: User
    organization_id: UUID
    organization_ids: frozenset[UUID]
    language: str = "en"


class Topic(ABC):
    """One part of a page, fed to one client.

    `watch` finds out that something changed and says so by `changed`; `news` reads what a client lacks. Between two
    readings pass `1 / per_second` s, so what changed meanwhile is merged; an urgent change does not wait.
    """

    per_second: float = 4

    def __init__(self, name: str, viewer: Viewer, **ident: str) -> None:
        self.name = name
        self.viewer = viewer
        self.fresh = asyncio.Event()
        self.urgent = asyncio.Event()
        self.finished = False

    def changed(self, *, urgent: bool = False) -> None:
        self.fresh.set()
        if urgent:
            self.urgent.set()

    async def pause(self, seconds: float) -> None:
        """Wait so long; an urgent change ends it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.urgent.wait()
        self.urgent.clear()

    @abstractmethod
    async def allowed(self) -> bool:
        """Has the viewer a right to it? Asked before anything else, and again every minute."""

    @abstractmethod
    async def watch(self) -> None:
        """Call `changed` for every change, for as long as the client is there. May return where no more will come."""

    @abstractmethod
    async def news(self, at: int) -> list[Message]:
        """What a client that stands at `at` lacks, oldest first. `finished` set: there will never be more."""

    async def watch_bell(self, topics: Iterable[str]) -> None:
        """Every ring is an urgent change; so is silence of `Bell.floor_seconds`, since a bell may be lost."""
        async with bell().listen(topics) as rung:
            self.changed(urgent=True)
            while True:
                await rung.wait(bell().floor_seconds)
                self.changed(urgent=True)

    def set(self, version: int, fields: dict[str, Any]) -> Message:
        return {"k": "set", "t": self.name, "v": version, "set": fields}

    def html(self, version: int, html: str) -> Message:
        return {"k": "html", "t": self.name, "v": version, "html": html}


class Text:
    """Text that grows, served from any offset. Offsets count UTF-16 code units, as JavaScript does."""

    def __init__(self, text: str = "") -> None:
        self.units = bytearray()
        self.append(text)

    def append(self, text: str) -> None:
        self.units += text.encode("utf-16-le", "surrogatepass")

    def __len__(self) -> int:
        return len(self.units) // 2

    def __str__(self) -> str:
        return self.units.decode("utf-16-le", "replace")

    def slices(self, start: int, *, complete: bool) -> list[tuple[int, str]]:
        """(offset, text) from `start` to the end, never splitting a surrogate pair.

        Until it is `complete`, half a pair at the end waits for its other half. An offset inside a pair moves before it.
        """
        end = len(self)
        if not complete and end and self._high(end - 1):
            end -= 1
        if 0 < start < len(self) and self._low(start) and self._high(start - 1):
            start -= 1
        parts = []
        while start < end:
            stop = min(start + SLICE_UNITS, end)
            if stop < end and self._high(stop - 1):
                stop -= 1
            parts.append((start, self.units[2 * start : 2 * stop].decode("utf-16-le", "surrogatepass")))
            start = stop
        return parts

    def _high(self, index: int) -> bool:
        return 0xD8 <= self.units[2 * index + 1] <= 0xDB

    def _low(self, index: int) -> bool:
        return 0xDC <= self.units[2 * index + 1] <= 0xDF


def length(text: str) -> int:
    """UTF-16 code units: what JavaScript calls the length."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def register(pattern: str, topic: type[Topic]) -> None:
    """`pattern` is a topic's name with `<ident>` for each varying part, such as `job.<job>.out.<attempt>`."""
    parts = re.split(r"<(\w+)>", pattern)
    expression = "".join(
        f"(?P<{part}>[A-Za-z0-9_-]{{1,40}})" if n % 2 else re.escape(part) for n, part in enumerate(parts)
    )
    _kinds.append((re.compile(expression), topic))


def resolve(name: str, viewer: Viewer) -> Topic | None:
    """The topic of that name for one client; None where no app knows such a name."""
    for expression, topic in _kinds:
        if match := expression.fullmatch(name):
            return topic(name, viewer, **match.groupdict())
    return None
