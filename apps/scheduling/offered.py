"""GET /api/v1/models: what is on offer and where it runs. GET /v1/models shows the same."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.api import InOrganization, may_use
from apps.catalog import offers
from apps.catalog.api import ModelsSerializer, described
from apps.core.sql import Plan
from apps.scheduling import selectors
from cango_portal import database


def listed(name: str | None = None) -> Plan[list[dict[str, Any]]]:
    """The models on offer (or the one of this name), each with its sites, in two statements."""
    found = yield from offers.offers(name)
    places = yield from selectors.places(found[0].model_id if name and found else None)
    return [described(offer, places.get(offer.model_id, ())) for offer in found]


class ModelsView(APIView):
    permission_classes = (InOrganization,)
    scope = None  # any key

    @extend_schema(operation_id="models", summary="Models on offer", responses=ModelsSerializer)
    def get(self, request: Request) -> Response:
        found = [model for model in database.run(listed()) if may_use(request, model["id"])]
        return Response({"object": "list", "data": found})
