"""Who runs this portal, and how long it keeps what: the facts in the legal pages, as they are set and as the code does it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from django.conf import settings

from apps.core import numbers
from apps.portal import closing, exporting
from apps.scheduling import selectors as scheduling
from cango_portal import database

SINCE = date(2026, 11, 29)  # of the texts
DEMO = "The operator of this demonstration"


@dataclass(frozen=True, slots=True)
class Operator:
    name: str
    address: str
    email: str
    stripe: bool
    refund_days: int
    own: bool  # somebody was named
    since: date = SINCE


@dataclass(frozen=True, slots=True)
class Kept:
    what: str
    long: str


def operator() -> Operator:
    return Operator(
        name=settings.OPERATOR_NAME or DEMO,
        address=settings.OPERATOR_ADDRESS,
        email=settings.OPERATOR_EMAIL,
        stripe=not settings.SANDBOX_MONEY,
        refund_days=settings.REFUND_DAYS,
        own=bool(settings.OPERATOR_NAME),
    )


def kept() -> list[Kept]:
    return [
        Kept(
            "Requests and their answers",
            "30 days after the job ended, or 7, or not at all, as your organization says; stored chats and responses too, or until you delete them",
        ),
        Kept("Files sent with a job", numbers.duration(settings.FILE_RETENTION_SECONDS)),
        Kept(
            "Files of batches",
            f"{numbers.duration(settings.BATCH_FILE_RETENTION_SECONDS)}, shorter if you say so, or until you delete them; after the batch has ended no longer than your organization keeps text",
        ),
        Kept("Other files you upload", "Until you delete them, or as you say with the upload"),
        Kept("Text while it is streamed", "In memory, about an hour"),
        Kept("Deliveries to your webhooks", "30 days"),
        Kept("Exports of an organization", f"{exporting.KEPT.days} days"),
        Kept(
            "Invoices, jobs' figures, the journal of your credit and the audit log",
            f"{settings.BOOKS_YEARS} years, also after the organization is deleted: commercial and tax law asks for them",
        ),
        Kept("An organization that its owner deletes", f"{closing.GRACE.days} days, in which it can be undone"),
        Kept("Your account", "Until you close it"),
    ]


def places() -> list[tuple[str, str]]:
    """Countries and regions where sites serve a model."""
    found = database.run(scheduling.places())
    return sorted({(place["country"], place["region"]) for sites in found.values() for place in sites})
