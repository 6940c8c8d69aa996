"""POST /api/v1/jobs, /api/v1/jobs/<id>/cancel and /api/v1/jobs/<id>/retry."""

from __future__ import annotations

import hashlib
import json
from typing import IO, Any, cast

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.http import QueryDict
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.parsers import BaseParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.api import InOrganization, organization_of
from apps.accounts.models import User
from apps.accounts.scopes import Scope
from apps.catalog import offers
from apps.catalog.models import Model, Tier
from apps.catalog.offers import Offer
from apps.core.asgi import BodyTooLarge
from apps.core.errors import InvalidRequest
from apps.core.ids import public
from apps.dispatch import intake, repeating
from apps.dispatch import services as dispatch
from apps.dispatch.services import Submitted, Work
from apps.files import services as files
from apps.jobs.api import JobsView, detail, job_of
from apps.jobs.serializers import JobDetailSerializer
from apps.keys.authentication import caller_of
from apps.wire.bodies import parse
from cango_portal import database

FORM_BYTES = 64 * 1024  # what surrounds a file in a form
MIN_DEADLINE_SECONDS = 1
TIERS = [Tier.STANDARD.value, Tier.FLEXIBLE.value]  # batches have their own door
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="The same key and body again within 24 hours: the same job, charged once",
)
TIER_HELP = "flexible costs less and waits behind standard work"


class StrictJSONParser(BaseParser):
    """As /v1 reads JSON: bounded, and nothing in it that cannot be stored."""

    media_type = "application/json"

    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Any = None) -> dict[str, Any]:
        raw = stream.read(settings.MAX_BODY_BYTES + 1)
        if len(raw) > settings.MAX_BODY_BYTES:
            raise BodyTooLarge(f"The request body may have at most {settings.MAX_BODY_BYTES:,} bytes.")
        if parser_context is not None:
            parser_context["request"].sha256 = hashlib.sha256(raw)
        return parse(raw)


class JobRequestSerializer(serializers.Serializer[Any]):
    """A chat or embeddings request as in /v1, below `input` and without `model`."""

    model = serializers.CharField(max_length=100)
    input = serializers.DictField(help_text='{"messages": […], …} or {"input": …, …}')
    deadline_seconds = serializers.IntegerField(required=False, help_text="How long it may wait for a free slot")
    tier = serializers.ChoiceField(choices=TIERS, required=False, default=TIERS[0], help_text=TIER_HELP)


class FileRequestSerializer(serializers.Serializer[Any]):
    model = serializers.CharField(max_length=100)
    file = serializers.FileField(help_text="PNG, JPEG, WebP, TIFF or PDF")
    deadline_seconds = serializers.IntegerField(required=False, help_text="How long it may wait for a free slot")
    tier = serializers.ChoiceField(choices=TIERS, required=False, default=TIERS[0], help_text=TIER_HELP)


class Jobs(JobsView):
    parser_classes = (StrictJSONParser, MultiPartParser)

    @extend_schema(
        operation_id="create_job",
        summary="Send work that may wait",
        description="Accepted work stays queued until a slot is free or its deadline passes; its worst-case cost is held until it ends.",
        parameters=[IDEMPOTENCY_KEY],
        request={"application/json": JobRequestSerializer, "multipart/form-data": FileRequestSerializer},
        responses={202: JobDetailSerializer},
    )
    def post(self, request: Request) -> Response:
        check_size(request)
        given = request.data.dict() if isinstance(request.data, QueryDict) else cast(dict[str, Any], request.data)
        submitted = create(request, given)
        return accepted(request, submitted)


def accepted(request: Request, submitted: Submitted) -> Response:
    return Response(
        detail(request, submitted.job_id),
        status=status.HTTP_202_ACCEPTED,
        headers={
            "Location": f"/api/v1/jobs/{public('job', submitted.job_id)}",
            **({"Idempotent-Replayed": "true"} if submitted.replayed else {}),
        },
    )


def check_size(request: Request) -> None:
    """Before anything of a form is read."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    most = max(settings.MAX_FILE_BYTES + FORM_BYTES, settings.MAX_BODY_BYTES)
    if length.isdigit() and int(length) > most:
        raise BodyTooLarge(f"The request body may have at most {most:,} bytes.")


def create(request: Request, given: dict[str, Any]) -> Submitted:
    known = ("model", "file" if request.FILES else "input", "deadline_seconds", "tier")
    unknown = next((name for name in given if name not in known), None)
    if unknown is not None:
        name = unknown[:100]
        raise InvalidRequest(f"Unrecognized request argument supplied: {name}.", param=name, code="unknown_parameter")
    offer = offered(given.get("model"))
    deadline = deadline_of(given.get("deadline_seconds"))
    tier = tier_of(given.get("tier"))
    if request.FILES:
        return create_from_file(request, offer, given["file"], deadline, tier)
    body = given.get("input")
    if offer.kind != Model.Kind.OCR and not isinstance(body, dict):
        raise InvalidRequest(
            "'input' must be an object: a chat or embeddings request without 'model'.",
            param="input",
            code="invalid_type",
        )
    return submit(request, intake.background_work(offer, body or {}, deadline_seconds=deadline, tier=tier))


def create_from_file(
    request: Request, offer: Offer, upload: UploadedFile[Any], deadline: float | None, tier: str | None
) -> Submitted:
    intake.of_kind(offer, Model.Kind.OCR)
    file = files.store(organization=organization_of(request), upload=upload)
    try:
        work = intake.ocr_work(offer, file, deadline_seconds=deadline, tier=tier or Tier.STANDARD.value)
        submitted = submit(request, work)
    except BaseException:
        files.discard(file.pk, file.path)
        raise
    if submitted.replayed:
        files.discard(file.pk, file.path)
    return submitted


def offered(name: Any) -> Offer:
    if name is None or name == "":
        raise InvalidRequest("Missing required parameter: 'model'.", param="model", code="missing_required_parameter")
    if not isinstance(name, str) or "\0" in name:
        raise InvalidRequest("'model' must be a model's name.", param="model", code="invalid_type")
    return intake.found(database.run(offers.offer(name)), name)


def tier_of(given: Any) -> str | None:
    """None where the customer did not say."""
    if given is None or (isinstance(given, str) and given in TIERS):
        return given
    raise InvalidRequest(
        "'tier' must be 'standard' or 'flexible'.",
        param="tier",
        code="invalid_value" if isinstance(given, str) else "invalid_type",
    )


def deadline_of(given: Any) -> float | None:
    """Whole seconds; a form sends them as text."""
    if given is None:
        return None
    seconds = (
        int(given) if isinstance(given, str) and given.isascii() and given.isdigit() and len(given) < 10 else given
    )
    if not isinstance(seconds, int) or isinstance(seconds, bool):
        raise InvalidRequest(
            "'deadline_seconds' must be a whole number.", param="deadline_seconds", code="invalid_type"
        )
    if not MIN_DEADLINE_SECONDS <= seconds <= settings.JOB_DEADLINE_SECONDS:
        raise InvalidRequest(
            f"'deadline_seconds' must be from {MIN_DEADLINE_SECONDS} to {settings.JOB_DEADLINE_SECONDS:,}.",
            param="deadline_seconds",
            code="invalid_value",
        )
    return float(seconds)


def digest_of(request: Request) -> bytes:
    """Of method, path and body; of a form its fields and files, because each try draws another boundary."""
    place = f"{request.method} {request.path}\n".encode()
    sha256 = hashlib.sha256(place)
    if json_sha256 := getattr(request, "sha256", None):  # by StrictJSONParser
        sha256.update(json_sha256.digest())
    for name, value in sorted(request.POST.items()):
        sha256.update(json.dumps([name, value]).encode())
    for name, upload in sorted(request.FILES.items()):
        sha256.update(json.dumps([name, upload.name, upload.content_type, upload.size]).encode())
        for part in upload.chunks():
            sha256.update(part)
        upload.seek(0)
    return sha256.digest()


def submit(request: Request, work: Work) -> Submitted:
    caller = caller_of(request)
    ticket = dispatch.ticket(
        caller, {name.lower(): value for name, value in request.headers.items()}, digest_of(request)
    )
    try:
        return dispatch.submit(caller=caller, work=work, ticket=ticket)
    except intake.NOTED as refused:
        database.run(intake.noted(caller, work, refused))
        raise


class CancelJob(APIView):
    permission_classes = (InOrganization,)
    scope = Scope.INFERENCE

    @extend_schema(
        operation_id="cancel_job",
        summary="Cancel a job",
        description="What has not started ends at once and costs nothing; what runs is stopped within seconds and charged as far as it came. Safe to repeat.",
        request=None,
        responses=JobDetailSerializer,
    )
    def post(self, request: Request, public_id: str) -> Response:
        job = job_of(request, public_id)
        dispatch.cancel(job_id=job.pk, actor=request.user if isinstance(request.user, User) else None)
        return Response(detail(request, job.pk))


class RetryJob(APIView):
    permission_classes = (InOrganization,)
    scope = Scope.INFERENCE

    @extend_schema(
        operation_id="retry_job",
        summary="The same work once more, as a new job",
        description="By the prices and limits of now, with a hold of its own. The earlier job stays as it ended.",
        request=None,
        responses={202: JobDetailSerializer},
    )
    def post(self, request: Request, public_id: str) -> Response:
        submitted = submit(request, repeating.work(job_of(request, public_id)))
        return accepted(request, submitted)
