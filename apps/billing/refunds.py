"""Unused credit goes back to the card: it leaves the balance before Stripe is asked, and returns if Stripe cannot."""

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import stripe
from django.conf import settings
from django.db import transaction
from django.db.models import Sum
from django.utils import timezone
from django.utils.translation import gettext, gettext_noop

from apps.accounts import audit
from apps.accounts.models import Organization, User
from apps.billing import customers, mail, news, top_ups
from apps.billing.amounts import cents, dollars, microusd
from apps.billing.booking import NotBooked
from apps.billing.client import Refused, client, identifier, plain
from apps.billing.models import Invoice, Refund, TopUp
from apps.core.errors import InvalidRequest, PortalError
from apps.core.ids import uuid7
from apps.core.money import MICROUSD_PER_CENT
from apps.ledger import services as ledger

log = logging.getLogger(__name__)

EXPAND = ["balance_transaction"]
ANSWER_WITHIN = timedelta(minutes=1)
KEY_LIVES = timedelta(hours=23)  # Stripe may forget an idempotency key after 24
STATES = {
    "pending": Refund.State.PENDING,
    "requires_action": Refund.State.PENDING,
    "succeeded": Refund.State.SUCCEEDED,
    "failed": Refund.State.FAILED,
    "canceled": Refund.State.FAILED,
}


class NotRefundable(PortalError):
    """This payment is not given back, or not that much of it. Nothing was moved."""

    code, status = "not_refundable", 409


@dataclass(frozen=True, slots=True)
class Read:
    """A refund as Stripe has it now, with the payment it is of; `payment` is None where that was for a plan."""

    refund: dict[str, Any]
    payment: top_ups.Payment | None
    organization: Organization | None


def remaining(top_up: TopUp) -> tuple[int, int]:
    """Credit and tax of a payment that were not given back yet, in cents."""
    given = top_up.refunds.exclude(state=Refund.State.FAILED).aggregate(
        amount=Sum("amount_cents"), tax=Sum("tax_cents")
    )
    return top_up.amount_cents - (given["amount"] or 0), top_up.tax_cents - (given["tax"] or 0)


def refundable_cents(top_up: TopUp, *, staff: bool = False) -> int:
    """What can be given back of a payment now: unused, paid for, within the window (which does not bind staff)."""
    if top_up.state != TopUp.State.PAID or top_up.ended_at is None:
        return 0
    if not staff and timezone.now() > top_up.ended_at + timedelta(days=settings.REFUND_DAYS):
        return 0
    if top_up.disputes.exists():  # Stripe refunds no charge that was disputed, whoever won
        return 0
    balance = ledger.balance(top_up.organization_id)
    if balance.receivable_microusd:
        return 0
    left, _ = remaining(top_up)
    return max(min(left, balance.credit_microusd // MICROUSD_PER_CENT), 0)


def request(
    *,
    top_up: TopUp,
    amount: object,
    actor: User,
    reason: str = "",
    staff: bool = False,
    refund_id: UUID | None = None,
) -> Refund:
    """Give unused credit of a payment back to its card, with its share of the tax. `amount` is USD as text or Decimal.

    The share is rounded down; the last refund of a payment returns the rest. Locks the top-up, then the account. Raises
    InvalidRequest naming `amount`, NotRefundable, or ledger.InsufficientCredit; then nothing was moved. Where Stripe does
    not answer the refund stays `pending` and is asked for again; where it refuses, the credit is back and it is `failed`.
    With `refund_id`, the id on a form, a second call raises IntegrityError.
    """
    amount_cents = cents(amount)
    with transaction.atomic():
        locked = TopUp.objects.select_for_update().get(pk=top_up.pk)
        most = refundable_cents(locked, staff=staff)
        if most == 0:
            raise NotRefundable(
                gettext(
                    "Nothing of this payment can be refunded: it is older than %(days)s days, spent, refunded or disputed. "
                    "Nothing was moved."
                )
                % {"days": settings.REFUND_DAYS}
            )
        if amount_cents > most:
            raise InvalidRequest(
                gettext("At most %(most)s of this payment is unused and can be refunded. Nothing was moved.")
                % {"most": dollars(most)},
                param="amount",
            )
        left, tax_left = remaining(locked)
        share = locked.tax_cents * amount_cents // locked.amount_cents
        row = Refund.objects.create(
            id=refund_id or uuid7(),
            organization=locked.organization,
            top_up=locked,
            amount_cents=amount_cents,
            tax_cents=tax_left if amount_cents == left else min(share, tax_left),
            reason=reason[:300],
            actor=actor,
        )
        audit.record(
            organization=locked.organization,
            actor=actor,
            action="refund.requested",
            target=locked.public_id,
            reason=reason,
            data={"amount_cents": row.amount_cents, "tax_cents": row.tax_cents},
        )
        news.balance(locked.organization_id)
        ledger.withdraw(
            organization=locked.organization,
            microusd=microusd(amount_cents),
            key=f"refund:{row.pk}",
            reason=f"Refund of top-up {locked.public_id}",
            actor=f"user:{actor.pk}",
        )
    send(row)
    row.refresh_from_db()
    return row


def send(row: Refund) -> None:
    """Ask Stripe for a refund that was taken from the balance. The same key asks again; no answer leaves it pending."""
    params: Any = {
        "payment_intent": row.top_up.payment_intent_id,
        "amount": row.total_cents,
        "reason": "requested_by_customer",
        "metadata": {
            "organization": str(row.organization_id),
            "top_up": str(row.top_up_id),
            "refund": str(row.pk),
        },
        "expand": EXPAND,
    }
    try:
        made = plain(client().v1.refunds.create(params, {"idempotency_key": str(row.pk)}))
    except Refused as error:
        log.error("refund refused by Stripe", extra={"refund": str(row.pk), "code": error.code})
        with transaction.atomic():
            fail(row, gettext_noop("The payment service refused it. Write to us with the payment's number."))
    except stripe.StripeError as error:
        log.warning("refund not answered", extra={"refund": str(row.pk), "reason": type(error).__name__})
    else:
        try:
            found = read_of(made)
            with transaction.atomic():
                book(found)
        except (stripe.StripeError, NotBooked):  # it was made: its event books it, or fails where staff see it
            log.exception("refund not booked", extra={"refund": str(row.pk)})


def fail(row: Refund, reason: str) -> bool:
    """The credit is back. False where that was done."""
    locked = Refund.objects.select_for_update().get(pk=row.pk)
    if locked.state == Refund.State.FAILED:
        return False
    locked.state, locked.failure, locked.ended_at = Refund.State.FAILED, reason[:300], timezone.now()
    locked.save(update_fields=["state", "failure", "ended_at"])
    mail.to_payers(locked.organization, "refund_failed", refund=locked, amount=dollars(locked.total_cents))
    news.balance(locked.organization_id)
    ledger.deposit(
        organization=locked.organization,
        microusd=microusd(locked.amount_cents),
        key=f"refund:{locked.pk}:back",
        reason="Refund failed",
        actor=top_ups.ACTOR,
        source="refunds",
    )
    return True


def read(refund_id: str) -> Read | None:
    """None where the payment is not ours."""
    found = read_of(plain(client().v1.refunds.retrieve(refund_id, {"expand": EXPAND})))
    return found if found.payment or found.organization else None


def read_of(refund: dict[str, Any]) -> Read:
    returned = identifier(refund.get("failure_balance_transaction"))
    if returned:
        refund["failure_balance_transaction"] = plain(client().v1.balance_transactions.retrieve(returned))
    intent_id = identifier(refund.get("payment_intent"))
    if not intent_id:
        return Read(refund, None, None)
    intent = top_ups.read_intent(intent_id)
    payment = top_ups.payment_of(intent)
    return Read(refund, payment, None if payment else customers.of(identifier(intent.get("customer"))))


def book(read: Read) -> None:
    """Write where a refund stands, by whoever made it. In the caller's transaction. Raises NotBooked.

    The payment is booked first, if its event is still on the way.
    """
    state = STATES.get(read.refund["status"], Refund.State.PENDING)
    if read.payment is None:
        if read.organization is not None:
            revenue, tax = plan_split(identifier(read.refund.get("charge")), read.refund["amount"])
            failed = state == Refund.State.FAILED
            _move(read.organization, read.refund, out={"revenue": revenue, "tax": tax}, failed=failed)
        return
    top_up = top_ups.book(read.payment)
    if top_up.state != TopUp.State.PAID:
        raise NotBooked(f"{read.refund['id']} is a refund of top-up {top_up.pk}, which is {top_up.state}.")
    row = _row(top_up, read.refund)
    if state == Refund.State.SUCCEEDED and row.state != state:
        if row.state == Refund.State.FAILED:  # we gave its credit back, and Stripe made it all the same
            _take_again(row)
        row.state, row.ended_at, row.failure = state, timezone.now(), ""
    row.stripe_id = read.refund["id"]
    row.save(update_fields=["state", "ended_at", "failure", "stripe_id"])
    out = {"refunds": row.amount_cents, "tax": row.tax_cents}
    _move(top_up.organization, read.refund, out=out, failed=state == Refund.State.FAILED)
    if state == Refund.State.FAILED:
        fail(row, FAILURES.get(read.refund.get("failure_reason") or "", gettext_noop("The bank could not take it.")))


def _take_again(row: Refund) -> None:
    log.error("a refund that had failed was made", extra={"refund": str(row.pk)})
    ledger.claw_back(
        organization=row.organization,
        microusd=microusd(row.amount_cents),
        key=f"refund:{row.pk}:again",
        reason="Refund made after all",
        actor=top_ups.ACTOR,
        to="refunds",
    )


FAILURES = {
    "expired_or_canceled_card": gettext_noop("The card has expired or was cancelled."),
    "lost_or_stolen_card": gettext_noop("The card was lost or stolen."),
    "declined": gettext_noop("The bank declined it."),
}


def _row(top_up: TopUp, refund: dict[str, Any]) -> Refund:
    """Our row of a refund; one made in Stripe's dashboard gets its row, and its credit is taken back, here."""
    rows = top_up.refunds.select_for_update()
    named = top_ups.uuid((refund.get("metadata") or {}).get("refund"))
    row = rows.filter(stripe_id=refund["id"]).first() or rows.filter(pk=named, stripe_id=None).first()
    if row is not None:
        if row.total_cents != refund["amount"]:
            raise NotBooked(f"{refund['id']} is of {dollars(refund['amount'])}, our row of {dollars(row.total_cents)}.")
        return row
    credit, tax = split(top_up, refund["amount"])
    row = Refund.objects.create(
        organization=top_up.organization,
        top_up=top_up,
        amount_cents=credit,
        tax_cents=tax,
        stripe_id=refund["id"],
        reason="Made in Stripe's dashboard",
    )
    news.balance(top_up.organization_id)
    ledger.claw_back(
        organization=top_up.organization,
        microusd=microusd(credit),
        key=f"refund:{row.pk}",
        reason=f"Refund of top-up {top_up.public_id}",
        actor=top_ups.ACTOR,
        to="refunds",
    )
    return row


def split(top_up: TopUp, total_cents: int) -> tuple[int, int]:
    """Credit and tax in a part of a payment that Stripe took back: in proportion, the tax rounded down."""
    left, tax_left = remaining(top_up)
    if total_cents == left + tax_left:
        return left, tax_left
    tax = min(total_cents * top_up.tax_cents // top_up.total_cents, tax_left)
    return total_cents - tax, tax


def plan_split(charge_id: str, total_cents: int) -> tuple[int, int]:
    """Revenue and tax in a part of a plan's payment, by its invoice. Raises NotBooked until that is booked."""
    invoice = Invoice.objects.filter(charge_id=charge_id).first() if charge_id else None
    if invoice is None or not invoice.total_cents:
        raise NotBooked(
            f"{charge_id or 'The payment'} is neither a top-up nor a paid invoice of ours. Nothing was booked."
        )
    tax = total_cents * invoice.tax_cents // invoice.total_cents
    return total_cents - tax, tax


def _move(organization: Organization, refund: dict[str, Any], *, out: dict[str, int], failed: bool) -> None:
    """What left Stripe's balance, by the account that bears it, and what came back to it."""
    name = refund["id"]
    keys = {"tax": f"refund:{name}:tax"}
    for account, amount in out.items():
        if not amount:
            continue
        key = keys.get(account, f"refund:{name}:out")
        steps = [(account, "stripe_clearing", key)]
        if failed:
            steps.append(("stripe_clearing", account, f"{key}:back"))
        for debit, credit, step in steps:
            ledger.post(
                organization=organization,
                debit=debit,
                credit=credit,
                microusd=microusd(amount),
                key=step,
                reason=f"Refund {name}",
                actor=top_ups.ACTOR,
            )
    for entry in (refund.get("balance_transaction"), refund.get("failure_balance_transaction")):
        top_ups.book_fee(organization, entry)


def ask_again() -> None:
    """Refunds that were asked for without an answer: by the same key, later by Stripe's list."""
    now = timezone.now()
    rows = Refund.objects.filter(
        state=Refund.State.PENDING, stripe_id__isnull=True, created_at__lte=now - ANSWER_WITHIN
    ).select_related("top_up", "organization")
    for row in rows:
        if row.created_at > now - KEY_LIVES:
            send(row)
        elif row.created_at < now - KEY_LIVES - timedelta(hours=2):
            try:
                search(row)
            except (stripe.StripeError, NotBooked):
                log.exception("refund not found out", extra={"refund": str(row.pk)})


def search(row: Refund) -> None:
    """Find a refund by what we wrote on it, or give its credit back: then it was never made."""
    made = client().v1.refunds.list({"payment_intent": str(row.top_up.payment_intent_id), "limit": 100})
    for refund in made.auto_paging_iter():
        if (plain(refund).get("metadata") or {}).get("refund") == str(row.pk):
            found = read(refund.id)
            if found is not None:
                with transaction.atomic():
                    book(found)
            return
    with transaction.atomic():
        fail(row, gettext_noop("The payment service did not answer."))
