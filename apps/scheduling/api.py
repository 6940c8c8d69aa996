"""GET /api/v1/sites: where work can run, as a customer sees it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.db.models import Prefetch
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.api import InOrganization
from apps.scheduling import placement, selectors
from apps.sites import feeds
from apps.sites.models import Drain, Site
from cango_portal import database

SHOWN = ("carbon", "market")  # feeds that customers see figures of


class OfferedSerializer(serializers.Serializer[Any]):
    """A model that a site has slots for."""

    model = serializers.CharField()
    slots = serializers.IntegerField(help_text="Requests it works on at once, for all customers together")
    ready = serializers.BooleanField(help_text="Takes new work now")


class MaintenanceSerializer(serializers.Serializer[Any]):
    """A time in which a part of a site takes no new work. What runs there before it is finished or goes on elsewhere."""

    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField(allow_null=True, help_text="As it is expected")


class SiteSerializer(serializers.ModelSerializer[Site]):
    object = serializers.CharField(default="site", read_only=True)
    models = serializers.SerializerMethodField()
    stale = serializers.SerializerMethodField(
        help_text="Of `carbon` (of the grid) and `market` (by contract): what comes from a feed that has told nothing new for too long"
    )
    maintenance = serializers.SerializerMethodField(help_text="Announced and not over, the next one first")

    class Meta:
        model = Site
        fields = (
            "code",
            "object",
            "name",
            "region",
            "country",
            "time_zone",
            "pue",
            "grid_gco2e_per_kwh",
            "market_gco2e_per_kwh",
            "stale",
            "models",
            "maintenance",
        )
        read_only_fields = fields
        extra_kwargs = {
            "pue": {"help_text": "Facility power over IT power"},
            "grid_gco2e_per_kwh": {
                "help_text": "What a kWh of the local grid emits: the carbon of your jobs comes from it"
            },
            "market_gco2e_per_kwh": {
                "help_text": "What a kWh emits by the site's contracts of supply. Null: it has none. Never to be mixed with the grid's"
            },
        }

    @extend_schema_field(OfferedSerializer(many=True))
    def get_models(self, site: Site) -> list[dict[str, Any]]:
        offered: dict[str, dict[str, Any]] = {}
        for node in site.nodes.all():
            for pool in node.pools.all():
                if not pool.model.listed:
                    continue
                found = offered.setdefault(pool.model.name, {"model": pool.model.name, "slots": 0, "ready": False})
                found["slots"] += pool.slots
                found["ready"] = found["ready"] or pool.code in self.context["ready"]
        return [offered[name] for name in sorted(offered)]

    @extend_schema_field(serializers.ListField(child=serializers.ChoiceField(choices=SHOWN)))
    def get_stale(self, site: Site) -> list[str]:
        return [kind for kind, code in site.feeds.items() if kind in SHOWN and self.context["stale"].get((kind, code))]

    @extend_schema_field(MaintenanceSerializer(many=True))
    def get_maintenance(self, site: Site) -> list[dict[str, Any]]:
        announced = [
            drain
            for node in site.nodes.all()
            for drain in node.drains.all()
            if drain.announced_at and drain.ended_at is None
        ]
        return MaintenanceSerializer(sorted(announced, key=lambda drain: drain.starts_at), many=True).data  # type: ignore[return-value]


class SitesSerializer(serializers.Serializer[Any]):
    object = serializers.CharField(default="list")
    data = SiteSerializer(many=True)  # type: ignore[assignment]  # Serializer has a property of this name


class SitesView(APIView):
    permission_classes = (InOrganization,)
    scope = None  # any key

    @extend_schema(operation_id="sites", summary="Sites that offer a listed model", responses=SitesSerializer)
    def get(self, request: Request) -> Response:
        sites = (
            Site.objects.filter(nodes__pools__model__listed=True)
            .distinct()
            .order_by("code")
            .prefetch_related("nodes__pools__model", Prefetch("nodes__drains", Drain.objects.filter(ended_at=None)))
        )
        ready = {view.code for view in database.run(selectors.views()) if not placement.refusal(view)}
        context = {"ready": ready, "stale": feeds.stale(datetime.now(UTC))}
        return Response({"object": "list", "data": SiteSerializer(sites, many=True, context=context).data})
