"""One row of a batch: what it asks, and its answer once there is one. After the batch's end both are in its files alone."""

from __future__ import annotations

import contextlib
import json

from django.template.loader import render_to_string

from apps.batches import shards
from apps.batches.models import Row, Shard
from apps.batches.pages.batch import OK, BatchPage
from apps.batches.pages.rows import whole
from apps.core import numbers
from apps.files.sealing import Unreadable
from apps.jobs import reasons
from apps.runner.protocol import Task


class RowPage:
    """Raises Shard.DoesNotExist where the batch has no such row."""

    def __init__(self, page: BatchPage, line: int) -> None:
        self.page = page
        self.line = line
        shard = Shard.objects.filter(batch=page.batch, first_line__lte=line).order_by("-number").first()
        if shard is None or line >= shard.first_line + shard.lines:
            raise Shard.DoesNotExist
        self.row = Row.objects.filter(batch=page.batch, line=line).first()
        self.asked = self.asked_of(shard)

    def asked_of(self, shard: Shard) -> shards.Line | None:
        with contextlib.suppress(FileNotFoundError, Unreadable, ValueError):
            return (
                next((line for line in shards.lines(shard.path) if line.number == self.line), None)
                if shard.path
                else None
            )
        return None

    @property
    def number(self) -> str:
        return numbers.count(self.line)

    @property
    def custom_id(self) -> str:
        return self.asked.custom_id if self.asked else ""

    @property
    def request(self) -> str:
        """Its body as JSON. Empty where it is not stored any more."""
        if self.asked is None:
            return ""
        return json.dumps(Task.model_validate_json(self.asked.task).body, ensure_ascii=False, indent=2)

    @property
    def topic(self) -> str:
        return f"{self.page.topic}.answer.{self.line}"

    @property
    def awaited(self) -> bool:
        return self.row is None and not self.page.batch.is_final

    @property
    def good(self) -> bool:
        return self.row is not None and self.row.status == OK

    @property
    def answer(self) -> str:
        """All of it, or why there is none. Empty where it is not stored, here or any more."""
        try:
            body = self.row.body if self.row else None
        except Unreadable as error:
            return reasons.said(error.message)
        return whole(body) if body else ""


def part(row: RowPage) -> str:
    return render_to_string("batches/_answer.html", {"row": row, "page": row.page, "batch": row.page.batch})
