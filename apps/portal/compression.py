"""Public pages leave compressed; what leaves in parts does not: files are of kinds that are compressed already, or resumed by their length."""

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware.gzip import GZipMiddleware


class CompressionMiddleware(GZipMiddleware):
    """A page is a fifth of its size with gzip. What is sent to a session is not compressed: pages repeat their query string, and beside a
    recovery code, a new key or a signing secret the length would tell which guess of it is right (BREACH; Django's random bytes only make
    that slower). A request with an API key is one that no other site can have a browser send.
    """

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if response.streaming or settings.SESSION_COOKIE_NAME in request.COOKIES:
            return response
        return super().process_response(request, response)
