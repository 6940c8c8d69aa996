"""What is on offer, as both APIs show it: GET /v1/models and GET /api/v1/models. Where it runs comes from above."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rest_framework import serializers

from apps.catalog.models import Model, Tier
from apps.catalog.offers import Offer
from apps.wire.capabilities import Capability

MODALITIES = {
    Model.Kind.CHAT: (["text"], ["text"]),
    Model.Kind.EMBEDDINGS: (["text"], ["embeddings"]),
    Model.Kind.RERANK: (["text"], ["scores"]),
    Model.Kind.OCR: (["image", "file"], ["text"]),
}
TIERS = {Tier.STANDARD: "default", Tier.FLEXIBLE: "flex", Tier.BATCH: "batch"}  # as requests name them


def described(offer: Offer, sites: Iterable[dict[str, Any]] = ()) -> dict[str, Any]:
    """The official model object, and beyond it what the model is for, can do, costs, and where it runs."""
    read, written = MODALITIES[Model.Kind(offer.kind)]
    images = ["image"] if Capability.IMAGE_INPUT in offer.capabilities else []
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
        "shorter_dimensions": offer.shorter_dimensions,
        "vocabulary_tokens": offer.vocabulary_tokens or None,
        "modalities": {"input": [*read, *images], "output": written},
        "capabilities": sorted(offer.capabilities),
        "max_choices": offer.max_choices if offer.kind == Model.Kind.CHAT else None,
        "pricing": {
            "input_microusd_per_mtok": offer.price.input_microusd_per_mtok,
            "cached_input_microusd_per_mtok": offer.price.cached_input,
            "output_microusd_per_mtok": offer.price.output_microusd_per_mtok,
            "request_microusd": offer.price.request_microusd,
            "page_microusd": offer.price.page_microusd,
            "batch_basis_points": offer.price.batch_basis_points,
            "flexible_basis_points": offer.price.flexible_basis_points,
        },
        "tiers": [{"name": name, "basis_points": offer.price.tier_basis_points(tier)} for tier, name in TIERS.items()],
        "sites": list(sites),
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


class ModalitiesSerializer(serializers.Serializer[Any]):
    input = serializers.ListField(child=serializers.CharField(), help_text="text, image, file")
    output = serializers.ListField(child=serializers.CharField(), help_text="text, embeddings, scores")


class TierSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(help_text="As `service_tier` names it; batch is for batches")
    basis_points = serializers.IntegerField(help_text="Its share of every price; 10,000 are the whole")


class PlaceSerializer(serializers.Serializer[Any]):
    """A site that serves the model. `ready`: it would take work now, if a slot is free."""

    code = serializers.CharField(help_text="As in GET /api/v1/sites")
    name = serializers.CharField()
    region = serializers.CharField()
    country = serializers.CharField()
    ready = serializers.BooleanField()


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
    shorter_dimensions = serializers.ListField(
        child=serializers.IntegerField(), help_text="What `dimensions` may ask for"
    )
    vocabulary_tokens = serializers.IntegerField(
        allow_null=True, help_text="Token ids in place of text are from 0 to one less; null: not known"
    )
    modalities = ModalitiesSerializer()
    capabilities = serializers.ListField(
        child=serializers.ChoiceField(choices=[(term.value, promise) for term, promise in Model.CAPABILITIES.items()]),
        help_text="What a request may ask for beyond the plain answer",
    )
    max_choices = serializers.IntegerField(allow_null=True, help_text="What `n` may ask for")
    pricing = PricingSerializer()
    tiers = TierSerializer(many=True)
    sites = PlaceSerializer(many=True)


class ModelsSerializer(serializers.Serializer[Any]):
    object = serializers.CharField()
    data = ModelSerializer(many=True)  # type: ignore[assignment]  # Serializer has a property of this name
