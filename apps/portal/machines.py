"""What load balancers, supervisors and browsers ask for: alive, ready, violations of the content policy."""

import json
import logging
import time
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import redis
from django.db import DEFAULT_DB_ALIAS, Error, connections
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import Resolver404, resolve
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from cango_portal import valkey

log = logging.getLogger(__name__)

MAX_REPORT_BYTES = 16 * 1024
MAX_REPORTS = 20  # of one request
MAX_REPORTS_AN_HOUR = 60
REPORT_SECONDS = 24 * 3600


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
    size = request.META.get("CONTENT_LENGTH") or "0"
    if size.isdecimal() and int(size) <= MAX_REPORT_BYTES:
        for report in reports(request.body)[:MAX_REPORTS]:
            said = violation(report)
            if said and is_news(said):
                log.warning("content policy violated", extra=said)
    return HttpResponse(status=204)


def reports(body: bytes) -> list[dict[str, Any]]:
    """What `report-uri` sends (one object) or `report-to` (a list, of several kinds). Nothing where it is neither."""
    try:
        sent = json.loads(body)
    except ValueError:
        return []
    if isinstance(sent, dict):
        sent = [{"type": "csp-violation", "body": sent.get("csp-report")}]
    if not isinstance(sent, list):
        return []
    found = [
        each["body"]
        for each in sent
        if isinstance(each, dict) and each.get("type") == "csp-violation" and "body" in each
    ]
    return [each for each in found if isinstance(each, dict)]


def violation(report: dict[str, Any]) -> dict[str, str]:
    """The rule, and the kind of page: never an address, which may hold a token, nor what stood there. Empty where it names none."""
    directive = (
        report.get("effectiveDirective") or report.get("effective-directive") or report.get("violated-directive")
    )
    address = str(report.get("documentURL") or report.get("document-uri") or "")
    if not isinstance(directive, str) or not directive.strip():
        return {}
    try:
        page = resolve(urlsplit(address).path).route
    except (Resolver404, ValueError):
        page = "no page of ours"
    blocked = str(report.get("blockedURL") or report.get("blocked-uri") or "")
    return {"directive": directive.split()[0][:40], "page": page, "blocked": blocked[:200].partition("?")[0]}


def is_news(said: dict[str, str]) -> bool:
    """Once a day for each rule and page, and at most so many in an hour: anybody may send reports."""
    client, key = valkey.client(), f"csp:{said['directive']}:{said['page']}"
    try:
        if not client.set(key, 1, nx=True, ex=REPORT_SECONDS):
            return False
        hour = f"csp:{int(time.time() // 3600)}"
        count = client.incr(hour)
        client.expire(hour, 3600)
        return bool(count <= MAX_REPORTS_AN_HOUR)
    except (redis.RedisError, OSError):
        return False  # they come again
