"""Where browsers send reports: `report-to` of the content policy names it, `report-uri` is for those that know no names."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse


class ReportingMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if response.headers.get("Content-Type", "").startswith("text/html"):
            response.headers["Reporting-Endpoints"] = 'csp="/csp/"'
        return response
