"""Who owns nodes that are not ours."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class Partner(models.Model):
    """Who owns nodes that are not ours, and what of their revenue is the partner's."""

    code = models.SlugField(unique=True)
    name = models.CharField(max_length=80)
    revenue_share_basis_points = models.PositiveIntegerField(help_text="1 is a hundredth of a percent: 6000 is 60 %")

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(revenue_share_basis_points__lte=10_000), name="sites_partner_share_at_most_all"
            )
        ]

    def __str__(self) -> str:
        return self.name
