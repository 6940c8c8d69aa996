"""API keys: shown once, stored as a hash, revocable at once."""

from __future__ import annotations

import uuid

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from apps.accounts.models import Organization, User
from apps.accounts.scopes import USUAL, Scope
from apps.catalog.models import Model, Tier
from apps.core.ids import public, uuid7
from apps.ledger.models import Budget

BEFORE_SCOPES = [*USUAL, Scope.WEBHOOKS.value]  # what every key could do before there were scopes


def usual_scopes() -> list[str]:
    return list(USUAL)


class APIKeyQuerySet(models.QuerySet["APIKey"]):
    def of(self, organization: Organization) -> APIKeyQuerySet:
        return self.filter(organization=organization)

    def active(self) -> APIKeyQuerySet:
        return self.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=Now()), revoked_at__isnull=True)


class APIKey(models.Model):
    """`prefix` is the part of the secret people may see; the secret itself is not here.

    Of the lists, null is no limit. `residency` holds places (`apps.core.places`), `ip_ranges` CIDR. A key that replaced
    another spends from the same budget. `expiry_told_days` is the last warning given of `expires_at`.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="api_keys")
    created_by = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    name = models.CharField(max_length=80)
    prefix = models.CharField(max_length=20, editable=False)
    sha256 = models.CharField(max_length=64, unique=True, editable=False)
    budget = models.ForeignKey(
        Budget, models.PROTECT, null=True, related_name="api_keys", editable=False, db_index=False
    )
    scopes = ArrayField(
        models.CharField(max_length=12, choices=Scope), default=usual_scopes, db_default=BEFORE_SCOPES, editable=False
    )
    allowed_models = ArrayField(models.CharField(max_length=100), null=True, editable=False)
    residency = ArrayField(models.CharField(max_length=100), null=True, editable=False)
    ip_ranges = ArrayField(models.CharField(max_length=43), null=True, editable=False)
    expires_at = models.DateTimeField(null=True, editable=False)
    expiry_told_days = models.PositiveSmallIntegerField(null=True, editable=False)
    replaces = models.ForeignKey(
        "self", models.PROTECT, null=True, related_name="replaced_by", editable=False, db_index=False
    )
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, editable=False)
    last_used_ip = models.GenericIPAddressField(null=True, editable=False)
    last_used_agent = models.CharField(max_length=60, default="", db_default="", editable=False)
    revoked_at = models.DateTimeField(null=True, editable=False)
    objects = APIKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["organization"], condition=Q(revoked_at__isnull=True), name="keys_apikey_active"),
            models.Index(fields=["budget"], name="keys_apikey_budget"),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @property
    def public_id(self) -> str:
        return public("key", uuid.UUID(str(self.pk)))

    @property
    def expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= timezone.now()

    @property
    def state(self) -> str:
        return "revoked" if self.revoked_at else "expired" if self.expired else "active"

    @property
    def rates(self) -> RateLimit | None:
        """Its own for all models and tiers together."""
        return next((row for row in self.rate_limits.all() if row.model_id is None and not row.tier), None)


class RateLimit(models.Model):
    """Figures for whoever it names. What it leaves open is everybody, every model, every tier; each organization counts
    for itself. Of limits that name the same kinds of things, the one of the organization goes before the one of everybody.
    """

    organization = models.ForeignKey(
        Organization, models.CASCADE, null=True, blank=True, related_name="+", help_text="Empty: each of them"
    )
    api_key = models.ForeignKey(
        APIKey, models.CASCADE, null=True, blank=True, related_name="rate_limits", verbose_name="API key",
        help_text="Beside the limits of its organization",
    )  # fmt: skip
    model = models.ForeignKey(
        Model, models.CASCADE, null=True, blank=True, related_name="+", help_text="Empty: all of them together"
    )
    tier = models.CharField(max_length=8, choices=Tier, blank=True, help_text="Empty: all of them together")
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: no limit")
    input_tokens_per_minute = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Counted at admission by the most a request can read, and corrected at its end"
    )
    output_tokens_per_minute = models.PositiveBigIntegerField(
        null=True,
        blank=True,
        help_text="Counted at admission by the most a request can write, and corrected at its end",
    )
    concurrent_requests = models.PositiveIntegerField(
        null=True, blank=True, help_text="Requests that clients wait for at the same time"
    )

    class Meta:
        verbose_name = "rate limit"
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "api_key", "model", "tier"],
                nulls_distinct=False,
                name="keys_ratelimit_one_for_each",
                violation_error_message="There is a limit for this already. Change that one.",
            ),
            models.CheckConstraint(
                condition=Q(api_key__isnull=True) | Q(organization__isnull=False),
                name="keys_ratelimit_key_has_organization",
                violation_error_message="Name the organization of the API key too.",
            ),
        ]

    def __str__(self) -> str:
        named = [self.api_key or self.organization or "every organization", self.model, self.tier]
        return ", ".join(str(each) for each in named if each)

    def clean(self) -> None:
        if self.api_key and self.api_key.organization_id != self.organization_id:
            raise ValidationError({"api_key": "This key is of another organization."})
