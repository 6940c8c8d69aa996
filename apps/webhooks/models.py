"""Where customers are told, what they are told, and how each telling went."""

from __future__ import annotations

import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from apps.accounts.models import Organization, User
from apps.core.ids import public, uuid7

URL_LENGTH = 2000
EXCERPT_LENGTH = 1024


class EndpointQuerySet(models.QuerySet["Endpoint"]):
    def of(self, organization: Organization) -> EndpointQuerySet:
        return self.filter(organization=organization)


class Endpoint(models.Model):
    """A URL of the customer's that is told of events.

    `event_types` empty means all. The secrets are encrypted (`apps.webhooks.secrets`); the previous one signs beside the
    new one until `previous_secret_expires_at`. `failing_since` is the first failure with no success after it.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="webhooks")
    url = models.CharField(max_length=URL_LENGTH)
    description = models.CharField(max_length=120, blank=True)
    event_types = ArrayField(models.CharField(max_length=40), default=list, blank=True)
    secret = models.TextField(editable=False)
    previous_secret = models.TextField(blank=True, editable=False)
    previous_secret_expires_at = models.DateTimeField(null=True, editable=False)
    enabled = models.BooleanField(default=True)
    disabled_reason = models.CharField(max_length=200, blank=True)
    disabled_at = models.DateTimeField(null=True, editable=False)
    consecutive_failures = models.PositiveIntegerField(default=0, editable=False)
    failing_since = models.DateTimeField(null=True, editable=False)
    created_by = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    deliveries: models.Manager[Delivery]
    objects = EndpointQuerySet.as_manager()

    class Meta:
        verbose_name = "webhook"
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(enabled=True, disabled_at__isnull=True, disabled_reason="")
                | (Q(enabled=False, disabled_at__isnull=False) & ~Q(disabled_reason="")),
                name="webhooks_endpoint_disabled_says_why",
            ),
            models.CheckConstraint(
                condition=Q(previous_secret="", previous_secret_expires_at__isnull=True)
                | (~Q(previous_secret="") & Q(previous_secret_expires_at__isnull=False)),
                name="webhooks_endpoint_previous_secret_ends",
            ),
            models.CheckConstraint(
                condition=Q(consecutive_failures=0, failing_since__isnull=True)
                | Q(consecutive_failures__gt=0, failing_since__isnull=False),
                name="webhooks_endpoint_failing_since",
            ),
        ]

    def __str__(self) -> str:
        return self.url

    @property
    def public_id(self) -> str:
        return public("wh", uuid.UUID(str(self.pk)))

    def wants(self, event_type: str) -> bool:
        return not self.event_types or event_type in self.event_types


class Message(models.Model):
    """One fact an organization is told of, under the key its teller gave it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+", db_index=False)
    type = models.CharField(max_length=40)
    data = models.JSONField()
    key = models.CharField(max_length=200)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "key"], name="webhooks_message_once"),
        ]
        indexes = [models.Index(fields=["created_at"], name="webhooks_message_age")]

    def __str__(self) -> str:
        return f"{self.type} {self.public_id}"

    @property
    def public_id(self) -> str:
        return public("msg", uuid.UUID(str(self.pk)))


class Delivery(models.Model):
    """One message on its way to one endpoint. A replay is a new delivery of the same message.

    `attempts` is also the fence: an outcome is recorded only under the number its attempt was claimed with. A delivery
    whose `lease_expires_at` lies ahead is being sent. Request and response are those of the latest attempt.
    """

    class State(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"  # and FAILED: final
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    message = models.ForeignKey(Message, models.CASCADE, related_name="deliveries", db_index=False)
    endpoint = models.ForeignKey(Endpoint, models.CASCADE, related_name="deliveries", db_index=False)
    replay = models.BooleanField(default=False)
    state = models.CharField(max_length=10, choices=State, default=State.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_try_at = models.DateTimeField(null=True)
    lease_expires_at = models.DateTimeField(null=True)
    request_headers = models.JSONField(default=dict)
    request_body = models.TextField(blank=True)
    response_status = models.PositiveSmallIntegerField(null=True)
    response_excerpt = models.CharField(max_length=EXCERPT_LENGTH, blank=True)
    last_error = models.CharField(max_length=300, blank=True)
    took_seconds = models.FloatField(null=True)
    created_at = models.DateTimeField()
    tried_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "deliveries"
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["message", "endpoint"], condition=Q(replay=False), name="webhooks_delivery_once"
            ),
            models.UniqueConstraint(
                fields=["message", "endpoint"], condition=Q(state="pending"), name="webhooks_delivery_one_pending"
            ),
            models.CheckConstraint(
                condition=Q(state="pending", finished_at__isnull=True, next_try_at__isnull=False)
                | (
                    ~Q(state="pending")
                    & Q(finished_at__isnull=False, next_try_at__isnull=True, lease_expires_at__isnull=True)
                ),
                name="webhooks_delivery_finished_has_time",
            ),
        ]
        indexes = [
            models.Index(fields=["message"], name="webhooks_delivery_message"),
            models.Index(F("endpoint"), F("id").desc(), name="webhooks_delivery_log"),
            models.Index(
                fields=["endpoint", "next_try_at"], condition=Q(state="pending"), name="webhooks_delivery_due"
            ),
            models.Index(
                fields=["endpoint"], condition=Q(lease_expires_at__isnull=False), name="webhooks_delivery_sending"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.message_id} to {self.endpoint_id}"

    @property
    def public_id(self) -> str:
        return public("dlv", uuid.UUID(str(self.pk)))
