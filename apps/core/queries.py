"""The queries of the lean doors' lists, and the page that answers one: OpenAI API reference, "List files", "List batches"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apps.core.errors import InvalidRequest

USUAL = 20  # of a list whose query names no limit


@dataclass(frozen=True, slots=True)
class Part:
    """`limit` of a list, those behind the one with the id `after`."""

    limit: int
    after: str | None
    newest_first: bool


def part(query: Mapping[str, str], *, most: int, usual: int = USUAL, newest_first: bool = True) -> Part:
    """What the query asks for; `usual` and `newest_first` where it does not say. Raises InvalidRequest."""
    limit = number(query, "limit", least=1, most=most)
    order = word(query, "order", ("desc", "asc") if newest_first else ("asc", "desc"))
    return Part(usual if limit is None else limit, query.get("after"), order == "desc")


def number(query: Mapping[str, str], name: str, *, least: int, most: int) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        raise wrong(name, f"it should be a whole number from {least:,} to {most:,}")
    return int(text)


def word(query: Mapping[str, str], name: str, words: tuple[str, ...]) -> str:
    """One of `words`; the first where nothing is given."""
    given = query.get(name, words[0])
    if given not in words:
        raise wrong(name, f"it should be {' or '.join(words)}")
    return given


def wrong(name: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid value for '{name}': {why}.", param=name, code="invalid_value")


def page(data: list[dict[str, Any]], *, more: bool) -> dict[str, Any]:
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": more,
    }
