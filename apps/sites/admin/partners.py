"""Partners and their share."""

from __future__ import annotations

from django.contrib import admin

from apps.accounts.reasoned import ReasonedAdmin
from apps.sites.models import Partner


@admin.register(Partner)
class PartnerAdmin(ReasonedAdmin[Partner]):
    """Who owns nodes that are not ours. A change of the share holds from now on."""

    list_display = ["name", "code", "revenue_share_basis_points"]
    search_fields = ["code", "name"]
    ordering = ["code"]
