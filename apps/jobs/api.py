"""GET /api/v1/jobs and /api/v1/jobs/<id>. What makes and cancels jobs is in `apps.dispatch.api`, on the same paths."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.http import QueryDict
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.api import InOrganization, organization_of
from apps.accounts.scopes import Needed, Scope
from apps.core import ids
from apps.core.errors import InvalidRequest, NotFound
from apps.jobs.models import Job, JobQuerySet
from apps.jobs.pages.history import prefix_range
from apps.jobs.serializers import (
    OPEN,
    JobDetailSerializer,
    JobFilterSerializer,
    JobPageSerializer,
    JobSerializer,
)
from apps.keys.services import Caller

READS = (Scope.USAGE.value, Scope.INFERENCE.value)

METADATA = re.compile(r"metadata\[([^\[\]]{1,64})\]", re.DOTALL)
MOST_WORDS = 16
WALKED = 2500
BY_METADATA = OpenApiParameter(
    "metadata",
    {"type": "object", "additionalProperties": {"type": "string", "maxLength": 512}, "maxProperties": MOST_WORDS},
    OpenApiParameter.QUERY,
    style="deepObject",
    explode=True,
    description="metadata[name]=value: jobs that have all of these",
)

FILTERS = {
    "kind": "kind",
    "model": "model__name",
    "since": "created_at__gte",
    "until": "created_at__lt",
}


def jobs_of(request: Request) -> JobQuerySet:
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


def matching(jobs: JobQuerySet, given: dict[str, Any]) -> JobQuerySet:
    """Raises InvalidRequest for an id that is none."""
    jobs = jobs.filter(**{FILTERS[name]: given[name] for name in FILTERS if name in given})
    if given.get("state") == OPEN:
        jobs = jobs.open()
    elif "state" in given:
        jobs = jobs.filter(state=given["state"])
    if given.get("metadata"):
        jobs = jobs.described(given["metadata"])
    if "key" in given:
        jobs = jobs.filter(api_key=identifier("key", given["key"], param="key"))
    if "after" in given:
        jobs = jobs.filter(pk__lt=identifier("job", given["after"], param="after"))
    if "search" in given:
        keys = prefix_range(given["search"])
        if keys is None:
            return jobs.none()
        jobs = jobs.filter(pk__gte=UUID(int=keys[0]), pk__lte=UUID(int=keys[1]))
    return jobs


def newest(jobs: JobQuerySet, given: dict[str, Any], most: int) -> list[Job]:
    """The newest of those that match; nothing is counted.

    By metadata the newest WALKED of the others are looked through first. What is common is found there, and the index on
    metadata, which goes over all organizations, is asked for what is rare.
    """
    words = given.get("metadata")
    if words:
        rest = {name: value for name, value in given.items() if name != "metadata"}
        looked = list(matching(jobs, rest).order_by("-id").values_list("id", "metadata")[:WALKED])
        ids = [pk for pk, metadata in looked if words.items() <= metadata.items()][:most]
        if len(ids) == most or len(looked) < WALKED:
            return list(jobs.filter(pk__in=ids).order_by("-id"))
    return list(matching(jobs, given).order_by("-id")[:most])


def asked_in(query: QueryDict) -> dict[str, Any]:
    """The filters, those on metadata put together. Raises InvalidRequest for more of them than a job can have."""
    asked: dict[str, Any] = {}
    for name, value in query.items():
        if found := METADATA.fullmatch(name):
            asked.setdefault("metadata", {})[found[1]] = value
        elif name == "metadata":
            raise InvalidRequest(
                "Name what you look for: metadata[name]=value.", param="metadata", code="invalid_value"
            )
        else:
            asked[name] = value
    if len(asked.get("metadata", ())) > MOST_WORDS:
        raise InvalidRequest(
            f"A job has at most {MOST_WORDS} pairs of metadata.", param="metadata", code="invalid_value"
        )
    return asked


def identifier(prefix: str, text: str, *, param: str) -> UUID:
    found = ids.parse(prefix, text)
    if found is None:
        noun = {"job": "a job", "key": "an API key"}[prefix]
        raise InvalidRequest(f"'{param}' is not {noun}'s id.", param=param, code="invalid_value")
    return found


class JobsView(APIView):
    permission_classes = (InOrganization,)
    scope: Needed | Mapping[str, Needed] = {"GET": READS, "POST": Scope.INFERENCE}

    @extend_schema(
        operation_id="jobs",
        summary="Your jobs, newest first",
        parameters=[JobFilterSerializer, BY_METADATA],
        responses=JobPageSerializer,
    )
    def get(self, request: Request) -> Response:
        asked = JobFilterSerializer(data=asked_in(request.query_params))
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        found = newest(jobs_of(request), given, given["limit"] + 1)  # one more tells whether there are more
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
