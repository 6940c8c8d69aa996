"""Reads of the pages and the API: an organization's own rows, and logs by keyset."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.db.models import OuterRef, QuerySet, Subquery

from apps.accounts.models import Organization
from apps.core import ids
from apps.webhooks.models import Delivery, Endpoint


@dataclass(frozen=True, slots=True)
class Page:
    """Newest first. `older` is the public id the next page begins after, or empty at the end."""

    deliveries: list[Delivery]
    older: str


def endpoint_of(organization: Organization, public_id: str) -> Endpoint | None:
    """The organization's own endpoint; another's is None, as one that never was."""
    pk = ids.parse("wh", public_id)
    return Endpoint.objects.of(organization).select_related("created_by").filter(pk=pk).first() if pk else None


def delivery_of(endpoint: Endpoint, public_id: str) -> Delivery | None:
    pk = ids.parse("dlv", public_id)
    return deliveries(endpoint).filter(pk=pk).first() if pk else None


def deliveries(endpoint: Endpoint) -> QuerySet[Delivery]:
    return Delivery.objects.filter(endpoint=endpoint).select_related("message", "endpoint").order_by("-id")


def page(endpoint: Endpoint, *, after: UUID | None, size: int) -> Page:
    """Nothing is counted: one row more tells whether there are older ones."""
    found = deliveries(endpoint)
    if after:
        found = found.filter(pk__lt=after)
    rows = list(found[: size + 1])
    more = len(rows) > size
    rows = rows[:size]
    return Page(rows, rows[-1].public_id if more else "")


def with_last(organization: Organization) -> list[tuple[Endpoint, Delivery | None]]:
    """Each endpoint and its newest delivery, in two queries."""
    newest = Delivery.objects.filter(endpoint=OuterRef("pk")).order_by("-id").values("pk")[:1]
    endpoints = Endpoint.objects.of(organization)
    newest_of_each = endpoints.order_by().values(newest=Subquery(newest))
    last = {
        delivery.endpoint_id: delivery
        for delivery in Delivery.objects.filter(pk__in=newest_of_each).select_related("message")
    }
    return [(endpoint, last.get(endpoint.pk)) for endpoint in endpoints]
