"""GET /api/v1/batches, /api/v1/batches/<id>, and POST to cancel. They are made at /v1/batches."""

from __future__ import annotations

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.api import InOrganization, organization_of
from apps.accounts.models import User
from apps.accounts.scopes import Scope
from apps.batches import services
from apps.batches.models import ENDED, Batch
from apps.batches.serializers import OPEN, BatchFilterSerializer, BatchPageSerializer, BatchSerializer
from apps.core import ids
from apps.core.errors import InvalidRequest, NotFound

READS = (Scope.USAGE.value, Scope.BATCHES.value)


def batches_of(request: Request) -> QuerySet[Batch]:
    return Batch.objects.of(organization_of(request)).select_related("model")


def batch_of(request: Request, public_id: str) -> Batch:
    """The organization's own batch. Another is not found, as one that never was."""
    pk = ids.parse("batch", public_id)
    batch = batches_of(request).filter(pk=pk).first() if pk else None
    if batch is None:
        raise NotFound("There is no such batch.", code="batch_not_found")
    return batch


class BatchesView(APIView):
    permission_classes = (InOrganization,)
    scope = READS

    @extend_schema(
        operation_id="batches",
        summary="Your batches, newest first",
        parameters=[BatchFilterSerializer],
        responses=BatchPageSerializer,
    )
    def get(self, request: Request) -> Response:
        asked = BatchFilterSerializer(data=request.query_params.dict())
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        batches = batches_of(request).order_by("-id")
        if "state" in given:
            batches = (
                batches.exclude(state__in=ENDED) if given["state"] == OPEN else batches.filter(state=given["state"])
            )
        if "after" in given:
            last = ids.parse("batch", given["after"])
            if last is None:
                raise InvalidRequest("'after' is not a batch's id.", param="after", code="invalid_value")
            batches = batches.filter(pk__lt=last)
        found = list(batches[: given["limit"] + 1])  # one more tells whether there are more; nothing is counted
        page = found[: given["limit"]]
        return Response(
            {"object": "list", "data": BatchSerializer(page, many=True).data, "has_more": len(found) > len(page)}
        )


class BatchView(APIView):
    permission_classes = (InOrganization,)
    scope = READS

    @extend_schema(operation_id="batch", summary="One batch and how far it has come", responses=BatchSerializer)
    def get(self, request: Request, public_id: str) -> Response:
        return Response(BatchSerializer(batch_of(request, public_id)).data)


class CancelBatch(APIView):
    permission_classes = (InOrganization,)
    scope = Scope.BATCHES.value

    @extend_schema(
        operation_id="stop_batch",
        summary="Cancel a batch",
        description="What runs is stopped within seconds; what was finished is kept and charged. Safe to repeat.",
        request=None,
        responses=BatchSerializer,
    )
    def post(self, request: Request, public_id: str) -> Response:
        batch = batch_of(request, public_id)
        services.cancel(batch=batch, actor=request.user if isinstance(request.user, User) else None)
        return Response(BatchSerializer(batch_of(request, public_id)).data)
