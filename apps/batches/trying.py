"""The check of a draft: its file read to the end, every bad line named, and the most that the good ones may cost."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from psycopg.types.json import Jsonb

from apps.batches.checking import Check
from apps.batches.claims import Claim, Stopped
from apps.batches.statements import WORK_SECONDS
from apps.core.errors import PortalError
from apps.core.ids import public
from apps.core.sql import Plan, Row, Statement
from apps.dispatch.work import Work
from apps.files.reading import Line
from apps.live import bell
from apps.wire.batches import BatchLine
from cango_portal import database

MOST_BAD = 10_000  # lines that may be left out
KEPT_SECONDS = 24 * 3600
BEYOND_LINES = frozenset({"file_not_found", "file_too_large", "content_unreadable", "empty_file", "too_many_requests"})

CLAIM = """
UPDATE batches_draft SET working_until = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE id = %(id)s AND state = 'checking' AND (working_until IS NULL OR working_until < clock_timestamp())
RETURNING id, organization_id, user_id, NULL::uuid AS api_key_id, NULL::text[] AS allowed_models, endpoint, input_file_id, working_until
"""
GO_ON = """
UPDATE batches_draft SET working_until = clock_timestamp() + make_interval(secs => %(seconds)s), lines = %(lines)s, version = version + 1
WHERE id = %(id)s AND working_until = %(token)s RETURNING working_until
"""
FOUND = """
UPDATE batches_draft SET state = 'checked', version = version + 1, working_until = NULL, model_id = %(model)s, price_id = %(price)s,
    discount_basis_points = %(discount)s, errors = %(errors)s, bad = %(bad)s, bad_lines = %(bad_lines)s::int[], lines = %(lines)s,
    good = %(good)s, input_tokens = %(input_tokens)s, output_tokens = %(output_tokens)s, hold_microusd = %(hold)s
WHERE id = %(id)s AND working_until = %(token)s
"""
DUE = """
SELECT id FROM batches_draft WHERE state = 'checking' AND coalesce(working_until, created_at + interval '2 seconds') < clock_timestamp()
ORDER BY id
"""
FORGET = "DELETE FROM batches_draft WHERE created_at < clock_timestamp() - make_interval(secs => %(seconds)s)"


class Trial(Check):
    """The same reading with nothing kept of it. It goes on counting after a bad line: what the good ones may cost."""

    def __init__(self, draft: Row) -> None:
        super().__init__(draft, Claim(draft, go_on=self.go_on))
        self.bad_lines: list[int] = []
        self.mendable = True
        self.rows = self.output_tokens = 0

    def go_on(self, draft_id: UUID, token: datetime) -> Plan[datetime | None]:
        params = {"id": draft_id, "token": token, "seconds": WORK_SECONDS, "lines": self.lines}
        rows = yield Statement(GO_ON, params)
        return rows[0]["working_until"] if rows else None

    def take(self, given: Line) -> None:
        try:
            super().take(given)
        except PortalError:
            self.bad_lines.append(given.number)
            raise

    def good(self, number: int, line: BatchLine, work: Work) -> None:
        self.rows += 1
        self.hold += work.ceiling_microusd(discount_basis_points=self.discount)
        self.input_tokens += work.prompt_tokens_ceiling
        self.output_tokens += work.max_completion_tokens

    def wrong(self, code: str, message: str, param: str | None, line: int | None = None) -> None:
        super().wrong(code, message, param, line)
        self.mendable = self.mendable and code not in BEYOND_LINES

    def found(self) -> Plan[None]:
        may = self.mendable and len(self.bad_lines) <= MOST_BAD
        yield Statement(
            FOUND,
            {
                "id": self.batch["id"],
                "token": self.claim.token,
                "model": self.offer.model_id if self.offer else None,
                "price": self.offer.price.id if self.offer else None,
                "discount": self.discount,
                "errors": Jsonb(self.errors),
                "bad": self.bad,
                "bad_lines": self.bad_lines if may else None,
                "lines": self.lines,
                "good": self.rows,
                "input_tokens": self.input_tokens,
                "output_tokens": self.output_tokens,
                "hold": self.hold,
            },
        )


def topic(draft_id: UUID) -> str:
    return f"draft.{public('batch', draft_id)}"


def check(draft_id: UUID) -> None:
    """Read its file. Safe to run again after any crash, and at the same time: one of them says what it found."""
    rows = database.run(read(CLAIM, id=draft_id, seconds=WORK_SECONDS))
    if not rows:
        return
    trial = Trial(rows[0])
    try:
        with trial.claim.kept():
            trial.run()
    except Stopped:
        return
    database.run(trial.found())
    bell.ring(topic(draft_id))


def due() -> list[UUID]:
    """Drafts whose check nobody is at."""
    return [row["id"] for row in database.run(read(DUE))]


def forget() -> None:
    """Drafts that nobody has sent within a day. Their files stay as long as other files for batches."""
    database.run(read(FORGET, seconds=KEPT_SECONDS))


def read(sql: str, **params: object) -> Plan[list[Row]]:
    return (yield Statement(sql, params))
