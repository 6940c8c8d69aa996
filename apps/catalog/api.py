"""What is on offer, as both APIs show it: GET /v1/models and GET /api/v1/models."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.api import InOrganization
from apps.catalog import offers
from apps.catalog.models import Model
from apps.catalog.offers import Offer
from cango_portal import database


def described(offer: Offer) -> dict[str, Any]:
    """The official model object, and beyond it what the model is for, its limits and its price."""
    return {
        "id": offer.name,
        "object": "model",
        "created": int(offer.created_at.timestamp()),
        "owned_by": offer.name.partition("/")[0],
        "title": offer.title,
        "kind": offer.kind,
        "context_tokens": offer.context_tokens or None,
        "max_output_tokens": offer.max_output_tokens or None,
        "max_pages": offer.max_pages or None,
        "dimensions": offer.dimensions or None,
        "pricing": {
            "input_microusd_per_mtok": offer.price.input_microusd_per_mtok,
            "cached_input_microusd_per_mtok": offer.price.cached_input,
            "output_microusd_per_mtok": offer.price.output_microusd_per_mtok,
            "request_microusd": offer.price.request_microusd,
            "page_microusd": offer.price.page_microusd,
            "batch_basis_points": offer.price.batch_basis_points,
            "flexible_basis_points": offer.price.flexible_basis_points,
        },
    }


class PricingSerializer(serializers.Serializer[Any]):
    """Whole micro-USD of the standard tier; tokens by the million. Tiers pay their share: 10,000 basis points are 100%."""

    input_microusd_per_mtok = serializers.IntegerField()
    cached_input_microusd_per_mtok = serializers.IntegerField()
    output_microusd_per_mtok = serializers.IntegerField()
    request_microusd = serializers.IntegerField()
    page_microusd = serializers.IntegerField()
    batch_basis_points = serializers.IntegerField()
    flexible_basis_points = serializers.IntegerField()


class ModelSerializer(serializers.Serializer[Any]):
    id = serializers.CharField(help_text="What requests name, such as cango/demo-chat")
    object = serializers.CharField()
    created = serializers.IntegerField(help_text="Unix seconds")
    owned_by = serializers.CharField()
    title = serializers.CharField()
    kind = serializers.ChoiceField(choices=Model.Kind.choices)
    context_tokens = serializers.IntegerField(allow_null=True)
    max_output_tokens = serializers.IntegerField(allow_null=True)
    max_pages = serializers.IntegerField(allow_null=True)
    dimensions = serializers.IntegerField(allow_null=True)
    pricing = PricingSerializer()


class ModelsSerializer(serializers.Serializer[Any]):
    object = serializers.CharField()
    data = ModelSerializer(many=True)  # type: ignore[assignment]  # Serializer has a property of this name


class ModelsView(APIView):
    permission_classes = (InOrganization,)
    scope = None

    @extend_schema(operation_id="models", summary="Models on offer", responses=ModelsSerializer)
    def get(self, request: Request) -> Response:
        return Response({"object": "list", "data": [described(offer) for offer in database.run(offers.offers())]})
