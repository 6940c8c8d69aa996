"""GET /api/v1/usage, as JSON or CSV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.api import InOrganization, organization_of
from apps.accounts.scopes import Scope
from apps.core.errors import InvalidRequest
from apps.core.spreadsheets import lines
from apps.jobs import usage
from apps.jobs.serializers import UsageFilterSerializer, UsageReportSerializer
from apps.jobs.usage import Group, Used
from cango_portal import database

DEFAULT_SPAN = timedelta(days=30)


class Always(BaseContentNegotiation):
    """JSON for what DRF renders; CSV is an answer of our own, and a refusal is JSON whatever was asked for."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        return next(iter(parsers))

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, str(renderer.media_type)


class UsageView(APIView):
    permission_classes = (InOrganization,)
    scope = Scope.USAGE
    content_negotiation_class = Always

    @extend_schema(
        operation_id="usage",
        summary="What you used, in groups",
        description="Jobs that ended in the span. The sums of `charge_microusd` are what the ledger charged, exactly.",
        parameters=[UsageFilterSerializer],
        responses={(200, "application/json"): UsageReportSerializer, (200, "text/csv"): OpenApiTypes.STR},
    )
    def get(self, request: Request) -> Response | HttpResponse:
        asked = UsageFilterSerializer(data=request.query_params.dict())
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        start, end = span(given.get("start"), given.get("end"))
        groups: list[Group] = given["group_by"]
        rows = database.run(usage.used(organization_of(request).pk, start=start, end=end, groups=groups))
        if wants_csv(request, given.get("format")):
            text = lines([usage.columns(groups), *(usage.record(row, groups) for row in rows)])
            return HttpResponse(text, content_type="text/csv; charset=utf-8")
        return Response(
            {
                "object": "usage",
                "start": start,
                "end": end,
                "group_by": groups,
                "data": [shape(row, groups) for row in rows],
                "total": shape(usage.total(rows), ()),
            }
        )


def span(start: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    """Raises InvalidRequest naming the field."""
    now = timezone.now()
    last = min(end or now, now)
    first = start or last - DEFAULT_SPAN
    if end is not None and first >= end:
        raise InvalidRequest("'end' must be later than 'start'.", param="end", code="invalid_value")
    if first >= last:
        raise InvalidRequest("'start' is in the future.", param="start", code="invalid_value")
    if last - first > usage.LONGEST_SPAN:
        raise InvalidRequest(
            f"At most {usage.LONGEST_SPAN.days} days can be asked for at once.", param="start", code="invalid_value"
        )
    return first, last


def wants_csv(request: Request, asked: str | None) -> bool:
    if asked is not None:
        return asked == "csv"
    return request.headers.get("Accept", "").partition(";")[0].strip().lower() == "text/csv"


def shape(row: Used, groups: Sequence[Group]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for group in groups:
        found, name = row.groups[group]
        named[group] = found
        if group not in usage.NAMED_BY_ID:
            named[f"{group}_name"] = name
    figures = {name: getattr(row, name) for name in usage.SUMMED if name != "estimated"}
    return {**named, **figures, "energy_estimated": row.estimated}
