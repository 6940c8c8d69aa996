"""Who runs this portal, and how long it keeps what: the facts in the legal pages, as they are set and as the code does it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from django.conf import settings
from django.utils.translation import gettext, gettext_lazy, ngettext

from apps.core import numbers
from apps.portal import closing, exporting
from apps.scheduling import selectors as scheduling
from cango_portal import database

SINCE = date(2026, 11, 30)  # of the texts
DEMO = gettext_lazy("The operator of this demonstration")


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
        name=settings.OPERATOR_NAME or str(DEMO),
        address=settings.OPERATOR_ADDRESS,
        email=settings.OPERATOR_EMAIL,
        stripe=not settings.SANDBOX_MONEY,
        refund_days=settings.REFUND_DAYS,
        own=bool(settings.OPERATOR_NAME),
    )


def lasting(seconds: int) -> str:
    days, rest = divmod(seconds, 24 * 3600)
    return numbers.duration(seconds) if rest else ngettext("%(days)s day", "%(days)s days", days) % {"days": days}


def kept() -> list[Kept]:
    return [
        Kept(
            gettext("Requests and their answers"),
            gettext(
                "30 days after the job ended, or 7, or not at all, as your organization says; stored chats and responses too, or until you delete them"
            ),
        ),
        Kept(gettext("Files sent with a job"), lasting(settings.FILE_RETENTION_SECONDS)),
        Kept(
            gettext("Files of batches"),
            gettext(
                "%(batch_file_retention_seconds)s, shorter if you say so, or until you delete them; after the batch has ended no longer than your organization keeps text"
            )
            % {"batch_file_retention_seconds": lasting(settings.BATCH_FILE_RETENTION_SECONDS)},
        ),
        Kept(gettext("Other files you upload"), gettext("Until you delete them, or as you say with the upload")),
        Kept(gettext("Text while it is streamed"), gettext("In memory, about an hour")),
        Kept(gettext("Deliveries to your webhooks"), gettext("30 days")),
        Kept(gettext("Exports of an organization"), gettext("%(days)s days") % {"days": exporting.KEPT.days}),
        Kept(
            gettext("Invoices, jobs' figures, the journal of your credit and the audit log"),
            gettext(
                "%(books_years)s years, also after the organization is deleted: commercial and tax law asks for them"
            )
            % {"books_years": settings.BOOKS_YEARS},
        ),
        Kept(
            gettext("An organization that its owner deletes"),
            gettext("%(days)s days, in which it can be undone") % {"days": closing.GRACE.days},
        ),
        Kept(
            gettext("When you were last active in an organization"),
            gettext("Until you leave it or it is deleted; only the newest time, to five minutes"),
        ),
        Kept(gettext("Your account"), gettext("Until you close it")),
    ]


def places() -> list[tuple[str, str]]:
    """Countries and regions where sites serve a model."""
    found = database.run(scheduling.places())
    return sorted({(place["country"], place["region"]) for sites in found.values() for place in sites})
