"""Payments that the cardholder's bank took back: from free credit, and the rest is owed. Finished charges stay."""

from dataclasses import dataclass
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext_noop

from apps.accounts.models import Organization
from apps.billing import attempts, customers, mail, news, refunds, top_ups
from apps.billing.amounts import dollars, microusd
from apps.billing.booking import NotBooked
from apps.billing.client import client, identifier, plain
from apps.billing.models import AutomaticTopUp, Dispute, TopUp
from apps.ledger import services as ledger

CLOSED = {"won": Dispute.State.WON, "warning_closed": Dispute.State.WON, "lost": Dispute.State.LOST}


@dataclass(frozen=True, slots=True)
class Read:
    """A dispute as Stripe has it now, with the payment it is of; `payment` is None where that was for a plan."""

    dispute: dict[str, Any]
    payment: top_ups.Payment | None
    organization: Organization | None

    @property
    def transactions(self) -> list[dict[str, Any]]:
        """What it moved on Stripe's balance: the withdrawal (negative, with the fee), and the return."""
        return list(self.dispute.get("balance_transactions") or [])


def read(dispute_id: str) -> Read | None:
    """None where the payment is not ours."""
    dispute = plain(client().v1.disputes.retrieve(dispute_id))
    intent_id = identifier(dispute.get("payment_intent"))
    if not intent_id:
        return None
    intent = top_ups.read_intent(intent_id)
    payment = top_ups.payment_of(intent)
    organization = None if payment else customers.of(identifier(intent.get("customer")))
    return Read(dispute, payment, organization) if payment or organization else None


def book(read: Read) -> None:
    """Write where a dispute stands. In the caller's transaction. The payment is booked first. Raises NotBooked.

    Locks the invoice, the top-up, the dispute, the automatic top-up, then the account.
    """
    top_up = top_ups.book(read.payment) if read.payment else None
    organization = top_up.organization if top_up else read.organization
    assert organization is not None
    name, amount = read.dispute["id"], read.dispute["amount"]
    if top_up is not None and top_up.state != TopUp.State.PAID:
        raise NotBooked(f"{name} is a dispute of top-up {top_up.pk}, which is {top_up.state}.")
    Dispute.objects.get_or_create(
        stripe_id=name,
        defaults={
            "organization": organization,
            "top_up": top_up,
            "amount_cents": amount,
            "reason": (read.dispute.get("reason") or "")[:64],
        },
    )
    row = Dispute.objects.select_for_update(of=("self",)).select_related("organization", "top_up").get(stripe_id=name)
    closed = CLOSED.get(read.dispute["status"])
    if closed and row.state == Dispute.State.OPEN:
        row.state, row.closed_at = closed, timezone.now()
        row.save(update_fields=["state", "closed_at"])
    for transaction in read.transactions:
        top_ups.book_fee(organization, transaction)
    charge_id = identifier(read.dispute.get("charge"))
    withdrawn = -sum(entry["amount"] for entry in read.transactions if entry["amount"] < 0)
    returned = sum(entry["amount"] for entry in read.transactions if entry["amount"] > 0)
    news.balance(organization.pk)
    if withdrawn:
        _withdraw(row, charge_id, withdrawn)
    if returned:
        if returned != withdrawn:
            raise NotBooked(
                f"{name}: {dollars(withdrawn)} was taken and {dollars(returned)} returned. Correct it by hand."
            )
        _give_back(row, charge_id, returned)


def parts(row: Dispute, charge_id: str, total_cents: int) -> tuple[int, int]:
    """Credit and tax in the disputed amount: in proportion to the payment, the tax rounded down.

    What was paid for a plan is taken from credit too: its month was used, or is about to be.
    """
    if row.top_up is None:
        return refunds.plan_split(charge_id, total_cents)
    tax = total_cents * row.top_up.tax_cents // row.top_up.total_cents
    return total_cents - tax, tax


def _withdraw(row: Dispute, charge_id: str, total_cents: int) -> None:
    credit, tax = parts(row, charge_id, total_cents)
    AutomaticTopUp.objects.select_for_update().filter(organization=row.organization).first()  # before the account
    _post(row, "disputes", "stripe_clearing", credit, "clearing")
    _post(row, "tax", "stripe_clearing", tax, "tax")
    first = ledger.claw_back(
        organization=row.organization,
        microusd=microusd(credit),
        key=f"dispute:{row.stripe_id}:out",
        reason="Payment disputed",
        actor=top_ups.ACTOR,
        to="disputes",
    )
    if first:
        attempts.stop(row.organization, gettext_noop("A payment by card was disputed."))
        context = {"dispute": row, "amount": dollars(total_cents)}
        mail.to_payers(row.organization, "dispute", **context)
        mail.to_staff("staff_dispute", organization=row.organization, **context)


def _give_back(row: Dispute, charge_id: str, total_cents: int) -> None:
    credit, tax = parts(row, charge_id, total_cents)
    _post(row, "stripe_clearing", "disputes", credit, "reinstated")
    _post(row, "stripe_clearing", "tax", tax, "tax:back")
    ledger.deposit(
        organization=row.organization,
        microusd=microusd(credit),
        key=f"dispute:{row.stripe_id}:back",
        reason="Dispute won",
        actor=top_ups.ACTOR,
        source="disputes",
    )


def _post(row: Dispute, debit: str, credit: str, amount: int, step: str) -> None:
    if amount:
        ledger.post(
            organization=row.organization,
            debit=debit,
            credit=credit,
            microusd=microusd(amount),
            key=f"dispute:{row.stripe_id}:{step}",
            reason=f"Dispute {row.stripe_id}",
            actor=top_ups.ACTOR,
        )


def warn(payment: top_ups.Payment) -> None:
    """An early fraud warning: the card is asked for nothing more, and staff decide on a refund. Nothing else is frozen."""
    top_up = top_ups.book(payment)
    attempts.stop(top_up.organization, gettext_noop("The card network warned of fraud with the saved card."))
    mail.to_staff(
        "staff_fraud_warning", organization=top_up.organization, top_up=top_up, amount=dollars(top_up.total_cents)
    )
