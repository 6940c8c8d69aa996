"""Automatic top-up: the saved card is asked when the balance is low, once at a time, up to a ceiling a UTC month."""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import stripe
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, Sum
from django.utils import timezone
from django.utils.translation import gettext, gettext_noop

from apps.accounts import audit
from apps.accounts.models import Organization, User
from apps.billing import attempts, customers, mail, top_ups
from apps.billing.amounts import cents, dollars, microusd, top_up_cents
from apps.billing.booking import NotBooked
from apps.billing.client import PaymentsAway, Refused, client, plain
from apps.billing.models import AutomaticTopUp, Customer, Dispute, TopUp
from apps.core.errors import InvalidRequest, PortalError
from apps.ledger import services as ledger

log = logging.getLogger(__name__)

MOST = 100  # organizations a tick
ANSWER_WITHIN = timedelta(minutes=1)
LISTED_WITHIN = timedelta(minutes=10)  # a payment that was made is among Stripe's events by then
KEY_LIVES = timedelta(
    hours=23
)  # Stripe may forget an idempotency key after 24: docs.stripe.com/api/idempotent_requests
COUNTED = Q(state__in=[TopUp.State.OPEN, TopUp.State.PAID])


class NotOffered(PortalError):
    """Automatic top-up cannot be switched on now. Nothing was changed."""

    code, status = "automatic_top_up_not_offered", 409


class NoCard(NotOffered):
    code = "no_saved_card"


def configure(
    *, organization: Organization, actor: User, threshold: object, amount: object, monthly_ceiling: object
) -> AutomaticTopUp:
    """Switch it on, or change it. Amounts are USD as text or Decimal. What failed before is forgotten.

    Raises InvalidRequest naming `threshold`, `amount` or `monthly_ceiling`; NoCard; NotOffered; PaymentsAway.
    """
    threshold_cents = cents(threshold, param="threshold")
    amount_cents = top_up_cents(amount)
    ceiling_cents = cents(monthly_ceiling, param="monthly_ceiling")
    if threshold_cents > settings.TOP_UP_MAX_CENTS:
        raise InvalidRequest(
            gettext("The largest is %(most)s.") % {"most": dollars(settings.TOP_UP_MAX_CENTS)}, param="threshold"
        )
    if ceiling_cents < amount_cents:
        raise InvalidRequest(
            gettext("The ceiling is below the amount, so nothing would be bought."), param="monthly_ceiling"
        )
    if ceiling_cents > 100 * settings.TOP_UP_MAX_CENTS:
        raise InvalidRequest(gettext("The ceiling is too large."), param="monthly_ceiling")
    if settings.STRIPE_TAX:
        raise NotOffered(gettext("Tax is added to payments here, which needs the payment page: add credit by hand."))
    if Dispute.objects.filter(organization=organization, state=Dispute.State.OPEN).exists():
        raise NotOffered(gettext("A payment is disputed. Automatic top-up can be switched on when that has ended."))
    customer = Customer.objects.filter(organization=organization).first()
    try:
        card = customers.saved_card(customer.stripe_id) if customer else None
    except stripe.StripeError as error:
        raise PaymentsAway(gettext("The payment service did not answer. Nothing was changed. Try again.")) from error
    if card is None:
        raise NoCard(gettext("There is no saved card. Add credit once with “save this card”, then switch it on."))
    with transaction.atomic():
        row, _ = AutomaticTopUp.objects.update_or_create(
            organization=organization,
            defaults={
                "enabled": True,
                "threshold_microusd": microusd(threshold_cents),
                "amount_cents": amount_cents,
                "monthly_ceiling_cents": ceiling_cents,
                "failures": 0,
                "next_try_at": None,
                "needs_authentication": False,
                "stopped_reason": "",
            },
        )
        audit.record(
            organization=organization,
            actor=actor,
            action="automatic_top_up.changed",
            target=organization.public_id,
            data={"threshold_cents": threshold_cents, "amount_cents": amount_cents, "ceiling_cents": ceiling_cents},
        )
    return row


@transaction.atomic
def switch_off(*, organization: Organization, actor: User) -> None:
    """A member's decision. A payment on its way still arrives. A second call changes nothing."""
    changed = AutomaticTopUp.objects.filter(organization=organization, enabled=True).update(
        enabled=False, stopped_reason="", needs_authentication=False, next_try_at=None
    )
    if changed:
        audit.record(
            organization=organization,
            actor=actor,
            action="automatic_top_up.switched_off",
            target=organization.public_id,
        )


def run() -> None:
    """Start what is due: the balance is below the threshold, nothing is on its way, no pause is on."""
    in_flight = TopUp.objects.filter(source=TopUp.Source.AUTOMATIC, state=TopUp.State.OPEN)
    low = (
        AutomaticTopUp.objects.filter(Q(next_try_at__isnull=True) | Q(next_try_at__lte=timezone.now()), enabled=True)
        .exclude(organization__in=in_flight.values("organization"))
        .annotate(
            available=F("organization__account__credit_microusd") + F("organization__account__promotional_microusd")
        )
        .select_related("organization")
        .order_by("next_try_at")
    )
    # Expired grants are in that sum until they are swept, within the minute.
    for found in low.filter(available__lt=F("threshold_microusd"))[:MOST]:
        row = begin(found.organization)
        if row is not None:
            ask(row)


@transaction.atomic
def begin(organization: Organization) -> TopUp | None:
    """The row of a payment about to be asked for. None where it is not due, or the month's ceiling is reached.

    Locks the settings; the unique index on open automatic top-ups is the last line against two.
    """
    now = timezone.now()
    rule = (
        AutomaticTopUp.objects.select_for_update(skip_locked=True)
        .filter(Q(next_try_at__isnull=True) | Q(next_try_at__lte=now), organization=organization, enabled=True)
        .first()
    )
    if rule is None or ledger.balance(organization.pk).available_microusd >= rule.threshold_microusd:
        return None
    automatic = TopUp.objects.filter(organization=organization, source=TopUp.Source.AUTOMATIC)
    if automatic.filter(state=TopUp.State.OPEN).exists():
        return None
    if spent_cents(organization, now) + rule.amount_cents > rule.monthly_ceiling_cents:
        rule.next_try_at = next_month(now)
        rule.save(update_fields=["next_try_at", "updated_at"])
        mail.to_payers(organization, "automatic_ceiling", settings=rule)
        return None
    return TopUp.objects.create(
        organization=organization, source=TopUp.Source.AUTOMATIC, amount_cents=rule.amount_cents
    )


def spent_cents(organization: Organization, now: datetime) -> int:
    """Automatic top-ups of this UTC month, paid or on their way."""
    month = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    found = TopUp.objects.filter(
        COUNTED, organization=organization, source=TopUp.Source.AUTOMATIC, created_at__gte=month
    ).aggregate(sum=Sum("amount_cents"))
    return int(found["sum"] or 0)


def next_month(now: datetime) -> datetime:
    first = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + timedelta(days=32)).replace(day=1)


def ask(row: TopUp) -> None:
    """Ask for the payment of an open row. The answer credits nothing: the event does. No answer is asked for again."""
    metadata = {"organization": str(row.organization_id), "top_up": str(row.pk), "automatic": "1"}
    try:
        customer = Customer.objects.get(organization=row.organization_id)
        card = customers.saved_card(customer.stripe_id)
        if card is None:
            with transaction.atomic():
                attempts.failed(row, gettext_noop("There is no saved card any more."))
                attempts.stop(row.organization, gettext_noop("There is no saved card any more."))
            return
        params: Any = {
            "amount": row.amount_cents,
            "currency": "usd",
            "customer": customer.stripe_id,
            "payment_method": card,
            "off_session": True,
            "confirm": True,
            "capture_method": "automatic",
            "description": "Prepaid credit",
            "metadata": metadata,
        }
        made = client().v1.payment_intents.create(params, {"idempotency_key": str(row.pk)})
    except Refused as error:
        refused(row, error)
    except stripe.StripeError as error:
        log.warning("automatic top-up not answered", extra={"top_up": str(row.pk), "reason": type(error).__name__})
    else:
        TopUp.objects.filter(pk=row.pk, payment_intent_id__isnull=True).update(payment_intent_id=made.id)


def refused(row: TopUp, error: stripe.CardError | stripe.InvalidRequestError) -> None:
    """The bank or Stripe said no. Its event says it again and is then no news."""
    body = error.json_body.get("error", {}) if isinstance(error.json_body, dict) else {}
    intent = body.get("payment_intent") or {}
    if isinstance(error, stripe.CardError):
        reason = top_ups.refusal({"last_payment_error": {"code": error.code, "message": error.user_message}})
    else:
        log.error("automatic top-up refused by Stripe", extra={"top_up": str(row.pk), "code": error.code})
        reason = gettext_noop("The payment service refused the saved card.")
    with transaction.atomic():
        if intent.get("id"):
            TopUp.objects.filter(pk=row.pk, payment_intent_id__isnull=True).update(payment_intent_id=intent["id"])
        attempts.failed(row, reason, authentication=error.code == "authentication_required")


def ask_again() -> None:
    """Payments that were asked for without an answer: the same key finds out, and once Stripe may have forgotten it, or
    where automatic top-up was switched off since, its list of events does. Nothing is sent a second time blindly."""
    now = timezone.now()
    rows = (
        TopUp.objects.filter(
            source=TopUp.Source.AUTOMATIC,
            state=TopUp.State.OPEN,
            payment_intent_id__isnull=True,
            created_at__lte=now - ANSWER_WITHIN,
        )
        .select_related("organization")
        .annotate(wanted=F("organization__automatic_top_up__enabled"))
    )
    for row in rows:
        if row.wanted and row.created_at > now - KEY_LIVES:
            ask(row)
        elif row.created_at < now - (KEY_LIVES + timedelta(hours=2) if row.wanted else LISTED_WITHIN):
            try:
                search(row)
            except (stripe.StripeError, NotBooked):
                log.exception("automatic top-up not found out", extra={"top_up": str(row.pk)})


def search(row: TopUp) -> None:
    """Find the payment of a row among Stripe's events, or end the row: then no payment was ever made."""
    events = client().v1.events.list(
        {
            "created": {"gte": int((row.created_at - timedelta(minutes=10)).timestamp())},
            "types": ["payment_intent.succeeded", "payment_intent.payment_failed", "payment_intent.requires_action"],
            "limit": 100,
        }
    )
    for event in events.auto_paging_iter():
        intent = plain(event)["data"]["object"]
        if (intent.get("metadata") or {}).get("top_up") == str(row.pk):
            payment = top_ups.read_payment(intent["id"])
            if payment is not None:
                with transaction.atomic():
                    top_ups.book(payment)
            return
    with transaction.atomic():
        attempts.failed(row, gettext_noop("The payment service did not answer. Nothing was charged."))
