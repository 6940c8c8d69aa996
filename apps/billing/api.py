"""GET /api/v1/invoices."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.api import ReadsPayments, organization_of
from apps.accounts.scopes import Scope
from apps.billing import selectors
from apps.billing.serializers import InvoiceFilterSerializer, InvoicePageSerializer, InvoiceSerializer
from apps.core.errors import InvalidRequest


class InvoicesView(APIView):
    permission_classes = (ReadsPayments,)
    scope = Scope.USAGE

    @extend_schema(
        operation_id="invoices",
        summary="Your invoices, newest first",
        parameters=[InvoiceFilterSerializer],
        responses=InvoicePageSerializer,
    )
    def get(self, request: Request) -> Response:
        asked = InvoiceFilterSerializer(data=request.query_params.dict())
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        organization = organization_of(request)
        if "after" in given and selectors.invoice_of(organization, given["after"]) is None:
            raise InvalidRequest("'after' is not an invoice's id.", param="after", code="invalid_value")
        page = selectors.invoices(
            organization,
            after=given.get("after", ""),
            size=given["limit"],
            since=given.get("since"),
            until=given.get("until"),
        )
        data = InvoiceSerializer(page.rows, many=True).data
        return Response({"object": "list", "data": data, "has_more": bool(page.older)})
