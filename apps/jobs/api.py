"""GET /api/v1/jobs and /api/v1/jobs/<id>. What makes and cancels jobs is in `apps.dispatch.api`, on the same paths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.api import InOrganization, organization_of
from apps.accounts.scopes import Needed, Scope
from apps.core import ids
from apps.core.errors import InvalidRequest, NotFound
from apps.jobs.models import Job
from apps.jobs.serializers import JobDetailSerializer, JobFilterSerializer, JobPageSerializer, JobSerializer
from apps.keys.services import Caller

READS = (Scope.USAGE.value, Scope.INFERENCE.value)

FILTERS = {
    "state": "state",
    "kind": "kind",
    "model": "model__name",
    "since": "created_at__gte",
    "until": "created_at__lt",
}


def jobs_of(request: Request) -> QuerySet[Job]:
    """The organization's jobs; to a key that may not read usage, those it sent itself."""
    jobs = Job.objects.of(organization_of(request)).select_related("model", "pool__node__site")
    caller = request.auth
    if isinstance(caller, Caller) and not caller.may(Scope.USAGE):
        return jobs.filter(api_key_id=caller.api_key_id)
    return jobs


def job_of(request: Request, public_id: str) -> Job:
    """A job of `jobs_of`. Another is not found, as one that never was."""
    pk = ids.parse("job", public_id)
    job = jobs_of(request).filter(pk=pk).first() if pk else None
    if job is None:
        raise NotFound("There is no such job.", code="job_not_found")
    return job


def detail(request: Request, job_id: UUID) -> dict[str, Any]:
    job = jobs_of(request).select_related("content", "file").prefetch_related("events").get(pk=job_id)
    return JobDetailSerializer(job).data


class JobsView(APIView):
    permission_classes = (InOrganization,)
    scope: Needed | Mapping[str, Needed] = {"GET": READS, "POST": Scope.INFERENCE}

    @extend_schema(
        operation_id="jobs",
        summary="Your jobs, newest first",
        parameters=[JobFilterSerializer],
        responses=JobPageSerializer,
    )
    def get(self, request: Request) -> Response:
        asked = JobFilterSerializer(data=request.query_params.dict())
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        jobs = (
            jobs_of(request).filter(**{FILTERS[name]: given[name] for name in FILTERS if name in given}).order_by("-id")
        )
        if "after" in given:
            last = ids.parse("job", given["after"])
            if last is None:
                raise InvalidRequest("'after' is not a job's id.", param="after", code="invalid_value")
            jobs = jobs.filter(pk__lt=last)
        found = list(jobs[: given["limit"] + 1])  # one more tells whether there are more; nothing is counted
        page = found[: given["limit"]]
        return Response(
            {"object": "list", "data": JobSerializer(page, many=True).data, "has_more": len(found) > len(page)}
        )


class JobView(APIView):
    permission_classes = (InOrganization,)
    scope = READS

    @extend_schema(
        operation_id="job",
        summary="One job, with its events and, once it ended, its result",
        responses=JobDetailSerializer,
    )
    def get(self, request: Request, public_id: str) -> Response:
        return Response(detail(request, job_of(request, public_id).pk))
