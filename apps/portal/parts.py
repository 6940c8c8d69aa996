"""A part of a page, tried by itself: where it cannot be read it says so, and the rest of the page is whole (design guide, §6)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from django.conf import settings
from django.db import Error, connection, transaction
from django.http import HttpRequest, HttpResponse

from apps.portal import failures

SECONDS = 5.0  # that one statement of a part may take: a page is not kept waiting for what holds it up

LIMIT, UNLIMITED = "SELECT set_config('statement_timeout', %s, false)", "RESET statement_timeout"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Failure:
    """`reference` is what to quote. One line of the log has it, with what was raised."""

    reference: str


@dataclass(slots=True)
class Tried:
    """What a request has tried: the parts that failed, and whether its connection's statements are limited."""

    failed: dict[str, Failure] = field(default_factory=dict)
    limited: bool = False


def tried(request: HttpRequest) -> Tried:
    found: Tried = request.__dict__.setdefault("tried", Tried())
    return found


def attempt(request: HttpRequest, name: str, read: Callable[[], T]) -> T | Failure:
    """What `read` gives. A part of that name that failed before in this request has failed, and is not tried again.

    With the database itself away the page fails as a whole, and at once.
    """
    now = tried(request)
    if name in now.failed:
        return now.failed[name]
    try:
        if not now.limited:
            execute(LIMIT, str(round(SECONDS * 1000)))
            now.limited = True
        if not connection.in_atomic_block:  # each statement is a transaction of its own: none spoils another
            return read()
        with transaction.atomic():
            return read()
    except Exception as error:
        if settings.FAILED_PARTS_RAISE or (isinstance(error, Error) and not connection.is_usable()):
            raise
        reference = failures.reference("part failed", level=logging.ERROR, path=request.path, part=name)
        now.failed[name] = Failure(reference)
        return now.failed[name]


def execute(sql: str, *params: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, params or None)


class PartsMiddleware:
    """No limit stays on a connection that another request has next. Outermost: the page of what another middleware refuses has parts too."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if tried(request).limited and connection.connection is not None:
            try:
                execute(UNLIMITED)
            except Error:
                connection.close()
        return response
