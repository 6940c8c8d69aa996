"""API keys: shown once, stored as a hash, revocable at once."""

from __future__ import annotations

import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from apps.accounts.models import Organization, User
from apps.accounts.scopes import USUAL, Scope
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
