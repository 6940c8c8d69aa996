"""A part of a page, tried by itself: where it cannot be read it says so, and the rest of the page is whole (design guide, §6)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from django.conf import settings
from django.db import Error, connection, transaction
from django.http import HttpRequest

from apps.portal import failures

SECONDS = 5.0  # that one statement of a part may take: a page is not kept waiting for what holds it up

LIMIT = "SELECT set_config('statement_timeout', %s, true)"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Failure:
    """`reference` is what to quote. One line of the log has it, with what was raised."""

    reference: str


def attempt(request: HttpRequest, name: str, read: Callable[[], T]) -> T | Failure:
    """What `read` gives. A part of that name that failed before in this request has failed, and is not tried again.

    The savepoint keeps what others read after it. With the database itself away the page fails as a whole, and at once.
    """
    failed: dict[str, Failure] = request.__dict__.setdefault("failed_parts", {})
    if name in failed:
        return failed[name]
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(LIMIT, [str(round(SECONDS * 1000))])
            return read()
    except Exception as error:
        if settings.FAILED_PARTS_RAISE or (isinstance(error, Error) and not connection.is_usable()):
            raise
        reference = failures.reference("part failed", level=logging.ERROR, path=request.path, part=name)
        failed[name] = Failure(reference)
        return failed[name]
