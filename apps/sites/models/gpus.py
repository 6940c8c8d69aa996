"""GPUs, each at one node at a time."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from apps.sites.models.nodes import Node


class GPU(models.Model):
    """One GPU, known by the UUID NVML gives it, wherever it sits. It is at one node at a time; `removed_at` is when it left."""

    uuid = models.CharField("UUID", max_length=80)
    node = models.ForeignKey(Node, models.PROTECT, related_name="gpus")
    name = models.CharField(max_length=80, blank=True)
    memory_mib = models.PositiveIntegerField("memory (MiB)", null=True, blank=True)
    serial = models.CharField(max_length=40, blank=True)
    first_seen_at = models.DateTimeField(db_default=Now(), editable=False)
    removed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "GPU"
        constraints = [
            models.UniqueConstraint(
                fields=["uuid"],
                condition=Q(removed_at__isnull=True),
                name="sites_gpu_at_one_node",
            ),
            models.CheckConstraint(condition=Q(uuid__startswith="GPU-"), name="sites_gpu_has_uuid"),
        ]

    def __str__(self) -> str:
        return self.uuid

    def clean(self) -> None:
        """The same as the constraint, which a form cannot ask: `removed_at` is not of its fields."""
        elsewhere = GPU.objects.filter(uuid=self.uuid, removed_at=None).exclude(pk=self.pk)
        if self.removed_at is None and elsewhere.exists():
            raise ValidationError("This GPU is at another node: say first that it was removed there.")
