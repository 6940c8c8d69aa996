"""GET /api/v1/balance."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.api import InOrganization, organization_of
from apps.ledger import services as ledger
from apps.ledger.serializers import BalanceSerializer


class BalanceView(APIView):
    permission_classes = (InOrganization,)

    @extend_schema(operation_id="balance", summary="Your credit", responses=BalanceSerializer)
    def get(self, request: Request) -> Response:
        return Response(BalanceSerializer(ledger.balance(organization_of(request).pk)).data)
