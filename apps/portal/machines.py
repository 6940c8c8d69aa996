"""What load balancers, supervisors and browsers ask for: alive, ready, violations of the content policy."""

import json
import logging
from functools import cache

import redis
from django.db import DEFAULT_DB_ALIAS, Error, connections
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from cango_portal import valkey

log = logging.getLogger(__name__)

MAX_REPORT_BYTES = 16 * 1024


@require_safe
@never_cache
def healthz(request: HttpRequest) -> HttpResponse:
    """The process answers. Nothing else is asked, so that a database that is away does not restart web processes."""
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
@never_cache
def readyz(request: HttpRequest) -> HttpResponse:
    """May this process take requests? 503 with what is missing where not."""
    parts = {"database": _database(), "migrations": _migrations(), "redis": _redis()}
    ready = all(state == "ok" for state in parts.values())
    return JsonResponse({"ready": ready, **parts}, status=200 if ready else 503)


def _database() -> str:
    try:
        with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error:
        return "away"
    return "ok"


@cache
def _known() -> frozenset[tuple[str, str]]:
    """The migrations this code came with."""
    return frozenset(MigrationLoader(None).disk_migrations)


def _migrations() -> str:
    try:
        missing = _known() - MigrationRecorder(connections[DEFAULT_DB_ALIAS]).applied_migrations().keys()
    except Error:
        return "unknown"
    return f"{len(missing)} to apply" if missing else "ok"


def _redis() -> str:
    try:
        valkey.client().ping()
    except (redis.RedisError, OSError):
        return "away"
    return "ok"


@csrf_exempt
@require_POST
def csp(request: HttpRequest) -> HttpResponse:
    """Browsers report what the content policy stopped. Only the rule and the place are kept, never page content."""
    if int(request.META.get("CONTENT_LENGTH") or 0) <= MAX_REPORT_BYTES:
        try:
            report = json.loads(request.body)["csp-report"]
            log.warning(
                "content policy violated",
                extra={
                    name: str(report.get(name, ""))[:200].partition("?")[0]
                    for name in (
                        "effective-directive",
                        "violated-directive",
                        "blocked-uri",
                        "document-uri",
                        "source-file",
                    )
                },
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            pass  # not a report: nothing to learn from it
    return HttpResponse(status=204)
