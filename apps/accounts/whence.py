"""Where the act comes from that is going on: the client's address, for the audit trail. Nothing where no request is answered."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

from allauth.account.adapter import get_adapter
from django.http import HttpRequest, HttpResponse

_request: ContextVar[HttpRequest | None] = ContextVar("request", default=None)


def address() -> str | None:
    request = _request.get()
    if request is None:
        return None
    found: str = get_adapter().get_client_ip(request)
    return None if found == "0.0.0.0" else found[:45]  # noqa: S104 - what has no address


class WhenceMiddleware:
    """Outermost of ours: whatever a view writes is written from there."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        token = _request.set(request)
        try:
            return self.get_response(request)
        finally:
            _request.reset(token)
