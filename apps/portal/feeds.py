"""What was said of incidents, as RSS."""

from __future__ import annotations

from datetime import datetime

from django.contrib.syndication.views import Feed
from django.db.models import QuerySet
from django.urls import reverse

from apps.operations.models import IncidentUpdate
from apps.portal.status import SHOWN


class StatusFeed(Feed):  # type: ignore[type-arg]
    title = "Cango Portal status"
    description = "Incidents and how they stand"

    def link(self) -> str:
        return reverse("portal:status")

    def items(self) -> QuerySet[IncidentUpdate]:
        public = IncidentUpdate.objects.filter(incident__public=True)
        return public.select_related("incident").order_by("-pk")[:SHOWN]

    def item_title(self, item: IncidentUpdate) -> str:
        return f"{item.incident.title}: {item.get_state_display().lower()}"

    def item_description(self, item: IncidentUpdate) -> str:
        return item.text

    def item_link(self, item: IncidentUpdate) -> str:
        return f"{reverse('portal:status')}#incident-{item.incident_id}"

    def item_guid(self, item: IncidentUpdate) -> str:
        return f"incident-update-{item.pk}"

    item_guid_is_permalink = False

    def item_pubdate(self, item: IncidentUpdate) -> datetime:
        return item.at
