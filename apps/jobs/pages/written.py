"""What a running attempt has written so far, from the entries of its Redis stream."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from pydantic import ValidationError

from apps.live.topics import Text
from apps.runner import protocol
from cango_portal import valkey


class Written:
    """Text of choice 0, counts, and when the first text came (Unix seconds, by the clock of Redis).

    Entries may come twice: chunks are numbered, so an overlap is cut. A gap means the stream was lost; the runner then
    writes everything again, and what is behind the gap is left out until that comes.
    """

    def __init__(self) -> None:
        self.text = Text()
        self.chunks = 0
        self.usage = protocol.Usage()
        self.done: int | None = None
        self.total: int | None = None
        self.first_at: float | None = None
        self.ended = False

    @property
    def count(self) -> int:
        """Grows with everything a reader may see within one attempt."""
        return self.usage.prompt_tokens + self.usage.completion_tokens + max(self.usage.pages, self.done or 0)

    def take(self, entry_id: str, fields: dict[str, str]) -> None:
        try:
            entry = protocol.Entry.model_validate_json(fields["e"])
        except (KeyError, ValidationError):
            return
        for chunk in entry.chunks[max(0, self.chunks - entry.seq) :] if entry.seq <= self.chunks else []:
            self.chunks += 1
            for choice in chunk:
                if choice.get("index", 0) == 0 and (content := (choice.get("delta") or {}).get("content")):
                    self.text.append(content)
                    self.first_at = self.first_at or int(entry_id.partition("-")[0]) / 1000
        if self.larger(entry.usage):
            self.usage = entry.usage
        self.done = entry.done if entry.done is not None else self.done
        self.total = entry.total if entry.total is not None else self.total
        self.ended = self.ended or entry.end is not None

    def larger(self, usage: protocol.Usage) -> bool:
        """Counts are cumulative; those of a repeated entry are behind."""
        return usage.prompt_tokens + usage.completion_tokens + usage.pages >= (
            self.usage.prompt_tokens + self.usage.completion_tokens + self.usage.pages
        )


def read(pool: str, job_id: UUID, attempt: int) -> Written:
    """All of it until now, for a page. Nothing where Redis is away: then the socket brings it."""
    written = Written()
    try:
        entries = cast(
            "list[tuple[str, dict[str, Any]]]",
            valkey.client().xrange(protocol.stream(pool, str(job_id), attempt)),
        )
    except valkey.Away:
        return written
    for entry_id, fields in entries:
        written.take(entry_id, fields)
    return written
