"""What the Billing page shows: reads of one organization's payments, documents and warnings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar
from uuid import UUID

from django.conf import settings
from django.db.models import Model, Prefetch, Q, QuerySet
from django.utils import timezone

from apps.accounts.models import Organization
from apps.billing import entitlements, refunds
from apps.billing.automatic import spent_cents
from apps.billing.entitlements import Entitlement
from apps.billing.models import AutomaticTopUp, Invoice, Plan, Refund, Subscription, TopUp
from apps.core.ids import parse, public
from apps.core.money import MICROUSD_PER_CENT
from apps.ledger import services as ledger
from apps.ledger.models import Transfer
from cango_portal import database

SIZE = 12
ROW = TypeVar("ROW", bound=Model)


@dataclass(frozen=True, slots=True)
class Page(Generic[ROW]):
    """Newest first. `older` is what the next page begins after, or empty at the end."""

    rows: list[ROW]
    older: str


@dataclass(frozen=True, slots=True)
class Automatic:
    """Automatic top-up as it stands."""

    rule: AutomaticTopUp
    spent_cents: int

    @property
    def threshold_cents(self) -> int:
        return self.rule.threshold_microusd // MICROUSD_PER_CENT

    @property
    def at_ceiling(self) -> bool:
        return self.rule.enabled and self.spent_cents + self.rule.amount_cents > self.rule.monthly_ceiling_cents


@dataclass(frozen=True, slots=True)
class Standing:
    """The plan in force, and the subscription behind it; `grace_ends_at` is set while its payment is overdue."""

    entitlement: Entitlement
    subscription: Subscription | None
    grace_ends_at: datetime | None

    @property
    def plan(self) -> Plan | None:
        return self.subscription.plan if self.subscription else None


def automatic(organization: Organization) -> Automatic | None:
    rule = AutomaticTopUp.objects.filter(organization=organization).first()
    return Automatic(rule, spent_cents(organization, timezone.now())) if rule else None


def standing(organization: Organization) -> Standing:
    now = timezone.now()
    subscription = (
        Subscription.objects.select_related("plan", "kept_plan")
        .filter(organization=organization)
        .exclude(state=Subscription.State.ENDED)
        .first()
    )
    overdue = subscription.past_due_since if subscription else None
    ends_at = overdue + timedelta(days=settings.SUBSCRIPTION_GRACE_DAYS) if overdue else None
    return Standing(database.run(entitlements.of(organization.pk, now)), subscription, ends_at)


def plans_on_offer() -> list[Plan]:
    return list(Plan.objects.filter(listed=True))


def top_ups_of(organization: Organization) -> QuerySet[TopUp]:
    given = Refund.objects.order_by("-created_at")
    return (
        TopUp.objects.filter(organization=organization)
        .select_related("invoice", "created_by")
        .prefetch_related(Prefetch("refunds", given), "disputes")
        .order_by("-pk")
    )


def top_ups(organization: Organization, *, after: str = "", size: int = SIZE) -> Page[TopUp]:
    """Payments; a checkout page that nobody paid is not one."""
    found = top_ups_of(organization).exclude(state=TopUp.State.EXPIRED)
    last = parse("topup", after)
    rows = list((found.filter(pk__lt=last) if last else found)[: size + 1])
    return Page(rows[:size], rows[size - 1].public_id if len(rows) > size else "")


def top_up_of(organization: Organization, public_id: str) -> TopUp | None:
    """The organization's own; another's is None, as one that never was."""
    pk = parse("topup", public_id)
    return top_ups_of(organization).filter(pk=pk).first() if pk else None


def refundable_since() -> datetime:
    """Payments that ended earlier are past the window."""
    return timezone.now() - timedelta(days=settings.REFUND_DAYS)


def may_refund(rows: list[TopUp]) -> dict[UUID, int]:
    """What is refundable now of each payment, in cents."""
    since = refundable_since()
    recent = [row for row in rows if row.state == TopUp.State.PAID and row.ended_at and row.ended_at >= since]
    if not recent or ledger.balance(recent[0].organization_id).credit_microusd < MICROUSD_PER_CENT:
        return {}
    return {row.pk: refunds.refundable_cents(row) for row in recent}


def invoice_key(row: Invoice) -> str:
    """Its row's number as a public id of the usual shape."""
    return public("inv", UUID(int=row.pk))


def invoices_of(organization: Organization) -> QuerySet[Invoice]:
    """Documents, newest first; a draft is none yet."""
    return Invoice.objects.filter(organization=organization).exclude(state="draft").order_by("-issued_at", "-pk")


def invoice_of(organization: Organization, key: str) -> Invoice | None:
    pk = parse("inv", key)
    return invoices_of(organization).filter(pk=pk.int).first() if pk and pk.int < 1 << 63 else None


def invoices(
    organization: Organization,
    *,
    after: str = "",
    size: int = SIZE,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Page[Invoice]:
    """Issued from `since` to before `until`."""
    found = invoices_of(organization)
    found = found.filter(issued_at__gte=since) if since else found
    found = found.filter(issued_at__lt=until) if until else found
    last = invoice_of(organization, after)
    if last:
        older = Q(issued_at__lt=last.issued_at) | Q(issued_at=last.issued_at, pk__lt=last.pk)
        found = found.filter(older)
    rows = list(found[: size + 1])
    return Page(rows[:size], invoice_key(rows[size - 1]) if len(rows) > size else "")


def debt_of(top_up: TopUp) -> dict[str, int]:
    """What a payment paid of the organization's debt, and what is still owed, in micro-USD."""
    key = f"topup:{top_up.payment_intent_id}:repaid"
    repaid = Transfer.objects.filter(organization=top_up.organization_id, key=key).first()
    return {
        "repaid_microusd": repaid.amount_microusd if repaid else 0,
        "owed_microusd": ledger.balance(top_up.organization_id).receivable_microusd if repaid else 0,
    }
