"""Files leave in parts: Django gathers a synchronous iterator as a whole before an ASGI server sends its first byte."""

from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice
from typing import cast

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse

AT_ONCE = 16  # parts that one turn of the request's thread fetches: 64 KiB of a file


class StreamingMiddleware:
    """Outermost but for one that sends nothing: it sees every answer. What iterates runs in the request's own thread, with its connection to the database."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if isinstance(request, ASGIRequest) and isinstance(response, StreamingHttpResponse) and not response.is_async:
            response.streaming_content = in_turns(cast("Iterator[bytes]", response.streaming_content))
        return response


async def in_turns(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    while fetched := await sync_to_async(fetch)(parts):
        yield b"".join(fetched)


def fetch(parts: Iterator[bytes]) -> list[bytes]:
    return list(islice(parts, AT_ONCE))
