"""The rows on a batch's page: those that ended last while it runs, then the first of its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.db.models import QuerySet
from django.template.loader import render_to_string
from django.utils.translation import gettext, ngettext

from apps.batches.models import Batch, Row
from apps.batches.pages.batch import OK, BatchPage
from apps.core import numbers
from apps.files import services as files
from apps.files.models import File
from apps.files.sealing import Unreadable
from apps.jobs import reasons

MOST = 10
EXCERPT = 300  # characters of an answer


@dataclass(frozen=True, slots=True)
class Shown:
    """One row. `name` is its line, or its custom_id in a file. `answer` is the beginning of it, or why there is none."""

    name: str
    good: bool
    answer: str
    tokens: int | None
    charge_microusd: int


class RowsPage:
    """Read where they are shown: a part of the page that fails alone."""

    def __init__(self, page: BatchPage) -> None:
        self.page = page
        self.batch: Batch = page.batch

    @cached_property
    def failed(self) -> list[Shown]:
        if self.batch.is_final:
            return self.of_file(self.page.files.get(errors)) if (errors := self.page.written[1]) else []
        return self.latest(Row.objects.exclude(status=OK), "-line") if self.batch.failed else []

    @cached_property
    def answered(self) -> list[Shown]:
        if self.batch.is_final:
            return self.of_file(self.page.files.get(output)) if (output := self.page.written[0]) else []
        return self.latest(Row.objects.all(), "-at", "-line")

    @property
    def topic(self) -> str:
        return f"{self.page.topic}.rows"

    @property
    def there(self) -> bool:
        return bool(self.failed or self.answered)

    @property
    def tables(self) -> list[tuple[str, str, list[Shown]]]:
        """Title, what of it is shown, and the rows."""
        if not self.batch.is_final:
            newest = [(gettext("Output"), gettext("the newest rows"), self.answered)]
            if not self.failed:
                return newest
            so_far = gettext("%(rows)s so far, free of charge") % {"rows": BatchPage.rows(self.batch.failed)}
            return [(gettext("Rows without an answer"), so_far, self.failed), *newest]
        without = self.batch.total - self.batch.completed
        found = (
            (gettext("Rows without an answer"), without, self.failed),
            (gettext("Output"), self.batch.completed, self.answered),
        )
        return [
            (
                title,
                gettext("the first %(shown)s of %(rows)s") % {"shown": len(rows), "rows": BatchPage.rows(count)}
                if count > len(rows)
                else BatchPage.rows(count),
                rows,
            )
            for title, count, rows in found
            if rows
        ]

    def latest(self, among: QuerySet[Row], *order: str) -> list[Shown]:
        rows = list(among.filter(batch=self.batch).order_by(*order)[:MOST])
        return [
            Shown(
                gettext("Line %(number)s") % {"number": numbers.count(row.line)},
                row.status == OK,
                of_row(row),
                row.completion_tokens or None,
                row.charge_microusd,
            )
            for row in rows
        ]

    def of_file(self, file: File | None) -> list[Shown]:
        if file is None:
            return []
        found: list[Shown] = []
        try:
            with files.open_lines(file.path) as lines:
                for line in lines:
                    found.append(of_line(json.loads(line.content)))
                    if len(found) == MOST:
                        break
        except (OSError, Unreadable, ValueError):  # the file's card says what is left of it
            pass
        return found


def of_row(row: Row) -> str:
    try:
        return excerpt(row.body or {})
    except Unreadable as error:
        return reasons.said(error.message)


def of_line(line: Mapping[str, Any]) -> Shown:
    """A line of an output or error file."""
    body = (line.get("response") or {}).get("body") or {"error": line.get("error") or {}}
    usage = body.get("usage") or {}
    tokens = usage.get("completion_tokens", usage.get("output_tokens"))
    answer = excerpt(body)
    return Shown(
        str(line["custom_id"]),
        "error" not in body or not body["error"],
        answer,
        tokens,
        usage.get("cost_microusd") or 0,
    )


def excerpt(body: Mapping[str, Any]) -> str:
    """The beginning of what an answer says, whichever endpoint it is of."""
    text = whole(body)
    return text if len(text) <= EXCERPT else f"{text[:EXCERPT]}…"


def whole(body: Mapping[str, Any]) -> str:
    if body.get("error"):
        return reasons.said(str(body["error"].get("message", "")))
    if "choices" in body:
        choice = (body["choices"] or [{}])[0]
        message = choice.get("message") or {}
        calls = [
            f"{call['function']['name']}({call['function']['arguments']})" for call in message.get("tool_calls") or ()
        ]
        return str(choice.get("text") or message.get("content") or message.get("refusal") or " ".join(calls))
    if "output" in body:
        parts = [part for item in body["output"] for part in item.get("content") or ()]
        calls = [
            f"{item['name']}({item['arguments']})" for item in body["output"] if item.get("type") == "function_call"
        ]
        return "".join(str(part.get("text", "")) for part in parts) or " ".join(calls)
    if "results" in body:
        return ", ".join(f"{each['index']}: {each['relevance_score']:.3f}" for each in body["results"])
    data = body.get("data") or []
    return ngettext("%(count)s vector", "%(count)s vectors", len(data)) % {"count": len(data)}


def part(page: BatchPage) -> str:
    return render_to_string("batches/_rows.html", {"rows": RowsPage(page), "page": page, "batch": page.batch})
