"""Pages leave compressed; what leaves in parts does not: files are of kinds that are compressed already, or resumed by their length."""

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware.gzip import GZipMiddleware


class CompressionMiddleware(GZipMiddleware):
    """A page is a fifth of its size with gzip. Django hides the true length behind random bytes and masks its CSRF tokens anew for each
    page, so that what a page says cannot be guessed from lengths (BREACH).
    """

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        return response if response.streaming else super().process_response(request, response)
