"""What every page of the double shares."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.cache import add_never_cache_headers

from apps.billing.sandbox.refusals import Missing

View = Callable[..., HttpResponse]


def sandbox(view: View) -> View:
    """404 where the portal has real money, and for what the double does not have. Never kept by a cache."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not settings.SANDBOX_MONEY:
            raise Http404
        try:
            answer = view(request, *args, **kwargs)
        except Missing as missing:
            raise Http404(missing.message) from missing
        add_never_cache_headers(answer)
        return answer

    return guarded
