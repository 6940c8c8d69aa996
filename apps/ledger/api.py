"""GET /api/v1/balance and /api/v1/transfers."""

from __future__ import annotations

from django.db.models import Q
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.api import InOrganization, ReadsPayments, organization_of
from apps.accounts.scopes import Scope
from apps.core.errors import InvalidRequest
from apps.ledger import movements
from apps.ledger import services as ledger
from apps.ledger.serializers import (
    BalanceSerializer,
    TransferFilterSerializer,
    TransferPageSerializer,
    TransferSerializer,
)


class BalanceView(APIView):
    permission_classes = (InOrganization,)
    scope = Scope.USAGE

    @extend_schema(operation_id="balance", summary="Your credit", responses=BalanceSerializer)
    def get(self, request: Request) -> Response:
        return Response(BalanceSerializer(ledger.balance(organization_of(request).pk)).data)


class TransfersView(APIView):
    permission_classes = (ReadsPayments,)
    scope = Scope.USAGE

    @extend_schema(
        operation_id="transfers",
        summary="What moved your credit, newest first",
        description="Every transfer of your accounts: credit, promotional, held, receivable. Amounts are whole micro-USD.",
        parameters=[TransferFilterSerializer],
        responses=TransferPageSerializer,
    )
    def get(self, request: Request) -> Response:
        asked = TransferFilterSerializer(data=request.query_params.dict())
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        transfers = movements.transfers_of(organization_of(request))
        if "after" in given:
            older = movements.before(transfers, given["after"])
            if older is None:
                raise InvalidRequest("'after' is not a transfer's id.", param="after", code="invalid_value")
            transfers = older
        if "account" in given:
            transfers = transfers.filter(Q(debit=given["account"]) | Q(credit=given["account"]))
        if "since" in given:
            transfers = transfers.filter(at__gte=given["since"])
        if "until" in given:
            transfers = transfers.filter(at__lt=given["until"])
        found = list(transfers[: given["limit"] + 1])  # one more tells whether there are more; nothing is counted
        page = found[: given["limit"]]
        return Response(
            {"object": "list", "data": TransferSerializer(page, many=True).data, "has_more": len(found) > len(page)}
        )
