"""What a view streams leaves in parts, also from an ASGI server."""

import warnings

from django.http import StreamingHttpResponse
from django.test import AsyncRequestFactory, RequestFactory

from apps.portal.streaming import AT_ONCE, StreamingMiddleware

PARTS = [b"%d\n" % number for number in range(AT_ONCE + 3)]


class Source:
    """The parts, how many were asked for, and whether it was closed."""

    def __init__(self):
        self.left, self.closed = list(PARTS), False

    def __iter__(self):
        return self

    def __next__(self):
        if not self.left:
            raise StopIteration
        return self.left.pop(0)

    def close(self):
        self.closed = True


async def test_an_asgi_server_sends_before_all_is_there():
    source = Source()
    response = StreamingMiddleware(lambda request: StreamingHttpResponse(source))(AsyncRequestFactory().get("/"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sent = aiter(response)
        assert await anext(sent) == b"".join(PARTS[:AT_ONCE])
        assert source.left == PARTS[AT_ONCE:]
        assert [part async for part in sent] == [b"".join(PARTS[AT_ONCE:])]
    response.close()
    assert source.closed


def test_a_synchronous_server_gets_what_the_view_gave():
    response = StreamingMiddleware(lambda request: StreamingHttpResponse(Source()))(RequestFactory().get("/"))
    assert not response.is_async
    assert list(response) == PARTS
