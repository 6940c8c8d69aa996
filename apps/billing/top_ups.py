"""Credit that is bought: a payment is started here, and booked when Stripe has it, whichever event says so first."""

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import stripe
from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext, gettext_noop

from apps.accounts import audit
from apps.accounts.models import Organization, User
from apps.billing import attempts, customers, invoices, news
from apps.billing.amounts import dollars, microusd, top_up_cents
from apps.billing.booking import NotBooked
from apps.billing.client import PaymentsAway, client, identifier, plain
from apps.billing.models import TopUp
from apps.core.ids import uuid7
from apps.ledger import services as ledger

log = logging.getLogger(__name__)

ACTOR = "stripe"
OPEN_FOR = timedelta(hours=12)  # a checkout page; Stripe allows 30 minutes to 24 hours
EXPAND = ["latest_charge.balance_transaction"]


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment for credit as Stripe has it now. `intent` is None while a checkout page was not paid."""

    intent: dict[str, Any] | None
    session: dict[str, Any] | None
    invoice: dict[str, Any] | None

    @property
    def metadata(self) -> dict[str, str]:
        return (self.intent or {}).get("metadata") or (self.session or {}).get("metadata") or {}

    @property
    def name(self) -> str:
        return str((self.intent or self.session or {}).get("id"))


def start(
    *,
    organization: Organization,
    actor: User | None,
    amount: object,
    success_url: str,
    cancel_url: str,
    currency: str = "usd",
    save_card: bool = False,
    top_up_id: UUID | None = None,
) -> TopUp:
    """Open Stripe's checkout page for this much credit: the row with its `checkout_url`.

    With `top_up_id`, the id on a form, a second call raises IntegrityError.

    `amount` is USD as text or Decimal. `{top_up}` in the URLs becomes the row's public id. Raises InvalidRequest naming
    the field, and PaymentsAway; then no page is open and nothing can be paid.
    """
    amount_cents = top_up_cents(amount, currency=currency)
    customer = customers.ensure(organization=organization, email=customers.email_of(organization, actor))
    row = TopUp.objects.create(
        id=top_up_id or uuid7(),
        organization=organization,
        source=TopUp.Source.CHECKOUT,
        amount_cents=amount_cents,
        created_by=actor,
    )
    metadata = {"organization": str(organization.pk), "top_up": str(row.pk)}
    intent: dict[str, Any] = {"metadata": metadata, "capture_method": "automatic"}  # its fee is then known at once
    if save_card:
        intent["setup_future_usage"] = "off_session"
    params: Any = {
        "mode": "payment",
        "customer": customer.stripe_id,
        "customer_update": {"name": "auto", "address": "auto"},
        "client_reference_id": str(row.pk),
        "metadata": metadata,
        "line_items": [
            {
                "quantity": 1,
                "price_data": {
                    "currency": "usd",
                    "unit_amount": amount_cents,
                    "tax_behavior": "exclusive",
                    "product_data": {"name": "Prepaid credit"},
                },
            }
        ],
        "payment_intent_data": intent,
        "invoice_creation": {"enabled": True, "invoice_data": {"metadata": metadata}},
        "tax_id_collection": {"enabled": True},
        "billing_address_collection": "required",
        "automatic_tax": {"enabled": settings.STRIPE_TAX},
        "expires_at": int((row.created_at + OPEN_FOR).timestamp()),
        "success_url": success_url.replace("{top_up}", row.public_id),
        "cancel_url": cancel_url.replace("{top_up}", row.public_id),
    }
    try:
        session = client().v1.checkout.sessions.create(params, {"idempotency_key": str(row.pk)})
    except stripe.StripeError as error:
        log.exception("checkout not opened", extra={"top_up": str(row.pk)})
        row.state, row.ended_at = TopUp.State.FAILED, timezone.now()
        row.failure = gettext_noop("The payment page could not be opened.")
        row.save(update_fields=["state", "ended_at", "failure"])
        raise PaymentsAway(gettext("The payment page could not be opened. Nothing was charged. Try again.")) from error
    row.checkout_session_id, row.checkout_url = session.id, session.url or ""
    row.save(update_fields=["checkout_session_id", "checkout_url"])
    return row


def end_abandoned() -> None:
    """Rows whose payment page was never known to us, as a process died there: nobody can pay them any more.

    A payment that came all the same counts, whatever the row says.
    """
    TopUp.objects.filter(
        source=TopUp.Source.CHECKOUT,
        state=TopUp.State.OPEN,
        checkout_session_id__isnull=True,
        created_at__lte=timezone.now() - OPEN_FOR - timedelta(hours=1),
    ).update(state=TopUp.State.EXPIRED, ended_at=timezone.now())


def read_session(session_id: str) -> Payment | None:
    """A checkout session with its payment; None where it is not for credit."""
    session = plain(client().v1.checkout.sessions.retrieve(session_id))
    if session.get("mode") != "payment" or not ours(session):
        return None
    intent_id = identifier(session.get("payment_intent"))
    return _with_invoice(read_intent(intent_id) if intent_id else None, session)


def read_payment(intent_id: str) -> Payment | None:
    """A payment with its checkout session, if that is known; None where it is not for credit."""
    return payment_of(read_intent(intent_id))


def payment_of(intent: dict[str, Any]) -> Payment | None:
    if not ours(intent):
        return None
    row = TopUp.objects.filter(pk=uuid(intent["metadata"].get("top_up"))).first()
    if row is None or not row.checkout_session_id:
        return Payment(intent, None, None)
    return _with_invoice(intent, plain(client().v1.checkout.sessions.retrieve(row.checkout_session_id)))


def read_intent(intent_id: str) -> dict[str, Any]:
    return plain(client().v1.payment_intents.retrieve(intent_id, {"expand": EXPAND}))


def _with_invoice(intent: dict[str, Any] | None, session: dict[str, Any]) -> Payment:
    invoice_id = identifier(session.get("invoice"))
    return Payment(intent, session, invoices.read(invoice_id) if invoice_id else None)


def ours(thing: dict[str, Any]) -> bool:
    """Whether a payment says that it is for credit, be it rightly or not."""
    return bool({"organization", "top_up"} & set(thing.get("metadata") or {}))


def uuid(text: object) -> UUID:
    """The id that a text is; of any other text the nil UUID, which no row has."""
    try:
        return UUID(str(text))
    except ValueError:
        return UUID(int=0)


def book(payment: Payment, *, refused: bool = False) -> TopUp:
    """Write what became of a payment: credit it once, or end the top-up. In the caller's transaction.

    A late success counts whatever the row says. Raises NotBooked where amount, currency or owner differ from our row.
    Locks the invoice, the top-up, the automatic top-up, then the account.
    """
    named = TopUp.objects.select_related("organization").filter(pk=uuid(payment.metadata.get("top_up"))).first()
    document = None
    if named is not None and payment.invoice:
        document = invoices.remember(organization=named.organization, read=payment.invoice)
    row = _row(payment)
    row.invoice = document or row.invoice
    intent, session = payment.intent, payment.session
    if row.checkout_session_id is None and session is not None:
        row.checkout_session_id = session["id"]
        row.save(update_fields=["checkout_session_id"])
    if intent is not None and intent["status"] == "succeeded":
        _credit(row, payment)
    elif row.state == TopUp.State.OPEN:
        if intent is not None and row.payment_intent_id is None:
            row.payment_intent_id = intent["id"]
            row.save(update_fields=["payment_intent_id"])
        if row.source == TopUp.Source.AUTOMATIC:
            _automatic(row, intent or {})
        elif refused:
            _end(row, TopUp.State.FAILED, refusal(intent or {}))
        elif session is not None and session.get("status") == "expired":
            _end(row, TopUp.State.EXPIRED, "")
        elif intent is not None and intent["status"] == "requires_payment_method" and intent.get("last_payment_error"):
            row.failure = refusal(intent)  # the page is open: another card may do
            row.save(update_fields=["failure"])
    return row


def _row(payment: Payment) -> TopUp:
    """The locked row that the payment names. Raises NotBooked."""
    named = payment.metadata.get("top_up", "")
    row = TopUp.objects.select_for_update().filter(pk=uuid(named)).first()
    what = f"Payment {payment.name}"
    if payment.intent:
        what += f" of {payment.intent['amount']} {payment.intent['currency']} cents ({payment.intent['status']})"
    if row is None:
        raise NotBooked(f"{what} names top-up {named or 'none'}, which we do not have. Nothing was credited.")
    if payment.metadata.get("organization") != str(row.organization_id):
        raise NotBooked(f"{what} names another organization than top-up {row.pk}. Nothing was credited.")
    known = row.payment_intent_id
    if payment.intent and known and known != payment.intent["id"]:
        raise NotBooked(f"{what} is a second payment for top-up {row.pk}, after {known}. Nothing was credited.")
    if payment.session and row.checkout_session_id not in (None, payment.session["id"]):
        raise NotBooked(f"{what} came by another checkout session than top-up {row.pk}. Nothing was credited.")
    return row


def _credit(row: TopUp, payment: Payment) -> None:
    intent, session = payment.intent or {}, payment.session
    name, received, tax = intent["id"], intent["amount_received"], 0
    if intent["currency"] != "usd":
        raise NotBooked(f"{name} was paid in {intent['currency']}, top-up {row.pk} is in usd. Nothing was credited.")
    if session is not None:
        if session.get("payment_status") != "paid":
            raise NotBooked(f"{name} succeeded, but its session is {session.get('payment_status')}. Tried again later.")
        tax = (session.get("total_details") or {}).get("amount_tax") or 0
    if received != row.amount_cents + tax or tax < 0:
        held = f"{dollars(received)} with {dollars(tax)} of tax"
        raise NotBooked(f"{name}: Stripe holds {held}, top-up {row.pk} is {dollars(row.amount_cents)}. Not credited.")
    charge = intent.get("latest_charge")
    charge = charge if isinstance(charge, dict) else {"id": charge}
    fee = book_fee(row.organization, charge.get("balance_transaction"))
    first = row.state != TopUp.State.PAID
    row.state, row.failure, row.tax_cents = TopUp.State.PAID, "", tax
    row.payment_intent_id, row.charge_id = name, charge["id"]
    row.fee_cents = fee or row.fee_cents
    row.receipt_url = (charge.get("receipt_url") or "")[:500]
    row.ended_at = row.ended_at if not first and row.ended_at else timezone.now()
    row.save()
    if first:
        attempts.succeeded(row)
        audit.record(
            organization=row.organization,
            actor=row.created_by,
            action="credit.bought",
            target=row.public_id,
            data={"amount_cents": row.amount_cents, "source": row.source},
        )
        news.top_up(row)
    if tax:
        ledger.post(
            organization=row.organization,
            debit="stripe_clearing",
            credit="tax",
            microusd=microusd(tax),
            key=f"tax:{name}",
            reason=f"Tax of top-up {row.public_id}",
            actor=ACTOR,
        )
    if first:  # last: it locks the account. Not to be repeated: a dispute's booking locks more rows after this
        ledger.deposit(
            organization=row.organization,
            microusd=microusd(row.amount_cents),
            key=f"topup:{name}",
            reason=f"Top-up {row.public_id}",
            actor=ACTOR,
        )


def book_fee(organization: Organization, transaction: Any) -> int:
    """Book what Stripe kept of one of its balance transactions, once; negative where it gave a fee back. In cents.

    0 where the transaction is not there yet: `fees.read` comes for it.
    """
    if not isinstance(transaction, dict):
        return 0
    if transaction["currency"] != "usd":
        raise NotBooked(
            f"{transaction['id']} is in {transaction['currency']}: the Stripe account has to settle in usd."
        )
    fee = int(transaction["fee"])
    if fee:
        debit, credit = ("fees", "stripe_clearing") if fee > 0 else ("stripe_clearing", "fees")
        ledger.post(
            organization=organization,
            debit=debit,
            credit=credit,
            microusd=microusd(abs(fee)),
            key=f"fee:{transaction['id']}",
            reason="Fee of Stripe",
            actor=ACTOR,
        )
    return fee


def _automatic(row: TopUp, intent: dict[str, Any]) -> None:
    status = intent.get("status")
    if status == "requires_action":
        attempts.failed(row, AUTHENTICATION, authentication=True)
    elif status in ("requires_payment_method", "canceled"):
        code = (intent.get("last_payment_error") or {}).get("code")
        attempts.failed(row, refusal(intent), authentication=code == "authentication_required")


AUTHENTICATION = gettext_noop("The bank asks the cardholder to confirm the payment.")


def refusal(intent: dict[str, Any]) -> str:
    """Why a payment failed, in Stripe's words for cardholders."""
    error = intent.get("last_payment_error") or {}
    if error.get("code") == "authentication_required":
        return AUTHENTICATION
    return str(error.get("message") or gettext_noop("The payment did not go through."))[:300]


def _end(row: TopUp, state: TopUp.State, failure: str) -> None:
    row.state, row.failure, row.ended_at = state, failure, timezone.now()
    row.save(update_fields=["state", "failure", "ended_at"])
    news.top_up(row)
