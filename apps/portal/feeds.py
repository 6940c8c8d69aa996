"""What was said of incidents, as RSS, in the language its reader asks for."""

from __future__ import annotations

from datetime import datetime

from django.contrib.syndication.views import Feed
from django.db.models import QuerySet
from django.urls import reverse
from django.utils.translation import gettext, gettext_lazy

from apps.operations.models import IncidentUpdate
from apps.portal.status import SHOWN


class StatusFeed(Feed):  # type: ignore[type-arg]
    title = gettext_lazy("Cango Portal status")
    description = gettext_lazy("Incidents and how they stand")

    def link(self) -> str:
        return reverse("portal:status")

    def items(self) -> QuerySet[IncidentUpdate]:
        public = IncidentUpdate.objects.filter(incident__public=True)
        return public.select_related("incident").order_by("-pk")[:SHOWN]

    def item_title(self, item: IncidentUpdate) -> str:
        return gettext("%(name)s: %(value)s") % {
            "name": item.incident.title,
            "value": item.get_state_display().lower(),
        }

    def item_description(self, item: IncidentUpdate) -> str:
        return item.text

    def item_link(self, item: IncidentUpdate) -> str:
        return f"{reverse('portal:status')}#incident-{item.incident_id}"

    def item_guid(self, item: IncidentUpdate) -> str:
        return f"incident-update-{item.pk}"

    item_guid_is_permalink = False

    def item_pubdate(self, item: IncidentUpdate) -> datetime:
        return item.at
