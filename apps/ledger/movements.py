"""The journal as an organization reads it: its own accounts, newest first, in words.

Pages are cut by key, (at, id), which the index (organization, at) serves; nothing is counted. Transfers between two of
the platform's accounts (fees, tax, overruns) are not the customer's and never shown.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from django.db.models import Q, QuerySet
from django.utils.translation import gettext, gettext_lazy

from apps.accounts.models import Organization
from apps.core import numbers
from apps.core.ids import parse, public
from apps.ledger.models import Transfer

Name = Transfer.Name
OWN = (Name.CREDIT, Name.PROMOTIONAL, Name.HELD, Name.RECEIVABLE)
FREE = (Name.CREDIT, Name.PROMOTIONAL)
BALANCE = (*FREE, Name.HELD)
SIZE = 50
WORK = ("job", "batch")  # what keys of holds begin with

WORDS = {
    (Name.HELD, Name.REVENUE): gettext_lazy("Work"),
    (Name.STRIPE_CLEARING, Name.CREDIT): gettext_lazy("Credit bought"),
    (Name.CREDITS_GRANTED, Name.CREDIT): gettext_lazy("Credit given"),
    (Name.CREDITS_GRANTED, Name.PROMOTIONAL): gettext_lazy("Credit given"),
    (Name.PROMOTIONAL, Name.CREDITS_EXPIRED): gettext_lazy("Given credit expired"),
    (Name.CREDIT, Name.REFUNDS): gettext_lazy("Refund to the card"),
    (Name.REFUNDS, Name.CREDIT): gettext_lazy("Refund failed, credit is back"),
    (Name.RECEIVABLE, Name.REFUNDS): gettext_lazy("Refunded after it was spent"),
    (Name.CREDIT, Name.DISPUTES): gettext_lazy("Payment taken back by the bank"),
    (Name.RECEIVABLE, Name.DISPUTES): gettext_lazy("Payment taken back by the bank after it was spent"),
    (Name.DISPUTES, Name.CREDIT): gettext_lazy("Disputed payment returned"),
    (Name.CREDIT, Name.RECEIVABLE): gettext_lazy("Owed amount paid back"),
    (Name.ADJUSTMENTS, Name.CREDIT): gettext_lazy("Correction"),
    (Name.CREDIT, Name.ADJUSTMENTS): gettext_lazy("Correction"),
    (Name.RECEIVABLE, Name.ADJUSTMENTS): gettext_lazy("Correction"),
    (Name.CREDIT, Name.HELD): gettext_lazy("Held for work"),
    (Name.PROMOTIONAL, Name.HELD): gettext_lazy("Held for work"),
    (Name.HELD, Name.CREDIT): gettext_lazy("Not used, returned"),
    (Name.HELD, Name.PROMOTIONAL): gettext_lazy("Not used, returned"),
}


def words(transfer: Transfer) -> str:
    """What moved, for the customer. Reasons that staff wrote stay with staff."""
    if transfer.key.startswith("plan:"):
        return gettext("Credit of your plan")
    found = WORDS.get((Name(transfer.debit), Name(transfer.credit)))
    return str(found) if found else f"{Name(transfer.debit).label} to {Name(transfer.credit).label}"


def work_of(transfer: Transfer) -> tuple[str, str]:
    """What it is about: "job" or "batch" and its public id, or nothing twice. The hold is selected with it."""
    kind, _, number = (transfer.hold.key if transfer.hold else "").partition(":")
    if kind not in WORK:
        return "", ""
    try:
        return kind, public(kind, uuid.UUID(number))
    except ValueError:
        return "", ""


def job_of(transfer: Transfer) -> str:
    """The public id of the job it is about, or nothing."""
    kind, public_id = work_of(transfer)
    return public_id if kind == "job" else ""


def batch_of(transfer: Transfer) -> str:
    """The public id of the batch it is about, or nothing."""
    kind, public_id = work_of(transfer)
    return public_id if kind == "batch" else ""


def public_id(transfer: Transfer) -> str:
    return public("tr", uuid.UUID(str(transfer.pk)))


@dataclass(frozen=True, slots=True)
class Movement:
    """One line of the statement: what it did to the balance, free and held together, and to what is owed."""

    transfer: Transfer
    microusd: int
    owed_microusd: int
    text: str
    job: str
    batch: str

    @classmethod
    def of(cls, transfer: Transfer) -> Movement:
        amount = transfer.amount_microusd
        return cls(
            transfer=transfer,
            microusd=amount * ((transfer.credit in BALANCE) - (transfer.debit in BALANCE)),
            owed_microusd=amount * ((transfer.debit == Name.RECEIVABLE) - (transfer.credit == Name.RECEIVABLE)),
            text=words(transfer),
            job=job_of(transfer),
            batch=batch_of(transfer),
        )

    @property
    def public_id(self) -> str:
        return public_id(self.transfer)

    @property
    def promotional(self) -> bool:
        return Name.PROMOTIONAL in (self.transfer.debit, self.transfer.credit)


@dataclass(frozen=True, slots=True)
class Page:
    """`older` is the key to go on from; empty at the end."""

    movements: list[Movement]
    older: str

    @property
    def decimals(self) -> int:
        """One number of them in a column: four, or as many as its smallest amount needs so that it is not zero."""
        return numbers.sum_places(
            *((each.transfer.amount_microusd, [each.transfer.amount_microusd]) for each in self.movements)
        )


def transfers_of(organization: Organization) -> QuerySet[Transfer]:
    """All that moved the organization's own accounts, newest first."""
    return (
        Transfer.objects.filter(Q(debit__in=OWN) | Q(credit__in=OWN), organization=organization)
        .select_related("hold")
        .order_by("-at", "-id")
    )


def statement_of(organization: Organization, *, payments: bool = False) -> QuerySet[Transfer]:
    """Without holds and what they return, which leave the balance as it is; with `payments`, without work too."""
    found = transfers_of(organization).exclude(credit=Name.HELD).exclude(debit=Name.HELD, credit__in=FREE)
    return found.filter(hold__isnull=True) if payments else found


def before(transfers: QuerySet[Transfer], key: str) -> QuerySet[Transfer] | None:
    """What is older than the transfer with this public id; None where there is no such transfer among them."""
    pk = parse("tr", key)
    last = transfers.filter(pk=pk).first() if pk else None
    if last is None:
        return None
    return transfers.filter(Q(at__lt=last.at) | Q(at=last.at, pk__lt=last.pk), at__lte=last.at)


def page(transfers: QuerySet[Transfer], *, size: int = SIZE) -> Page:
    found = list(transfers[: size + 1])
    rows = found[:size]
    return Page([Movement.of(row) for row in rows], public_id(rows[-1]) if len(found) > size else "")
