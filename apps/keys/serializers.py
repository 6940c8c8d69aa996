"""Keys and members as the management API shows and takes them. Of a key's lists, null is no limit."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.accounts.models import Membership, Organization
from apps.accounts.scopes import Scope
from apps.accounts.serializers import StrictSerializer
from apps.core.ids import public
from apps.core.money import MICROUSD_PER_CENT
from apps.keys.figures import MOST
from apps.keys.models import APIKey
from apps.ledger.budgets import PERIODS
from apps.ledger.forms import MOST_CENTS

MOST_MICROUSD = MOST_CENTS * MICROUSD_PER_CENT
OVERLAP_SECONDS = (0, 3600, 86_400, 604_800)
STATES = ("active", "expired", "revoked")


class LimitsSerializer(serializers.Serializer[Any]):
    """Micro-USD; null is no limit. Those who pay change them, and keys that manage and have none themselves."""

    total_microusd = serializers.IntegerField(allow_null=True)
    daily_microusd = serializers.IntegerField(allow_null=True)
    weekly_microusd = serializers.IntegerField(allow_null=True)
    monthly_microusd = serializers.IntegerField(allow_null=True)


def spending(words: str) -> serializers.IntegerField:
    return serializers.IntegerField(
        required=False, allow_null=True, min_value=0, max_value=MOST_MICROUSD, help_text=f"{words}; null is no limit"
    )


class LimitsChangeSerializer(StrictSerializer):
    """Micro-USD; what is absent stays."""

    total_microusd = spending("For as long as the key lives")
    daily_microusd = spending("Begins anew at 00:00 UTC")
    weekly_microusd = spending("Begins anew on Monday, 00:00 UTC")
    monthly_microusd = spending("Begins anew on the first, 00:00 UTC")


def rate(words: str) -> serializers.IntegerField:
    return serializers.IntegerField(
        required=False, allow_null=True, min_value=1, max_value=MOST, help_text=f"{words}; null is no limit of its own"
    )


def rate_of_key(name: str) -> serializers.IntegerField:
    return serializers.IntegerField(source=f"rates.{name}", default=None, allow_null=True, read_only=True)


class KeySerializer(serializers.ModelSerializer[APIKey]):
    id = serializers.CharField(source="public_id", read_only=True)
    object = serializers.CharField(default="api_key", read_only=True)
    prefix = serializers.CharField(read_only=True, help_text="What the secret begins with")
    state = serializers.ChoiceField(choices=STATES, read_only=True)
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=Scope.choices), read_only=True)
    allowed_models = serializers.ListField(child=serializers.CharField(), allow_null=True, read_only=True)
    residency = serializers.ListField(
        child=serializers.CharField(),
        allow_null=True,
        read_only=True,
        help_text="Countries, regions or sites; the organization's own rule narrows it further",
    )
    ip_ranges = serializers.ListField(child=serializers.CharField(), allow_null=True, read_only=True)
    created_by = serializers.CharField(source="created_by.email", default=None, allow_null=True, read_only=True)
    replaces = serializers.SerializerMethodField(help_text="The key it was made to replace")
    limits = serializers.SerializerMethodField()
    requests_per_minute = rate_of_key("requests_per_minute")
    input_tokens_per_minute = rate_of_key("input_tokens_per_minute")
    output_tokens_per_minute = rate_of_key("output_tokens_per_minute")
    concurrent_requests = rate_of_key("concurrent_requests")

    class Meta:
        model = APIKey
        fields = (
            "id",
            "object",
            "name",
            "prefix",
            "state",
            "scopes",
            "allowed_models",
            "residency",
            "ip_ranges",
            "limits",
            "requests_per_minute",
            "input_tokens_per_minute",
            "output_tokens_per_minute",
            "concurrent_requests",
            "expires_at",
            "created_by",
            "replaces",
            "created_at",
            "last_used_at",
            "last_used_ip",
            "last_used_agent",
            "revoked_at",
        )
        read_only_fields = fields

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_replaces(self, key: APIKey) -> str | None:
        return public("key", key.replaces_id) if key.replaces_id else None

    @extend_schema_field(LimitsSerializer)
    def get_limits(self, key: APIKey) -> dict[str, int | None]:
        return {f"{each}_microusd": getattr(key.budget, f"{each}_limit_microusd", None) for each in PERIODS}


class KeyWithSecretSerializer(KeySerializer):
    secret = serializers.CharField(help_text="cango_…; shown in this answer and never again")

    class Meta(KeySerializer.Meta):
        fields = (*KeySerializer.Meta.fields, "secret")  # type: ignore[assignment]
        read_only_fields = fields  # type: ignore[assignment]


class KeyPageSerializer(serializers.Serializer[Any]):
    object = serializers.CharField(default="list")
    data = KeySerializer(many=True)  # type: ignore[assignment]  # Serializer has a property of this name
    has_more = serializers.BooleanField()


class KeyFilterSerializer(StrictSerializer):
    after = serializers.CharField(required=False, help_text="The id of the last key you have")
    limit = serializers.IntegerField(required=False, default=20, min_value=1, max_value=100)


class KeyChangeSerializer(StrictSerializer):
    name = serializers.CharField(max_length=80, required=False)
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=Scope.choices), required=False, min_length=1, max_length=10
    )
    allowed_models = serializers.ListField(
        child=serializers.CharField(max_length=100),
        required=False,
        allow_null=True,
        min_length=1,
        max_length=100,
        help_text="Names of models on offer; null is all",
    )
    residency = serializers.ListField(
        child=serializers.CharField(max_length=100),
        required=False,
        allow_null=True,
        min_length=1,
        max_length=100,
        help_text="US, US/Georgia, US/Georgia/ga-1; null is wherever the organization allows",
    )
    ip_ranges = serializers.ListField(
        child=serializers.CharField(max_length=60),
        required=False,
        allow_null=True,
        min_length=1,
        max_length=50,
        help_text="CIDR, IPv4 and IPv6; null is from everywhere",
    )
    expires_at = serializers.DateTimeField(required=False, allow_null=True, help_text="null: until it is revoked")
    limits = LimitsChangeSerializer(required=False)
    requests_per_minute = rate("Of any 60 seconds, beside the organization's own")
    input_tokens_per_minute = rate("The most that requests of any 60 seconds can read")
    output_tokens_per_minute = rate("The most that requests of any 60 seconds can write")
    concurrent_requests = rate("Requests that clients wait for at the same time")


class KeyRequestSerializer(KeyChangeSerializer):
    name = serializers.CharField(max_length=80, help_text="Where it is used")


class ReplaceKeySerializer(StrictSerializer):
    overlap_seconds = serializers.ChoiceField(
        choices=OVERLAP_SECONDS,
        required=False,
        default=86_400,
        help_text="How long the old key works on: not at all, an hour, a day or a week",
    )


class OrganizationSerializer(serializers.ModelSerializer[Organization]):
    id = serializers.CharField(source="public_id", read_only=True)
    object = serializers.CharField(default="organization", read_only=True)
    residency = serializers.ListField(
        child=serializers.CharField(),
        allow_null=True,
        read_only=True,
        help_text="Countries, regions or sites where all of its work runs; null is everywhere",
    )

    class Meta:
        model = Organization
        fields = ("id", "object", "name", "residency", "created_at")
        read_only_fields = fields


class OrganizationChangeSerializer(StrictSerializer):
    residency = serializers.ListField(
        child=serializers.CharField(max_length=100),
        required=False,
        allow_null=True,
        min_length=1,
        max_length=100,
        help_text="US, US/Georgia, US/Georgia/ga-1; null is everywhere",
    )


class MemberSerializer(serializers.ModelSerializer[Membership]):
    id = serializers.SerializerMethodField()
    object = serializers.CharField(default="member", read_only=True)
    email = serializers.CharField(source="user.email", read_only=True)
    name = serializers.CharField(source="user.name", read_only=True)
    joined_at = serializers.DateTimeField(source="created_at", read_only=True)

    class Meta:
        model = Membership
        fields = ("id", "object", "email", "name", "role", "joined_at")
        read_only_fields = fields

    def get_id(self, membership: Membership) -> str:
        return f"mem_{membership.pk}"


class MemberPageSerializer(serializers.Serializer[Any]):
    object = serializers.CharField(default="list")
    data = MemberSerializer(many=True)  # type: ignore[assignment]  # Serializer has a property of this name
    has_more = serializers.BooleanField()


class MemberFilterSerializer(StrictSerializer):
    after = serializers.CharField(required=False, help_text="The id of the last member you have")
    limit = serializers.IntegerField(required=False, default=20, min_value=1, max_value=100)


class MemberChangeSerializer(StrictSerializer):
    role = serializers.ChoiceField(choices=Membership.Role.choices)
