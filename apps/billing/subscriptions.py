"""An organization's plan: changed and ended here, written as Stripe tells it.

A dearer plan begins at once and the rest of the month is paid at once, in proportion. A cheaper one is billed from the next
month on: nothing is paid back, and what was paid for stays until the month is over. A plan that is cancelled stays to the
end of its month. Credit that a month included ends with that month.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import stripe
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext

from apps.accounts import audit
from apps.accounts.models import Organization, User
from apps.billing import customers, invoices, news, plans, top_ups
from apps.billing.amounts import microusd
from apps.billing.booking import NotBooked
from apps.billing.client import PaymentsAway, client, identifier, plain
from apps.billing.models import Alert, Invoice, Plan, Subscription, TopUp
from apps.core.errors import InvalidRequest, PortalError
from apps.core.ids import uuid7
from apps.ledger import services as ledger
from apps.webhooks import services as webhooks

ACTOR = "stripe"
STATES = {
    "active": Subscription.State.ACTIVE,
    "trialing": Subscription.State.ACTIVE,
    "past_due": Subscription.State.PAST_DUE,
    "unpaid": Subscription.State.PAST_DUE,
    "paused": Subscription.State.PAST_DUE,
    "canceled": Subscription.State.ENDED,
    "incomplete_expired": Subscription.State.ENDED,
}  # "incomplete": the first payment is still to be made, and there is no plan yet
# The months' own invoices; one for a change in between includes no credit.
MONTHLY = ("subscription_create", "subscription_cycle")


class NoPlan(PortalError):
    code, status, retryable = "no_plan", 409, False


class NotPaid(PortalError):
    """The bank refused what the change costs: it is as if it had not been asked for."""

    code, status, retryable = "payment_failed", 402, False


def change(organization: Organization, plan: Plan, user: User | None) -> Subscription:
    """Change to another plan, and back on from a cancellation. See above for when it counts and what is paid.

    Raises NoPlan, InvalidRequest for a plan not on offer, NotPaid and PaymentsAway; then nothing has changed.
    """
    row = current(organization)
    if not plan.listed:
        raise InvalidRequest(gettext("This plan is not on offer any more. Nothing has changed."), param="plan")
    if row.plan_id == plan.pk and not row.cancel_at_period_end:
        return row
    paid_for = row.paid_plan(timezone.now())
    if paid_for.pk != row.plan_id and plan.price_cents > paid_for.price_cents:
        # Stripe would count the difference from the cheaper plan that comes, and not from the one that is paid.
        raise InvalidRequest(
            gettext(
                "This month is paid for %(paid)s, and %(next)s comes after it. Change back to %(paid)s first, which costs "
                "nothing, then to %(plan)s. Nothing has changed."
            )
            % {"paid": paid_for.title, "next": row.plan.title, "plan": plan.title},
            param="plan",
        )
    plans.publish(plan)
    params: Any = {
        "items": [{"id": row.stripe_item_id, "price": plan.stripe_price_id}],
        "cancel_at_period_end": False,
        "proration_behavior": "always_invoice" if plan.price_cents > paid_for.price_cents else "none",
        "payment_behavior": "error_if_incomplete",
        "metadata": {"organization": str(organization.pk), "plan": plan.code},
    }
    return _ask(row, params, actor=user, action="plan.changed", data={"from": row.plan.code, "to": plan.code})


def cancel(organization: Organization, user: User | None) -> Subscription:
    """End the plan with the month that is paid. Raises NoPlan and PaymentsAway."""
    row = current(organization)
    if row.cancel_at_period_end:
        return row
    return _ask(row, {"cancel_at_period_end": True}, actor=user, action="plan.cancelled")


def resume(organization: Organization, user: User | None) -> Subscription:
    """Take a cancellation back before the month is over. Raises NoPlan and PaymentsAway."""
    row = current(organization)
    if not row.cancel_at_period_end:
        return row
    return _ask(row, {"cancel_at_period_end": False}, actor=user, action="plan.resumed")


def current(organization: Organization) -> Subscription:
    found = (
        Subscription.objects.select_related("plan", "kept_plan", "organization")
        .filter(organization=organization)
        .exclude(state=Subscription.State.ENDED)
        .first()
    )
    if found is None:
        raise NoPlan(gettext("This organization has no plan: it pays as it goes. Nothing has changed."))
    return found


def _ask(
    row: Subscription, params: dict[str, Any], *, actor: User | None, action: str, data: dict[str, Any] | None = None
) -> Subscription:
    """Ask Stripe, and write its answer unless an event's handler has written meanwhile: that one has read later."""
    asked_at = timezone.now()
    try:
        answer: Any = params
        told = plain(client().v1.subscriptions.update(row.stripe_id, answer, {"idempotency_key": str(uuid7())}))
    except stripe.CardError as error:
        raise NotPaid(
            gettext(
                "The card was refused, so the plan stays as it is. Nothing was charged. Choose another card, then try again."
            )
        ) from error
    except stripe.StripeError as error:
        raise PaymentsAway(
            gettext("The payment service did not answer. If the change arrived, this page shows it in a minute.")
        ) from error
    with transaction.atomic():
        locked = Subscription.objects.select_for_update().get(pk=row.pk)
        if locked.stripe_id == row.stripe_id and locked.refreshed_at <= asked_at:
            book(Read(told, row.organization))
        audit.record(
            organization=row.organization, actor=actor, action=action, target=row.organization.public_id, data=data
        )
    return Subscription.objects.select_related("plan").get(pk=row.pk)


@dataclass(frozen=True, slots=True)
class Read:
    """A subscription as Stripe has it now."""

    subscription: dict[str, Any]
    organization: Organization


def read(stripe_id: str) -> Read | None:
    """None where the customer is not ours."""
    subscription = plain(client().v1.subscriptions.retrieve(stripe_id))
    organization = customers.of(identifier(subscription.get("customer")))
    return Read(subscription, organization) if organization else None


def book(read: Read) -> None:
    """Write an organization's plan. In the caller's transaction; any number of times, in any order, as it is read afresh.

    Raises NotBooked where the plan is not ours, or the organization has another one.
    """
    told, organization = read.subscription, read.organization
    state = STATES.get(told["status"])
    if state is None:
        return
    Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)  # the first row has none to lock
    row = Subscription.objects.select_related("plan", "kept_plan").filter(organization=organization).first()
    if row is not None and row.stripe_id != told["id"]:
        if state == Subscription.State.ENDED:
            return  # the end of one before
        if row.state != Subscription.State.ENDED:
            raise NotBooked(
                f"{told['id']} is a second plan of {organization.public_id}, beside {row.stripe_id}. "
                "Cancel one of them at Stripe and refund its payment."
            )
        row = None
    if row is None and state == Subscription.State.ENDED:
        return
    item = told["items"]["data"][0]
    plan = plan_of(item["price"])
    start, end = moment(item["current_period_start"]), moment(item["current_period_end"])
    kept_plan, kept_until = kept(row, plan, start)
    overdue = state == Subscription.State.PAST_DUE
    past_due_since = (row.past_due_since if row else None) or timezone.now()
    Subscription.objects.update_or_create(
        organization=organization,
        defaults={
            "plan": plan,
            "stripe_id": told["id"],
            "stripe_item_id": item["id"],
            "state": state,
            "period_start_at": start,
            "period_end_at": end,
            "cancel_at_period_end": bool(told.get("cancel_at_period_end")),
            "past_due_since": past_due_since if overdue else None,
            "kept_plan": kept_plan,
            "kept_until": kept_until,
        },
    )
    if overdue:
        Alert.objects.get_or_create(  # its mail is sent by the next look
            kind=Alert.Kind.PLAN, organization=organization, period="overdue", window=past_due_since.date()
        )
    news.balance(organization.pk)


def kept(row: Subscription | None, plan: Plan, start: datetime) -> tuple[Plan | None, datetime | None]:
    """The dearer plan whose month is paid, and when that month ends. `start` is when the month Stripe tells of began."""
    if row is None or row.state != Subscription.State.ACTIVE:
        return None, None
    kept_plan, until = row.kept_plan, row.kept_until
    if kept_plan is None and plan.price_cents < row.plan.price_cents:
        kept_plan, until = row.plan, row.period_end_at
    if kept_plan is None or until is None or until <= start or plan.price_cents >= kept_plan.price_cents:
        return None, None
    return kept_plan, until


def plan_of(price: dict[str, Any]) -> Plan:
    """By the price's id, or by its key where another price has taken the plan's since. Raises NotBooked."""
    found = Plan.objects.filter(stripe_price_id=price["id"]).first()
    code = (price.get("metadata") or {}).get("plan") or price.get("lookup_key")
    found = found or (Plan.objects.filter(code=code).first() if code else None)
    if found is None:
        raise NotBooked(f"{price['id']} is the price of no plan of ours.")
    return found


def moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@dataclass(frozen=True, slots=True)
class ReadInvoice:
    """An invoice as Stripe has it now, with the payment that settled it; `payment` is None where none did."""

    invoice: dict[str, Any]
    organization: Organization
    payment: dict[str, Any] | None
    subscription: dict[str, Any] | None


def read_invoice(stripe_id: str) -> ReadInvoice | None:
    """None where the customer is not ours."""
    invoice = plain(client().v1.invoices.retrieve(stripe_id, {"expand": ["payments"]}))
    organization = customers.of(identifier(invoice.get("customer")))
    if organization is None:
        return None
    settled = [entry for entry in (invoice.get("payments") or {}).get("data") or [] if entry.get("status") == "paid"]
    intent_id = identifier(settled[0]["payment"].get("payment_intent")) if settled else ""
    named = subscription_of(invoice)
    return ReadInvoice(
        invoice,
        organization,
        top_ups.read_intent(intent_id) if intent_id else None,
        plain(client().v1.subscriptions.retrieve(named)) if named and invoice["status"] == "paid" else None,
    )


def subscription_of(invoice: dict[str, Any]) -> str:
    """The id of the subscription an invoice is for, "" for one of a top-up."""
    parent = invoice.get("parent") or {}
    return identifier((parent.get("subscription_details") or {}).get("subscription"))


def book_invoice(read: ReadInvoice) -> None:
    """Keep an invoice; of a plan's that is paid, book the money and give the credit it includes, once.

    In the caller's transaction. A top-up's is only linked: its payment books itself. Raises NotBooked.
    """
    invoice, organization = read.invoice, read.organization
    row = invoices.remember(organization=organization, read=invoice)
    if not subscription_of(invoice):
        if read.payment:
            TopUp.objects.filter(payment_intent_id=read.payment["id"], invoice=None).update(invoice=row)
        return
    if invoice["status"] != "paid":
        return
    if invoice["currency"] != "usd":
        raise NotBooked(f"{invoice['id']} is in {invoice['currency']}, plans are sold in usd. Nothing was booked.")
    if invoice["amount_paid"]:
        book_payment(read, row)
    webhooks.notify(
        organization=organization,
        type="invoice.paid",
        data={"number": row.number, "total_cents": row.total_cents, "tax_cents": row.tax_cents},
        key=f"invoice:{invoice['id']}:paid",
    )
    if invoice.get("billing_reason") in MONTHLY:
        grant(read, row)


def book_payment(read: ReadInvoice, row: Invoice) -> None:
    """What Stripe holds of an invoice: revenue, tax, and its fee."""
    invoice, organization = read.invoice, read.organization
    charge = (read.payment or {}).get("latest_charge")
    if not isinstance(charge, dict):
        raise NotBooked(f"{invoice['id']} is paid, and its charge is not there yet. Tried again later.")
    settled = isinstance(charge.get("balance_transaction"), dict)
    fee = top_ups.book_fee(organization, charge.get("balance_transaction"))
    Invoice.objects.filter(pk=row.pk).update(charge_id=charge["id"], fee_cents=fee if settled else None)
    paid = invoice["amount_paid"]
    tax = min(max(row.tax_cents, 0), paid)
    for key, credit, amount in (("", "revenue", paid - tax), (":tax", "tax", tax)):
        if amount:
            ledger.post(
                organization=organization,
                debit="stripe_clearing",
                credit=credit,
                microusd=microusd(amount),
                key=f"invoice:{invoice['id']}{key}",
                reason=f"Invoice {row}",
                actor=ACTOR,
            )


def grant(read: ReadInvoice, row: Invoice) -> None:
    """The credit a paid month includes; it ends with the month."""
    line = monthly_line(read.invoice)
    price = ((line.get("pricing") or {}).get("price_details") or {}).get("price")
    price = price if isinstance(price, dict) else {"id": price}
    items = (read.subscription or {}).get("items") or {"data": []}
    known = [item["price"] for item in items["data"] if item["price"]["id"] == price["id"]]
    plan = plan_of(known[0] if known else price)
    if plan.included_microusd:
        ledger.grant(
            organization=read.organization,
            microusd=plan.included_microusd,
            key=f"plan:{read.invoice['id']}",
            reason=f"Included in the {plan.title} plan",
            actor=ACTOR,
            expires_at=moment(line["period"]["end"]),
        )


def monthly_line(invoice: dict[str, Any]) -> dict[str, Any]:
    """The line of the month itself: the last to end, and no part of a change before it. Raises NotBooked."""

    def proration(line: dict[str, Any]) -> bool:
        return bool(((line.get("parent") or {}).get("subscription_item_details") or {}).get("proration"))

    lines = [line for line in invoice["lines"]["data"] if not proration(line)]
    if not lines:
        raise NotBooked(f"{invoice['id']} is a plan's invoice without a month on it.")
    found: dict[str, Any] = max(lines, key=lambda line: line["period"]["end"])
    return found
